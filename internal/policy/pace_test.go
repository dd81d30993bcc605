package policy

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestKeepSize(t *testing.T) {
	for free, want := range map[int64]int64{
		1 << 40: 20 << 30, 8 << 30: 2 << 30, 8<<30 + 5<<20: 2<<30 + 1<<20, 24 << 20: 6 << 20, 1 << 20: 1 << 20, 0: 1 << 20,
	} {
		if got := KeepSize(free); got != want {
			t.Errorf("of %d: %d, want %d", free, got, want)
		}
	}
}

func TestRoom(t *testing.T) {
	for _, c := range []struct {
		free, total int64
		want        bool
	}{{100, 100, true}, {5, 100, true}, {4, 100, false}, {0, 100, false}, {0, 0, true}} {
		if got := Room(c.free, c.total); got != c.want {
			t.Errorf("%d of %d: %v", c.free, c.total, got)
		}
	}
}

func TestPace(t *testing.T) {
	for _, c := range []struct {
		name     string
		end      float64
		failures int
		wait     time.Duration
		due      float64
		why      Why
		pause    Pause
	}{
		{"as asked", 0.1, 0, 0, 1, AsAsked, Pause{}},
		{"slow", 3, 0, 0, 6, TooSlow, Pause{}},
		{"failing", 0.1, 1, 0, 2, Failing, Pause{}},
		{"the wait is over by then", 0.1, 0, 800 * time.Millisecond, 1, AsAsked, Pause{}},
		{"writes", 0.5, 0, 4 * time.Second, 4.5, TooMuch, Pause{}},
		{"slow, and writes", 3, 0, 4 * time.Second, 7, TooMuch, Pause{}},
		{"slower than the writes", 3, 0, 2 * time.Second, 6, TooSlow, Pause{}},
		{"within the budget", 0.5, 0, 0, 1, AsAsked, Pause{100 * time.Millisecond, 100 * time.Millisecond}},
		{"three times the budget", 0.5, 0, 0, 3, Pausing, Pause{300 * time.Millisecond, 100 * time.Millisecond}},
		{"slower than the pause", 3, 0, 0, 6, TooSlow, Pause{300 * time.Millisecond, 100 * time.Millisecond}},
		{"the pause and the writes", 0.5, 0, 4 * time.Second, 4.5, TooMuch, Pause{300 * time.Millisecond, 100 * time.Millisecond}},
		{"a pause of a hundredth is enough", 0.5, 0, 0, 2, Pausing, Pause{20 * time.Millisecond, time.Microsecond}},
		{"no budget", 0.5, 0, 0, 1, AsAsked, Pause{time.Second, 0}},
	} {
		due, why := Pace(at(0), at(c.end), time.Second, c.failures, c.wait, c.pause)
		if !due.Equal(at(c.due)) || why != c.why {
			t.Errorf("%s: due at %v, %q", c.name, due.Sub(epoch), why)
		}
	}
}

func TestMeter(t *testing.T) {
	const limit = 1000
	m := Meter{}
	if m.Wait(at(0), limit) != 0 || m.Day(at(0)) != 0 {
		t.Error("an empty one waits")
	}
	m = m.Add(at(0), 600*limit, limit)
	if w := m.Wait(at(0), limit); w != 0 {
		t.Errorf("ten minutes' worth: %v", w)
	}
	m = m.Add(at(0), 5*limit, limit)
	if w := m.Wait(at(0), limit); w != 6*time.Second {
		t.Errorf("5 s too many: %v", w)
	}
	if w := m.Wait(at(0), 0); w != 0 {
		t.Errorf("no limit: %v", w)
	}
	if w := m.Wait(at(6), limit); w != 0 {
		t.Errorf("later: %v", w)
	}
	m = m.Add(at(86000), 7, limit)
	if d := m.Day(at(86000)); d != 605*limit+7 {
		t.Errorf("in a day: %d", d)
	}
	if d := m.Day(at(86400)); d != 7 {
		t.Errorf("in the last day: %d", d)
	}
}

// Whatever is written whenever the meter allows it, no hour sees more than the
// limit beside one checkpoint, and it allows 5/6 of it for ever.
func TestMeterHolds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.Int64Range(1, 1<<40).Draw(t, "limit")
		now, m := epoch, Meter{}
		most := int64(0)
		var all []written
		for range rapid.IntRange(1, 200).Draw(t, "checkpoints") {
			if wait := m.Wait(now, limit); wait > 0 {
				now = now.Add(wait)
			}
			bytes := int64(float64(limit) * rapid.Float64Range(0, 1000).Draw(t, "bytes"))
			m = m.Add(now, bytes, limit)
			most, all = max(most, bytes), append(all, written{now, bytes})
			now = now.Add(time.Duration(rapid.Int64Range(0, int64(10*time.Minute)).Draw(t, "gap")))
			if len(m.days) > 24*60+1 {
				t.Fatalf("%d minutes are remembered", len(m.days))
			}
		}
		for i := range all {
			sum := int64(0)
			for _, w := range all[i:] {
				if w.at.Sub(all[i].at) < time.Hour {
					sum += w.bytes
				}
			}
			if float64(sum) > float64(limit)*3600*1.000001+float64(most) {
				t.Fatalf("%d bytes in an hour, at %d a second, the largest %d", sum, limit, most)
			}
		}
		if wait := m.Wait(now, limit); wait > time.Duration(float64(most)/float64(limit)*1.21*float64(time.Second))+time.Second {
			t.Fatalf("waits for %v after %d bytes", wait, most)
		}
	})
}
