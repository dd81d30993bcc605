package policy

import "time"

// The limits that protect the host, where nobody says otherwise.
const (
	SizeMax    = 20 << 30   // bytes that one workload's generations may take on the disk
	WriteMax   = 20_000_000 // bytes that are written a second, averaged over an hour
	sizePart   = 4          // or this part of what was free when the workload was made
	sizeUnit   = 1 << 20    // to which that is rounded
	spacePart  = 20         // the part of the disk that stays free
	burst      = 10 * time.Minute
	average    = time.Hour
	writtenDay = 24 * time.Hour
)

// KeepSize is how many bytes the generations of a new workload may take on a
// disk where free bytes are free.
func KeepSize(free int64) int64 {
	return min(SizeMax, max(sizeUnit, free/sizePart/sizeUnit*sizeUnit))
}

// Room says whether a checkpoint may be taken on a disk of total bytes of which
// free are free. Of one that tells no size nothing is known.
func Room(free, total int64) bool { return free >= total/spacePart }

// Meter measures what is written. It is a bucket that fills with what is
// written and empties steadily; while it is full nothing more is begun. What
// limit allows for ten minutes fits in, and five sixths of limit flow out, so
// that in no hour more is written than limit allows, beside the checkpoint that
// made it flow over. The zero Meter is empty.
type Meter struct {
	level float64 // bytes
	at    time.Time
	days  []written // what was written in the last day, oldest first
}

// written is what was written in one minute.
type written struct {
	at    time.Time
	bytes int64
}

func (m Meter) levelAt(now time.Time, limit int64) float64 {
	rate := float64(limit) * float64(average-burst) / float64(average)
	return max(0, m.level-rate*max(0, now.Sub(m.at).Seconds()))
}

// Add notes that bytes were written just now, under a limit of bytes a second.
func (m Meter) Add(now time.Time, bytes, limit int64) Meter {
	days := []written{}
	for _, w := range m.days {
		if now.Sub(w.at) < writtenDay {
			days = append(days, w)
		}
	}
	if n := len(days); n > 0 && now.Sub(days[n-1].at) < time.Minute {
		days[n-1].bytes += bytes
	} else {
		days = append(days, written{now, bytes})
	}
	return Meter{level: m.levelAt(now, limit) + float64(bytes), at: now, days: days}
}

// Wait is how long nothing more may be begun. A limit of 0 or less is none.
func (m Meter) Wait(now time.Time, limit int64) time.Duration {
	if limit <= 0 {
		return 0
	}
	over := m.levelAt(now, limit) - float64(limit)*burst.Seconds()
	rate := float64(limit) * float64(average-burst) / float64(average)
	return time.Duration(max(0, over/rate) * float64(time.Second))
}

// Day returns how many bytes were written in the last day.
func (m Meter) Day(now time.Time) (bytes int64) {
	for _, w := range m.days {
		if now.Sub(w.at) < writtenDay {
			bytes += w.bytes
		}
	}
	return bytes
}

// Why says why a checkpoint is due later than an interval after the last one.
type Why string

// The reasons for which an interval is stretched.
const (
	AsAsked Why = ""         // it is not
	TooSlow Why = "slow"     // a checkpoint takes more than half of it
	Failing Why = "failures" // checkpoints fail
	TooMuch Why = "writes"   // more would be written than is allowed
	Pausing Why = "pause"    // files are read for longer than the program may stand still
)

// PauseBudget is how long a program may stand still for its files, where
// nobody says otherwise; pauseShare is how many times longer than it stands
// still it runs at least: no interval is stretched further than to that.
const (
	PauseBudget = 100 * time.Millisecond
	pauseShare  = 100
)

// Pause is how long a program stood still for its files, and how long it may.
type Pause struct{ Spent, Budget time.Duration }

// stretched is an interval in proportion to what a pause takes more than it may.
func (p Pause) stretched(every time.Duration) time.Duration {
	if p.Spent <= p.Budget || p.Budget <= 0 {
		return every
	}
	more := time.Duration(float64(every) * float64(p.Spent) / float64(p.Budget))
	return max(every, min(more, pauseShare*p.Spent))
}

// Pace returns when the next checkpoint is due after one that took from start
// to end, as NextCheckpoint does, but no sooner than after wait, and than its
// pause allows; and why then.
// There is never more than one under way, and none is made up for.
func Pace(start, end time.Time, every time.Duration, failures int, wait time.Duration, pause Pause) (time.Time, Why) {
	due, why := NextCheckpoint(start, end, every, failures), AsAsked
	switch {
	case due.After(start.Add(every)) && failures > 0:
		why = Failing
	case due.After(start.Add(every)):
		why = TooSlow
	}
	if least := start.Add(pause.stretched(every)); least.After(due) {
		due, why = least, Pausing
	}
	if least := end.Add(wait); least.After(due) {
		return least, TooMuch
	}
	return due, why
}
