package procfs

import (
	"bytes"
	"fmt"
	"math"
)

// A Sched is what the scheduler says of a thread. Times are nanoseconds, and -1
// where the kernel does not print them.
type Sched struct {
	// ExecStart is the clock of the thread's run queue when it was last seen
	// running: of a sleeping thread, when it fell asleep. That clock is close to
	// CLOCK_MONOTONIC, but differs between CPUs.
	ExecStart  int64
	SumRuntime int64 // time on a CPU
	Switches   int64 // -1: not printed
}

// ParseSched reads the text of /proc/PID/task/TID/sched.
//
// Source: proc(5); kernel/sched/debug.c, proc_sched_show_task.
func ParseSched(text []byte) (Sched, error) {
	s := Sched{ExecStart: -1, SumRuntime: -1, Switches: -1}
	// The name of the task comes first, whatever is in it, then a rule that is
	// longer than any name.
	_, text, ok := bytes.Cut(text, []byte("\n----------------------------------------------------------------"))
	if !ok {
		return Sched{}, fmt.Errorf("sched: %w", errShort)
	}
	for len(text) > 0 {
		var line []byte
		line, text = cutLine(text)
		key, value, _ := bytes.Cut(line, []byte{':'})
		value = trimSpace(value)
		ok := true
		switch string(trimSpace(key)) {
		case "se.exec_start":
			s.ExecStart, ok = parseMillis(value)
		case "se.sum_exec_runtime":
			s.SumRuntime, ok = parseMillis(value)
		case "nr_switches":
			s.Switches, ok = parseInt(value)
		}
		if !ok {
			return Sched{}, fmt.Errorf("sched: %s: %w", trimSpace(key), badText(value, errNumber))
		}
	}
	return s, nil
}

// parseMillis reads milliseconds with six decimals as nanoseconds, exactly.
func parseMillis(b []byte) (int64, bool) {
	whole, frac, _ := bytes.Cut(b, []byte{'.'})
	ms, ok1 := parseUint(whole, 10)
	ns, ok2 := parseUint(frac, 10)
	if !ok1 || !ok2 || len(frac) != 6 || ms > math.MaxInt64/1_000_000-1 {
		return 0, false
	}
	return int64(ms*1_000_000 + ns), true
}

// Sched reads /proc/PID/task/TID/sched. A kernel without it gives an error for
// which [IsGone] holds, as a thread does that has ended.
func (r *Reader) Sched(pid, tid int) (Sched, error) {
	return parsed(r, r.taskPath(pid, tid, "sched"), ParseSched)
}
