package policy

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestOptimum(t *testing.T) {
	for _, c := range []struct{ cost, between, want time.Duration }{
		{0, 24 * time.Hour, 0},
		{5 * time.Millisecond, 24 * time.Hour, 29395 * time.Millisecond},
		{50 * time.Second, time.Hour, 617130 * time.Millisecond}, // 600 s, and what the higher order adds
		{2 * time.Hour, time.Hour, 3 * time.Hour},
	} {
		if got := Optimum(c.cost, c.between); (got - c.want).Abs() > time.Millisecond {
			t.Errorf("%v every %v: %v, want %v", c.cost, c.between, got, c.want)
		}
	}
}

// wasted is how much longer than without crashes and checkpoints a program
// takes, by Daly's whole model (restarts left out): checkpoints of
// c s with t s between them, and crashes without memory every m s.
func wasted(t, c, m float64) float64 { return m * math.Expm1((t+c)/m) / t }

// No interval is much better than the one that is chosen.
func TestOptimumIsOne(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := math.Exp(rapid.Float64Range(0, 18).Draw(t, "between"))
		c := m * math.Exp(rapid.Float64Range(-18, -1).Draw(t, "cost"))
		seconds := func(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
		best := Optimum(seconds(c), seconds(m)).Seconds() - c
		other := best * math.Exp(rapid.Float64Range(-3, 3).Draw(t, "other"))
		if c < 1e-6 {
			return // nanoseconds are counted whole
		}
		if a, b := wasted(best, c, m), wasted(other, c, m); a > b*1.005 {
			t.Fatalf("%v s every %v s: %v wastes %v, %v wastes %v", c, m, best, a, other, b)
		}
	})
}

func TestBetween(t *testing.T) {
	const day = 24 * time.Hour
	for _, c := range []struct {
		lived   time.Duration
		crashes int
		want    time.Duration
	}{{0, 0, day}, {9 * day, 0, 10 * day}, {9 * day, 9, day}, {0, 23, time.Hour}, {-day, -1, day}} {
		if got := Between(c.lived, c.crashes); got != c.want {
			t.Errorf("%v and %d: %v", c.lived, c.crashes, got)
		}
	}
}

func TestChosen(t *testing.T) {
	var c Chosen
	c = c.Next(40*time.Millisecond, 240*time.Millisecond, 24*time.Hour)
	if c.Cost != 60*time.Millisecond || c.Every != 1250*time.Millisecond {
		t.Errorf("the first: %+v", c)
	}
	c = c.Next(20*time.Millisecond, 20*time.Millisecond, 24*time.Hour)
	if c.Cost != 52*time.Millisecond {
		t.Errorf("the second: %+v", c)
	}
	for range 100 {
		c = c.Next(5*time.Millisecond, 5*time.Millisecond, 24*time.Hour)
	}
	if (c.Every - Optimum(5*time.Millisecond, 24*time.Hour)).Abs() > 10*time.Millisecond {
		t.Errorf("at rest: %+v", c)
	}
}

// Whatever checkpoints cost and however often the program crashes, the interval
// lies within its bounds and does not jump; and where nothing changes it comes
// to rest where it should.
func TestChosenIsSteady(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		span := func(name string) time.Duration {
			return time.Duration(math.Exp(rapid.Float64Range(0, 40).Draw(t, name)))
		}
		var c Chosen
		lived, crashes := time.Duration(0), 0
		for range rapid.IntRange(1, 60).Draw(t, "checkpoints") {
			lived += span("lived") / 1000
			crashes += rapid.IntRange(0, 1).Draw(t, "crashed")
			pause := span("pause") / 1000
			next := c.Next(pause, pause+span("beside")/1000, Between(lived, crashes))
			last := max(c.Every, ChosenMin)
			if next.Every < ChosenMin || next.Every > ChosenMax {
				t.Fatalf("%v", next.Every)
			}
			if ratio := float64(next.Every) / float64(last); ratio > 1.2501 || ratio < 0.7999 {
				t.Fatalf("from %v to %v", last, next.Every)
			}
			c = next
		}
		pause, between := span("the same"), Between(lived, crashes)
		for range 200 {
			c = c.Next(pause, pause, between)
		}
		want := min(max(Optimum(pause, between), ChosenMin), ChosenMax)
		if math.Abs(float64(c.Every)/float64(want)-1) > 0.001 {
			t.Fatalf("it rests at %v, not at %v", c.Every, want)
		}
	})
}

func TestSooner(t *testing.T) {
	for lived, want := range map[time.Duration]time.Duration{-time.Hour: 2 * time.Second, 0: 2 * time.Second, 5 * time.Minute: 5 * time.Second, 10 * time.Minute: 8 * time.Second, time.Hour: 8 * time.Second} {
		if got := Sooner(8*time.Second, lived); got != want {
			t.Errorf("after %v: %v, want %v", lived, got, want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		every := time.Duration(rapid.Int64Range(1, int64(24*time.Hour)).Draw(t, "every"))
		a := time.Duration(rapid.Int64Range(-int64(time.Hour), int64(time.Hour)).Draw(t, "lived"))
		b := a + time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(t, "longer"))
		x, y := Sooner(every, a), Sooner(every, b)
		if x > y || x < every/4 || y > every {
			t.Fatalf("of %v: %v after %v, %v after %v", every, x, a, y, b)
		}
		// What it is made shorter by never takes more than half of the time, nor
		// more than may be written.
		took := time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(t, "took"))
		wait := time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(t, "wait"))
		due, _ := Pace(epoch, epoch.Add(took), x, 0, wait, Pause{})
		if due.Before(epoch.Add(2*took)) || due.Before(epoch.Add(took+wait)) {
			t.Fatalf("due after %v, though it took %v and has to wait for %v", due.Sub(epoch), took, wait)
		}
	})
}
