package policy

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// held makes sound generations of these ages in seconds, the oldest first.
func held(ages ...float64) []Held {
	var out []Held
	for i, a := range ages {
		out = append(out, Held{Generation: Generation(i + 1), At: at(-a), Sound: true})
	}
	return out
}

// with changes the generations that are named.
func with(list []Held, f func(*Held), gens ...Generation) []Held {
	list = slices.Clone(list)
	for i := range list {
		if slices.Contains(gens, list[i].Generation) {
			f(&list[i])
		}
	}
	return list
}

func TestDrop(t *testing.T) {
	const day = 86400
	row := held(8, 7, 6, 5, 4, 3, 2, 1, 0)
	pinned := func(h *Held) { h.Pinned = true }
	unsound := func(h *Held) { h.Sound = false }
	undo := func(h *Held) { h.Undo, h.Sound = true, false }
	for _, c := range []struct {
		name string
		held []Held
		want []Generation
	}{
		{"none", nil, nil},
		{"one", held(0), nil},
		{"one a second", row, []Generation{2, 3, 4, 6}},
		{"many in a second", held(.9, .8, .7, .1, 0), []Generation{2, 3, 4}},
		{"far apart", held(100*day, 10*day, day, 0), nil},
		{"pinned", with(row, pinned, 3, 6), []Generation{2, 4, 5}},
		{"needed", with(row, func(h *Held) { h.Needed = true }, 4), []Generation{2, 3, 6}},
		{"tagged", with(row, func(h *Held) { h.Tagged = true }, 4), []Generation{2, 3, 6}},
		{"the newest that is proven", with(row, func(h *Held) { h.Proven = true }, 2, 3), []Generation{2, 4, 6}},
		{"the newest undo", with(row, undo, 2, 6), []Generation{2, 3, 4}},
		{"an undo of last week", with(held(8*day, 8*day-5, 8*day-6, 8*day-9, 0), undo, 2), []Generation{2, 3}},
		{"bad ones hold no place", with(row, unsound, 4, 5, 6, 7), []Generation{2, 4, 6}},
		{"what recovery goes back to", with(row, unsound, 8, 9), []Generation{2, 3, 4, 6}},
	} {
		if d := cmp.Diff(c.want, Drop(c.held)); d != "" {
			t.Errorf("%s: %s", c.name, d)
		}
	}
}

func TestHorizon(t *testing.T) {
	var list []Held
	for i := range 60 {
		list = append(list, Held{Generation: Generation(i + 1), At: at(-math.Pow(1.6, float64(60-i))), Sound: true})
	}
	var left []Held
	for _, h := range list {
		if !slices.Contains(Drop(list), h.Generation) {
			left = append(left, h)
		}
	}
	if len(left) != keepLeast {
		t.Errorf("%d are left", len(left))
	}
	if age := list[59].At.Sub(left[0].At); age < horizon {
		t.Errorf("the oldest is %v old", age)
	}
}

func TestShrink(t *testing.T) {
	list := held(6, 5, 4, 3, 2, 1, 0)
	list = with(list, func(h *Held) { h.Tagged = true }, 1)
	list = with(list, func(h *Held) { h.Pinned = true }, 2)
	list = with(list, func(h *Held) { h.Proven = true }, 3, 4)
	list = with(list, func(h *Held) { h.Sound = false }, 6)
	var got []Generation
	for {
		g, ok := Shrink(list)
		if !ok {
			break
		}
		got = append(got, g)
		list = slices.DeleteFunc(list, func(h Held) bool { return h.Generation == g })
	}
	if d := cmp.Diff([]Generation{6, 3, 5, 1}, got); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]Generation{7, 4, 2}, Protected(list)); d != "" {
		t.Error(d)
	}
}

func TestSteady(t *testing.T) {
	for _, c := range []struct {
		name              string
		last, taken, want float64
	}{
		{"a second", 10, 11, 101},
		{"the clock goes back", 10, 2, 100},
		{"a long pause", 10, 1e9, 100 + 86400},
	} {
		if got := Steady(at(100), at(c.last), at(c.taken)); !got.Equal(at(c.want)) {
			t.Errorf("%s: %v", c.name, got.Sub(epoch))
		}
	}
	if got := Steady(time.Time{}, time.Time{}, at(3)); !got.Equal(at(3)) {
		t.Errorf("the first: %v", got)
	}
}

// life is a workload that takes generations, and lets some go after some of
// them.
type life struct {
	all, held   []Held
	taken, last time.Time // what the clock said
}

func (l *life) take(gap time.Duration, jump time.Duration) {
	h := Held{Generation: Generation(len(l.all) + 1), Sound: true}
	l.taken = l.last.Add(gap + jump)
	if len(l.all) > 0 {
		h.At = Steady(l.all[len(l.all)-1].At, l.last, l.taken)
	} else {
		h.At = l.taken
	}
	l.last = l.taken
	l.all, l.held = append(l.all, h), append(l.held, h)
}

func (l *life) drop() int {
	gone := Drop(l.held)
	l.held = slices.DeleteFunc(l.held, func(h Held) bool { return slices.Contains(gone, h.Generation) })
	return len(gone)
}

// drawGap is a time between two generations: a regular interval, anything, or
// a long pause.
func drawGap(t *rapid.T, every float64) time.Duration {
	s := every
	switch rapid.IntRange(0, 19).Draw(t, "kind") {
	case 0:
		s = math.Exp(rapid.Float64Range(-4, 15).Draw(t, "pause"))
	case 1, 2, 3:
		s = every * rapid.Float64Range(.1, 3).Draw(t, "uneven")
	}
	return time.Duration(s * float64(time.Second))
}

// Whatever the intervals, the pauses and the clock do: for every generation
// there ever was one is left that is at least as old, and at most twice as old
// or a second older; there are few; and nothing that stays is let go for
// nothing new.
func TestDistances(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := &life{last: epoch}
		every := math.Exp(rapid.Float64Range(-4, 10).Draw(t, "every"))
		batch := rapid.IntRange(1, 10).Draw(t, "batch")
		for i := range rapid.IntRange(1, 400).Draw(t, "generations") {
			jump := time.Duration(0)
			if rapid.IntRange(0, 30).Draw(t, "jump") == 0 {
				jump = -time.Duration(rapid.Int64Range(0, int64(100*24*time.Hour)).Draw(t, "back"))
			}
			l.take(drawGap(t, every), jump)
			if i%batch == 0 {
				l.check(t)
			}
		}
		l.check(t)
	})
}

func (l *life) check(t *rapid.T) {
	l.drop()
	if n := l.drop(); n != 0 {
		t.Fatalf("%d more go at once", n)
	}
	now := l.all[len(l.all)-1]
	if l.held[len(l.held)-1] != now {
		t.Fatal("the newest is gone")
	}
	young := 0
	for _, h := range l.held {
		if now.At.Sub(h.At) < horizon {
			young++
		}
	}
	if young > 46 || len(l.held) > max(young+1, keepLeast) {
		t.Fatalf("%d are left, %d of them young", len(l.held), young)
	}
	for _, h := range l.all {
		age := now.At.Sub(h.At)
		i, _ := slices.BinarySearchFunc(l.held, h.Generation, func(h Held, g Generation) int { return int(h.Generation) - int(g) })
		if age > horizon || i < len(l.held) && l.held[i].Generation == h.Generation {
			continue
		}
		if i == 0 {
			t.Fatalf("nothing is as old as %v", age)
		}
		if older := now.At.Sub(l.held[i-1].At); older > max(2*age, age+nearest) {
			t.Fatalf("g%d was %v old, and the next one is %v old", h.Generation, age, older)
		}
	}
}

// What is spared stays.
func TestSpared(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := &life{last: epoch}
		for range rapid.IntRange(1, 60).Draw(t, "generations") {
			l.take(drawGap(t, 1), 0)
		}
		for i := range l.held {
			h := &l.held[i]
			switch rapid.IntRange(0, 9).Draw(t, "kind") {
			case 0:
				h.Pinned = true
			case 1:
				h.Tagged = true
			case 2:
				h.Proven = true
			case 3:
				h.Sound = false
			case 4:
				h.Needed = true
			}
		}
		gone, safe := Drop(l.held), Protected(l.held)
		if !slices.Contains(safe, Generation(len(l.all))) {
			t.Fatal("the newest is not protected")
		}
		proven := Generation(0)
		for _, h := range l.held {
			out := slices.Contains(gone, h.Generation)
			if out && (h.Pinned || h.Tagged || h.Needed || slices.Contains(safe, h.Generation)) {
				t.Fatalf("%+v is let go", h)
			}
			if h.Proven && h.Sound {
				proven = h.Generation
			}
		}
		if proven != 0 && !slices.Contains(safe, proven) {
			t.Fatalf("g%d, the newest that is proven, is not protected", proven)
		}
	})
}

// A month at one every five minutes leaves what its length asks for.
func TestMonth(t *testing.T) {
	l, most := &life{last: epoch}, 0
	for i := range 30 * 24 * 12 {
		l.held = append(l.held, Held{Generation: Generation(i + 1), At: at(float64(300 * i)), Sound: true})
		l.drop()
		most = max(most, len(l.held))
	}
	t.Logf("%d are left, %d at the most", len(l.held), most)
	if most > 2+2*14 || len(l.held) < 14 { // a month is 2^13.1 times as long
		t.Errorf("%d are left, %d at the most", len(l.held), most)
	}
}
