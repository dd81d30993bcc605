package procfs

import (
	"bytes"
	"errors"
	"fmt"
)

var errNotify = errors.New("not a kind of notification")

// The SIGEV_ values of sigevent(3type), as the kernel numbers them.
const (
	NotifySignal   = 0
	NotifyNone     = 1
	NotifyThread   = 2
	NotifyThreadID = 4 // a bit beside one of the others
)

// A Timer is one POSIX timer of a process. When it fires next only the process
// itself can ask (timer_gettime).
type Timer struct {
	ID     int
	Signal int
	Value  uint64 // sigev_value
	Notify int    // sigev_notify: Notify*
	// Target is the thread to notify where Notify has NotifyThreadID, else the
	// process; 0: it has ended or is not in the PID namespace of the proc mount.
	Target int
	// ClockID is as the kernel keeps it: CLOCK_PROCESS_CPUTIME_ID and
	// CLOCK_THREAD_CPUTIME_ID are shown as the negative ID of the very process
	// or thread (-6: the own process, -2: the own thread).
	ClockID int
}

// ParseTimers reads the text of /proc/PID/timers, in the kernel's order: the
// newest timer first.
//
// Source: proc_pid_timers(5); fs/proc/base.c, show_timer.
func ParseTimers(text []byte) ([]Timer, error) {
	var timers []Timer
	for len(text) > 0 {
		var line []byte
		line, text = cutLine(text)
		key, value, _ := bytes.Cut(line, []byte{':'})
		if string(key) == "ID" {
			timers = append(timers, Timer{})
		}
		if len(timers) == 0 {
			return nil, fmt.Errorf("timers: %w", badText(line, errShort))
		}
		w := words{rest: value}
		if timers[len(timers)-1].parseLine(key, &w); w.err != nil {
			return nil, fmt.Errorf("timers: %s: %w", key, w.err)
		}
	}
	return timers, nil
}

func (t *Timer) parseLine(key []byte, w *words) {
	switch string(key) {
	case "ID":
		t.ID = w.int()
	case "ClockID":
		t.ClockID = w.int()
	case "signal": // 34/0000000000001234
		b := w.next()
		signal, value, _ := bytes.Cut(b, []byte{'/'})
		s, ok1 := parseInt(signal)
		v, ok2 := parseUint(value, 16)
		if !ok1 || !ok2 {
			w.fail(b, errNumber)
		}
		t.Signal, t.Value = int(s), v
	case "notify": // signal/tid.7635
		b := w.next()
		how, whom, _ := bytes.Cut(b, []byte{'/'})
		kind, number, _ := bytes.Cut(whom, []byte{'.'})
		switch string(how) {
		case "signal":
			t.Notify = NotifySignal
		case "none":
			t.Notify = NotifyNone
		case "thread":
			t.Notify = NotifyThread
		default:
			w.fail(b, errNotify)
		}
		if string(kind) == "tid" {
			t.Notify |= NotifyThreadID
		} else if string(kind) != "pid" {
			w.fail(b, errNotify)
		}
		n, ok := parseInt(number)
		if !ok {
			w.fail(b, errNumber)
		}
		t.Target = int(n)
	}
}

// Timers reads /proc/PID/timers (CONFIG_CHECKPOINT_RESTORE and
// CONFIG_POSIX_TIMERS).
func (r *Reader) Timers(pid int) ([]Timer, error) {
	return parsed(r, r.processPath(pid, "timers"), ParseTimers)
}
