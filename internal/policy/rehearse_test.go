package policy

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestJudge(t *testing.T) {
	taken := time.Unix(1000, 0)
	death := Rehearsal{Generation: 3, Taken: taken, Lived: 4 * time.Second, Fate: Died}
	tied := death
	tied.Tied = true
	life := Rehearsal{Generation: 3, Taken: taken, Lived: 10 * time.Second, Fate: Lived}
	refused := Rehearsal{Generation: 3, Taken: taken, Fate: Refused}
	for name, c := range map[string]struct {
		list    []Rehearsal
		until   time.Duration // after taken
		crashed bool
		want    Verdict
	}{
		"nothing":                        {nil, time.Hour, false, Committed},
		"it could not be rehearsed":      {[]Rehearsal{refused}, time.Hour, true, Committed},
		"it lived":                       {[]Rehearsal{refused, life}, time.Hour, true, Proven},
		"it died":                        {[]Rehearsal{death}, 4 * time.Second, false, Doubtful},
		"it died twice":                  {[]Rehearsal{death, death}, 4 * time.Second, false, Bad},
		"it died, as its run did":        {[]Rehearsal{death}, 4 * time.Second, true, Bad},
		"it died, its run a bit later":   {[]Rehearsal{death}, 7 * time.Second, true, Bad},
		"it died, its run much later":    {[]Rehearsal{death}, time.Minute, true, Doubtful},
		"it died twice, its run lives":   {[]Rehearsal{death, death}, time.Minute, false, Doubtful},
		"it died twice, tied":            {[]Rehearsal{tied, tied}, 4 * time.Second, false, Doubtful},
		"it died tied, and free":         {[]Rehearsal{tied, tied, death}, 4 * time.Second, false, Bad},
		"it died tied, as its run did":   {[]Rehearsal{tied}, 4 * time.Second, true, Bad},
		"it died, and lived":             {[]Rehearsal{death, life, death}, 0, true, Doubtful},
		"it died while its run was well": {[]Rehearsal{death, death, death}, time.Hour, false, Doubtful},
	} {
		if got := Judge(c.list, taken.Add(c.until), c.crashed); got != c.want {
			t.Errorf("%s: %v, not %v", name, got, c.want)
		}
	}
}

// TestOffer has a fault at some age and an incident that ended before it: what
// is offered is sound, newer than what was kept, and found in few rehearsals.
func TestOffer(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		start := time.Unix(1e6, 0)
		n := rapid.IntRange(1, 60).Draw(t, "generations")
		var list []Candidate
		at := start
		for i := range n {
			at = at.Add(time.Duration(rapid.Int64Range(1, 1e11).Draw(t, "gap")))
			list = append(list, Candidate{Generation: Generation(i + 1), Taken: at})
		}
		crashed := at.Add(time.Second)
		kept := rapid.IntRange(1, n).Draw(t, "kept")
		sound := rapid.IntRange(kept, n).Draw(t, "sound") // the newest that lives
		in := Incident{Crashed: crashed, Tries: []Try{{Generation: Generation(n), Fate: Died}, {Generation: Generation(kept), Taken: list[kept-1].Taken, Fate: Lived}}}
		var done []Rehearsal
		for {
			g := Offer(in, list, nil, done)
			if g == 0 {
				break
			}
			if int(g) <= kept {
				t.Fatalf("%v is rehearsed, though %d was kept", g, kept)
			}
			r := Rehearsal{Generation: g, Taken: list[g-1].Taken, At: crashed.Add(time.Minute), Fate: Lived}
			if int(g) > sound {
				r.Fate = Died
			}
			done = append(done, r)
			if len(done) > offersMax {
				t.Fatal("it does not end")
			}
		}
		best := Offered(in, nil, done)
		if int(best) > sound || best != 0 && int(best) <= kept {
			t.Fatalf("%v is offered: %d was kept, %d is the newest that lives", best, kept, sound)
		}
		if between := sound - kept; best == 0 && between > n-kept-between && between > 0 {
			t.Fatalf("nothing is offered, though %d of %d live", between, n-kept)
		}
	})
}

func TestAffords(t *testing.T) {
	for _, c := range []struct {
		m    Means
		size int64
		want bool
	}{
		{Means{Memory: 4 << 30, Load: 0.5}, 1 << 30, true},
		{Means{Memory: 4 << 30, Load: 1.5}, 1 << 30, false},
		{Means{Memory: 4 << 30}, 2 << 30, false},
		{Means{}, 0, false},
	} {
		if got := c.m.Affords(c.size); got != c.want {
			t.Errorf("%+v of %d: %v", c.m, c.size, got)
		}
	}
}
