package policy

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestWatchdog(t *testing.T) {
	var w Watchdog
	if _, silent := w.Look(at(1e6)); silent || !w.Due().IsZero() {
		t.Error("nobody is waited for, and is silent")
	}
	if w = w.Heard(at(10)); w.Limit != WatchdogUsual || !w.Due().Equal(at(40)) {
		t.Errorf("%+v", w)
	}
	w = w.Heard(at(5)) // that came late
	if _, silent := w.Look(at(39.9)); silent || !w.Due().Equal(at(40)) {
		t.Errorf("too soon: %+v", w)
	}
	if _, silent := w.Look(at(40)); !silent {
		t.Error("it is not silent")
	}
	w = w.Stood(at(30), 12*time.Second)
	if _, silent := w.Look(at(51.9)); silent {
		t.Errorf("it stood still, and was silent: %+v", w)
	}
	if w = w.Stood(at(25), time.Hour); !w.Since.Equal(at(25)) {
		t.Errorf("it stood still for longer than it was waited for: %+v", w)
	}
	later, silent := w.Look(at(1000)) // who looks stood still himself
	if silent {
		t.Error("silent, though nobody listened")
	}
	if _, silent = later.Look(at(1000.9)); silent {
		t.Error("it has no second")
	}
	if _, silent = later.Look(at(1001)); !silent {
		t.Error("it is never silent again")
	}
}

// Whatever a program says and however it is stopped, it is silent only when
// nothing was heard for its limit of time in which it ran.
func TestWatchdogIsPatient(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := time.Duration(rapid.IntRange(1, 60).Draw(t, "limit")) * time.Second
		w, now, ran := Watchdog{Limit: limit}.Heard(epoch), epoch, time.Duration(0)
		for range rapid.IntRange(1, 100).Draw(t, "events") {
			d := time.Duration(rapid.Int64Range(0, int64(limit)).Draw(t, "time"))
			switch rapid.IntRange(0, 2).Draw(t, "event") {
			case 0:
				now, ran = now.Add(d), 0
				w = w.Heard(now)
			case 1:
				now = now.Add(d)
				w = w.Stood(now, d)
			case 2:
				now, ran = now.Add(d), ran+d
			}
			if due := w.Due(); due.Sub(now) != limit-ran {
				t.Fatalf("due in %v after %v of %v", due.Sub(now), ran, limit)
			}
			if _, silent := w.Look(now); silent && ran < limit {
				t.Fatalf("silent after %v of %v", ran, limit)
			}
		}
	})
}

func TestHold(t *testing.T) {
	var h Hold
	if !h.Until(at(0)).IsZero() {
		t.Error("nothing holds")
	}
	h = h.Wait(at(10))
	h = h.Wait(at(50))
	if !h.Until(at(60)).Equal(at(70)) || !h.Until(at(70)).IsZero() {
		t.Errorf("until %v and %v", h.Until(at(60)), h.Until(at(70)))
	}
}
