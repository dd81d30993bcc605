package policy

import "time"

// WatchdogUsual is how long a program may be silent that says that it is well,
// where neither it nor anybody else says how long.
const WatchdogUsual = 30 * time.Second

// lateMax is how late somebody may look before that says more about him than
// about the program.
const lateMax = time.Second

// Watchdog waits for a program to say that it is well. The zero Watchdog waits
// for nothing.
type Watchdog struct {
	Limit time.Duration // how long it may be silent
	Armed bool          // it is waited for
	Since time.Time     // from when on
}

// Heard notes that the program has said at some time that it is well.
func (w Watchdog) Heard(at time.Time) Watchdog {
	if w.Limit == 0 {
		w.Limit = WatchdogUsual
	}
	w.Armed = true
	if at.After(w.Since) {
		w.Since = at
	}
	return w
}

// Stood notes that the program stood still for a while that ended now: it could
// say nothing.
func (w Watchdog) Stood(now time.Time, pause time.Duration) Watchdog {
	if w.Since = w.Since.Add(pause); w.Since.After(now) {
		w.Since = now
	}
	return w
}

// Due is when it is to be looked at next; the zero time is never.
func (w Watchdog) Due() time.Time {
	if !w.Armed || w.Limit <= 0 {
		return time.Time{}
	}
	return w.Since.Add(w.Limit)
}

// Look says whether the program was silent for too long. Whoever looks much
// later than it was due has stood still himself, and gives it a second to be
// heard.
func (w Watchdog) Look(now time.Time) (next Watchdog, silent bool) {
	due := w.Due()
	if due.IsZero() || now.Before(due) {
		return w, false
	}
	if now.Sub(due) > lateMax {
		w.Since = now.Add(lateMax - w.Limit)
		return w, false
	}
	return w, true
}

// holdMax is how long a program may put checkpoints off.
const holdMax = time.Minute

// Hold is a program's wish that none is taken by the clock. The zero Hold is
// none.
type Hold struct{ Since time.Time }

// Wait notes that the program wants it; saying it again makes it no longer.
func (h Hold) Wait(now time.Time) Hold {
	if h.Since.IsZero() {
		h.Since = now
	}
	return h
}

// Until is how long it holds: a minute at most. The zero time: it does not.
func (h Hold) Until(now time.Time) time.Time {
	if end := h.Since.Add(holdMax); !h.Since.IsZero() && now.Before(end) {
		return end
	}
	return time.Time{}
}
