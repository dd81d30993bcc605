// Package policy decides when the next checkpoint is due, which generations
// stay, what counts as a crash and which generation is tried next. It is pure: it has no clock and
// touches no disk; the same history always gives the same decision.
package policy

import "time"

// Limits of the rules.
const (
	probationMin   = 10 * time.Second // a restored state must outlive at least this
	checkpointRest = 60 * time.Second // longest pause between failing checkpoints
	freshRest      = 60 * time.Second // longest pause between fresh starts
	interruptsMax  = 3                // tries of one generation that were cut short from outside
	freshMax       = 8                // fresh starts in one incident
)

// strides are how many times as old as what died the next try may be, by how
// many have died. A search that has gone far goes faster: few faults are so old,
// and each try costs a probation.
var strides = []float64{2.5, 2.5, 2.5, 2.5, 2.5, 3.5, 5, 10}

// Generation is the number of a generation; 0 is none.
type Generation uint64

// End is how a command ended.
type End struct {
	Known  bool // false: nobody saw it
	Code   int  // exit code, when Signal is 0
	Signal int
}

// EndOf reads a wait status as wait(2) encodes it.
func EndOf(known bool, wait uint32) End {
	signal := int(wait & 0x7f)
	switch {
	case !known:
		return End{}
	case signal != 0 && signal != 0x7f:
		return End{Known: true, Signal: signal}
	}
	return End{Known: true, Code: int(wait >> 8 & 0xff)}
}

// The signals by which a program is asked to end (systemd.service(5), clean
// ends), and the one that nobody can answer.
const (
	sigHUP  = 1
	sigINT  = 2
	sigKILL = 9
	sigPIPE = 13
	sigTERM = 15
)

// Clean says that the command ended as it should: by itself with code 0, or
// because it was asked to. An end that nobody saw is clean, since to bring a
// program back that may have finished does harm.
func (e End) Clean() bool {
	switch e.Signal {
	case 0:
		return !e.Known || e.Code == 0
	case sigHUP, sigINT, sigPIPE, sigTERM:
		return true
	}
	return false
}

// Outside says that the end came from outside and proves nothing about the
// program's state: SIGKILL, by which operators, shutdowns and a kernel short
// of memory end programs.
func (e End) Outside() bool { return e.Signal == sigKILL }

// NextCheckpoint returns when the next checkpoint is due after one that took
// from start to end: an interval after its start, but never sooner than it
// took, so that at least half of the time is left to other things. After
// failures in a row the interval doubles each time, up to a minute.
func NextCheckpoint(start, end time.Time, every time.Duration, failures int) time.Time {
	rest := every
	for range failures {
		if rest >= checkpointRest {
			break
		}
		rest = min(2*rest, checkpointRest)
	}
	due := start.Add(rest)
	if least := end.Add(end.Sub(start)); least.After(due) {
		return least
	}
	return due
}

// Probation returns how long a state restored from a generation must live
// before it counts as sound: it must pass the moment at which its
// predecessor died.
func Probation(crashed, taken time.Time) time.Duration {
	return max(probationMin, 2*crashed.Sub(taken))
}
