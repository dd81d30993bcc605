package policy

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func at(seconds float64) time.Time {
	return epoch.Add(time.Duration(seconds * float64(time.Second)))
}

// line makes candidates 1..n, one a second, the last one at second n.
func line(n int) []Candidate {
	var out []Candidate
	for i := 1; i <= n; i++ {
		out = append(out, Candidate{Generation: Generation(i), Taken: at(float64(i))})
	}
	return out
}

func TestClean(t *testing.T) {
	for _, c := range []struct {
		end  End
		want bool
	}{
		{End{}, true},
		{End{Known: true}, true},
		{End{Known: true, Code: 1}, false},
		{End{Known: true, Signal: 15}, true},
		{End{Known: true, Signal: 2}, true},
		{End{Known: true, Signal: 1}, true},
		{End{Known: true, Signal: 13}, true},
		{End{Known: true, Signal: 11}, false},
		{End{Known: true, Signal: 9}, false},
	} {
		if got := c.end.Clean(); got != c.want {
			t.Errorf("Clean(%+v) = %v", c.end, got)
		}
	}
}

func TestNextCheckpoint(t *testing.T) {
	const every = time.Second
	for _, c := range []struct {
		name     string
		end      float64
		failures int
		want     float64
	}{
		{"short", 0.01, 0, 1},
		{"longer than half the interval", 0.8, 0, 1.6},
		{"longer than the interval", 3, 0, 6},
		{"one failure", 0.01, 1, 2},
		{"many failures", 0.01, 50, 60},
	} {
		if got := NextCheckpoint(at(0), at(c.end), every, c.failures); !got.Equal(at(c.want)) {
			t.Errorf("%s: %v, want %v", c.name, got.Sub(epoch), c.want)
		}
	}
	if got := NextCheckpoint(at(0), at(0), 5*time.Minute, 3); !got.Equal(at(300)) {
		t.Errorf("long interval after failures: %v", got.Sub(epoch))
	}
}

func TestNext(t *testing.T) {
	died := func(g float64) Try { return Try{Generation: Generation(g), Taken: at(g), Fate: Died} }
	as := func(g float64, f Fate) Try { return Try{Generation: Generation(g), Taken: at(g), Fate: f} }
	for _, c := range []struct {
		name    string
		rules   Rules
		tries   []Try
		bad     []Generation
		crashed float64
		want    Decision
	}{
		{"newest first", Rules{}, nil, nil, 10.5, Decision{Do: Restore, Generation: 10}},
		{"known bad is skipped", Rules{}, nil, []Generation{10, 9}, 10.5, Decision{Do: Restore, Generation: 8}},
		{"twice as old", Rules{}, []Try{died(10)}, []Generation{10}, 11, Decision{Do: Restore, Generation: 9}},
		{"twice as old again", Rules{}, []Try{died(10), died(9)}, []Generation{9, 10}, 11, Decision{Do: Restore, Generation: 6}},
		{"and again", Rules{}, []Try{died(10), died(9), died(7)}, []Generation{7, 9, 10}, 11, Decision{Do: Restore, Generation: 1}},
		{"two intervals may be lost besides", Rules{Every: time.Second}, []Try{died(10)}, []Generation{10}, 11, Decision{Do: Restore, Generation: 7}},
		{"none so old: the oldest", Rules{}, []Try{died(3)}, []Generation{3}, 11, Decision{Do: Restore, Generation: 1}},
		{"none so old: the oldest that is not bad", Rules{}, []Try{died(3)}, []Generation{1, 3}, 11, Decision{Do: Restore, Generation: 2}},
		{"the oldest is damaged", Rules{}, []Try{died(3), as(1, Damaged)}, []Generation{3}, 11, Decision{Do: Restore, Generation: 2}},
		{"the oldest is refused", Rules{}, []Try{died(3), as(1, Refused)}, []Generation{3}, 11, Decision{Do: Restore, Generation: 1, Wait: time.Second}},
		{"the oldest is refused thrice", Rules{}, []Try{died(3), as(1, Refused), as(1, Refused), as(1, Refused)}, []Generation{3}, 11, Decision{Do: Restore, Generation: 2}},
		{"refused thrice at once, and none so old", Rules{}, []Try{as(2, Refused), as(2, Refused), as(2, Refused)}, nil, 11, Decision{Do: Restore, Generation: 1}},
		{"the oldest died", Rules{}, []Try{died(3), died(1)}, []Generation{1, 3}, 11, Decision{Do: Stop}},
		{"the oldest died, fresh", Rules{GiveUpFresh: true}, []Try{died(3), died(1)}, []Generation{1, 3}, 11, Decision{Do: Fresh}},
		{"all are newer than what died and was forgotten", Rules{}, []Try{{Generation: 20, Taken: at(0), Fate: Died}}, nil, 11, Decision{Do: Stop}},
		{"all are bad", Rules{}, []Try{died(3)}, []Generation{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, 11, Decision{Do: Stop}},
		{"interrupted is tried again", Rules{}, []Try{as(10, Interrupted)}, nil, 11, Decision{Do: Restore, Generation: 10, Wait: time.Second}},
		{"refused thrice", Rules{}, []Try{as(10, Refused), as(10, Refused), as(10, Refused)}, nil, 11, Decision{Do: Restore, Generation: 9}},
		{"pending costs a try", Rules{}, []Try{as(10, Pending), as(10, Pending), as(10, Pending)}, nil, 11, Decision{Do: Restore, Generation: 9}},
		{"damage costs no age", Rules{}, []Try{as(10, Damaged)}, nil, 18, Decision{Do: Restore, Generation: 9}},
		{"fresh", Rules{Fresh: true}, nil, nil, 11, Decision{Do: Fresh}},
		{"fresh after power cuts", Rules{Fresh: true}, []Try{{Fate: Interrupted}, {Fate: Interrupted}, {Fate: Interrupted}}, nil, 11, Decision{Do: Fresh}},
		{"fresh again", Rules{Fresh: true}, []Try{{Fate: Died}, {Fate: Died}}, nil, 11, Decision{Do: Fresh, Wait: 2 * time.Second}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := Next(c.rules, Incident{Crashed: at(c.crashed), Tries: c.tries}, line(10), c.bad)
			if d := cmp.Diff(c.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestDescendants(t *testing.T) {
	list := []Candidate{{Generation: 1}, {Generation: 2}, {Generation: 3, From: 2}, {Generation: 4, From: 2}, {Generation: 5, From: 3}, {Generation: 6, From: 1}}
	if d := cmp.Diff([]Generation{2, 3, 4, 5}, Descendants([]Generation{2}, list)); d != "" {
		t.Error(d)
	}
}

func TestReopen(t *testing.T) {
	last := &Incident{Crashed: at(1), Tries: []Try{{Generation: 3, Fate: Died}, {Generation: 2, Fate: Pending}}}
	want := Incident{Crashed: at(9), Tries: []Try{{Generation: 2, Fate: Interrupted}}}
	if d := cmp.Diff(want, Reopen(last, at(9))); d != "" {
		t.Error(d)
	}
}

// Whatever comes of the tries, an incident ends, no try is of a bad
// generation, each that follows a death is at least twice as old or the oldest
// that is left, and it is not given up before the oldest was tried.
func TestAnIncidentEnds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 40).Draw(t, "candidates")
		list := make([]Candidate, n)
		now := 0.0
		for i := range list {
			now += rapid.Float64Range(0.01, 100).Draw(t, "gap")
			list[i] = Candidate{Generation: Generation(i + 1), Taken: at(now)}
			if i > 0 && rapid.Bool().Draw(t, "restored") {
				list[i].From = Generation(rapid.IntRange(1, i).Draw(t, "from"))
			}
		}
		rules := Rules{Fresh: rapid.IntRange(0, 5).Draw(t, "fresh") == 0, GiveUpFresh: rapid.Bool().Draw(t, "giveup")}
		in := Incident{Crashed: at(now + rapid.Float64Range(0, 10).Draw(t, "since"))}
		var bad []Generation
		died, oldestDied := time.Duration(-1), in.Crashed.Add(time.Hour)
		spent := func(c Candidate) bool {
			_, over := attempts(in, c.Generation)
			return over || slices.Contains(Descendants(bad, list), c.Generation)
		}
		for step := 0; ; step++ {
			if step > interruptsMax*n+freshMax+1 {
				t.Fatalf("no end after %d tries", step)
			}
			d := Next(rules, in, list, Descendants(bad, list))
			if d.Do != Restore && !rules.Fresh {
				for _, c := range list {
					if c.Taken.Before(oldestDied) && !spent(c) {
						t.Fatalf("g%d was never tried", c.Generation)
					}
				}
			}
			if d.Do == Stop {
				return
			}
			try := Try{Generation: d.Generation}
			fates := []Fate{Died, Interrupted, Refused, Damaged, Pending}
			if d.Do == Fresh {
				fates = []Fate{Died, Pending}
			} else {
				c := list[d.Generation-1]
				try.Taken = c.Taken
				for _, b := range Descendants(bad, list) {
					if b == c.Generation {
						t.Fatalf("g%d is known to be bad", b)
					}
				}
				age := in.Crashed.Sub(c.Taken)
				for _, o := range list {
					if died >= 0 && age < 2*died && o.Taken.Before(c.Taken) && !spent(o) {
						t.Fatalf("g%d is %v old after one of %v died, and g%d is left", d.Generation, age, died, o.Generation)
					}
				}
				if died >= 0 && age <= died {
					t.Fatalf("g%d is %v old after one of %v died", d.Generation, age, died)
				}
			}
			try.Fate = rapid.SampledFrom(fates).Draw(t, "fate")
			if try.Fate == Died && d.Do == Restore {
				bad = append(bad, d.Generation)
				died, oldestDied = in.Crashed.Sub(try.Taken), try.Taken
			}
			in.Tries = append(in.Tries, try)
		}
	})
}
