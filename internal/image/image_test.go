package image

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/wakepoint/wakepoint/internal/abi"
)

// TestHole: nothing lies in it, and it is the first place of its kind.
func TestHole(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tree := Tree{Spaces: make([]Space, rapid.IntRange(0, 3).Draw(t, "spaces"))}
		for i := range tree.Spaces {
			for range rapid.IntRange(0, 8).Draw(t, "areas") {
				start := abi.Addr(rapid.IntRange(0, 1<<17).Draw(t, "start")) << 12
				end := start + abi.Addr(rapid.IntRange(1, 1<<13).Draw(t, "pages"))<<12
				tree.Spaces[i].Areas = append(tree.Spaces[i].Areas, Area{Start: start, End: end})
			}
		}
		free := func(at, size abi.Addr) bool {
			for _, s := range tree.Spaces {
				for _, a := range s.Areas {
					if a.Start < at+size && at < a.End {
						return false
					}
				}
			}
			return true
		}
		from, size := abi.Addr(0x1000), abi.Addr(rapid.IntRange(1, 1<<14).Draw(t, "size"))<<12
		got := tree.Hole(from, size)
		if !free(got, size) {
			t.Fatalf("something lies at %#x", got)
		}
		if got != from && free(from, size) {
			t.Fatalf("%#x, where %#x was free", got, from)
		}
		for at := abi.Addr(holeStep); at < got; at += holeStep {
			if free(at, size) {
				t.Fatalf("%#x, where %#x was free", got, at)
			}
		}
	})
}

func TestAfter(t *testing.T) {
	for _, c := range []struct {
		from     Interval
		ns, unit int64
		want     [2]int64
	}{
		{Interval{Value: [2]int64{2, 5}}, 1e9 + 2, 1e9, [2]int64{1, 3}},
		{Interval{Value: [2]int64{2, 5}}, 1e9 + 7, 1e9, [2]int64{0, 1e9 - 2}},
		{Interval{Value: [2]int64{2, 500000}}, 1e9 + 600e6, 1e6, [2]int64{0, 900000}},
		{Interval{Value: [2]int64{2, 0}}, 5e9, 1e9, [2]int64{0, 1}},
		{Interval{Every: [2]int64{2, 0}}, 5e9, 1e9, [2]int64{0, 0}},
	} {
		if got := c.from.After(c.ns, c.unit); got.Value != c.want || got.Every != c.from.Every {
			t.Errorf("%v after %d ns of 1/%d s: %v, not %v", c.from, c.ns, c.unit, got, c.want)
		}
	}
}

func TestMissed(t *testing.T) {
	every := Interval{Value: [2]int64{0, 5}, Every: [2]int64{1, 0}}
	for _, c := range []struct {
		of       Interval
		ns, want int64
	}{{every, 4, 0}, {every, 5, 1}, {every, 1e9 + 4, 1}, {every, 1e9 + 5, 2}, {Interval{Value: [2]int64{0, 5}}, 1e9, 0}, {Interval{Every: [2]int64{0, 5}}, 1e9, 0}} {
		if got := c.of.Missed(c.ns); got != c.want {
			t.Errorf("%v after %d ns: %d, not %d", c.of, c.ns, got, c.want)
		}
	}
}
