package policy

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// model is a keeper without a workload: what it must know is durable, and it
// may die at any instant, alone or with everything.
type model struct {
	*rapid.T
	rules  Rules
	list   []Candidate
	in     Incident     // durable
	bad    []Generation // durable
	made   map[Generation]int
	damage []Generation // cannot be read
	refuse []Generation // cannot be restored on this host
	spoilt time.Time    // what was taken since dies
	deaths int          // of keepers, that are left
	oldest time.Time    // that died since everything was lost
}

// dies says that the keeper dies now, and everything with it.
func (m *model) dies() bool {
	if m.deaths == 0 || rapid.IntRange(0, 2).Draw(m.T, "dies") > 0 {
		return false
	}
	m.deaths--
	m.in = Reopen(&m.in, m.in.Crashed.Add(time.Second))
	m.oldest = time.Time{}
	return true
}

// fate is what comes of a try, as the truth about the generation has it.
func (m *model) fate(d Decision) Fate {
	if d.Do == Fresh {
		return rapid.SampledFrom([]Fate{Died, Lived}).Draw(m.T, "fresh")
	}
	c := m.list[d.Generation-1]
	switch {
	case slices.Contains(m.damage, c.Generation):
		return Damaged
	case slices.Contains(m.refuse, c.Generation):
		return Refused
	case !c.Taken.Before(m.spoilt):
		return Died
	}
	return Lived
}

// check holds a decision against the sentences of doc/design.md, "Recovery".
func (m *model) check(d Decision) {
	bad := Descendants(m.bad, m.list)
	spent := func(c Candidate) bool {
		_, over := attempts(m.in, c.Generation)
		return over || slices.Contains(bad, c.Generation)
	}
	n := 0
	for _, t := range m.in.Tries {
		if t.Generation == d.Generation && t.Fate != Lived && (d.Do == Restore || t.Fate != Interrupted) {
			n++
		}
	}
	if want := min(time.Second<<n/2, time.Minute); d.Do != Stop && n > 0 && d.Wait != want || n == 0 && d.Wait != 0 {
		m.Fatalf("%+v waits after %d tries, want %v", d, n, want)
	}
	if d.Do != Restore {
		if d.Do == Fresh && !m.rules.Fresh && !m.rules.GiveUpFresh {
			m.Fatal("nobody asked for a fresh start")
		}
		for _, c := range m.list {
			if !m.rules.Fresh && !spent(c) && (m.oldest.IsZero() || c.Taken.Before(m.oldest)) {
				m.Fatalf("given up, and g%d was never tried", c.Generation)
			}
		}
		return
	}
	c := m.list[d.Generation-1]
	if m.rules.Fresh || spent(c) {
		m.Fatalf("g%d is tried", d.Generation)
	}
	if len(m.in.Tries) == 0 { // the newest first
		for _, o := range m.list[d.Generation:] {
			if !spent(o) {
				m.Fatalf("g%d is tried before g%d", d.Generation, o.Generation)
			}
		}
	}
	for _, t := range m.in.Tries { // twice as old as what died, or the oldest there is
		age := m.in.Crashed.Sub(t.Taken)
		if t.Fate != Died || t.Generation == 0 || m.in.Crashed.Sub(c.Taken) >= 2*age {
			continue
		}
		for _, o := range m.list {
			if !spent(o) && o.Taken.Before(c.Taken) {
				m.Fatalf("g%d after g%d died, and g%d is older", c.Generation, t.Generation, o.Generation)
			}
		}
	}
}

// step makes one try. over says that recovery has ended.
func (m *model) step() (over bool) {
	d := Next(m.rules, m.in, m.list, Descendants(m.bad, m.list))
	m.check(d)
	if d.Do == Stop {
		return true
	}
	try := Try{Generation: d.Generation, Fate: Pending}
	if d.Do == Restore {
		try.Taken = m.list[d.Generation-1].Taken
	}
	if m.dies() {
		return false
	}
	m.in.Tries = append(m.in.Tries, try) // from here on it counts, whatever becomes of it
	if m.made[d.Generation]++; m.dies() {
		return false
	}
	fate := m.fate(d)
	if fate == Died && d.Do == Restore {
		m.bad = Descendants(append(m.bad, d.Generation), m.list)
		m.oldest = try.Taken
	}
	m.in.Tries[len(m.in.Tries)-1].Fate = fate // in one write with what is bad
	return fate == Lived
}

// Whatever is spoilt, damaged or refused, and wherever the keeper dies:
// recovery ends, each generation is tried so often and no more, and what lives
// is found if there is any that may be tried.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 30).Draw(t, "candidates")
		m := &model{T: t, list: make([]Candidate, n), made: map[Generation]int{}, deaths: rapid.IntRange(0, 20).Draw(t, "deaths")}
		m.rules = Rules{Fresh: rapid.IntRange(0, 9).Draw(t, "fresh") == 0, GiveUpFresh: rapid.Bool().Draw(t, "giveup"), Every: time.Duration(rapid.IntRange(0, 100).Draw(t, "every")) * time.Second}
		now := 0.0
		for i := range m.list {
			now += rapid.Float64Range(0.01, 100).Draw(t, "gap")
			m.list[i] = Candidate{Generation: Generation(i + 1), Taken: at(now)}
			if i > 0 && rapid.Bool().Draw(t, "restored") {
				m.list[i].From = Generation(rapid.IntRange(1, i).Draw(t, "from"))
			}
			switch rapid.IntRange(0, 9).Draw(t, "kind") {
			case 0:
				m.damage = append(m.damage, Generation(i+1))
			case 1:
				m.refuse = append(m.refuse, Generation(i+1))
			}
		}
		m.in.Crashed = at(now + rapid.Float64Range(0, 10).Draw(t, "since"))
		m.spoilt = at(rapid.Float64Range(-1, now+1).Draw(t, "spoilt"))
		deaths := m.deaths
		for tries := 0; !m.step(); tries++ {
			if tries > (interruptsMax*n+freshMax+2)*(deaths+1) {
				t.Fatalf("no end after %d tries", tries)
			}
		}
		for g, made := range m.made {
			most := interruptsMax // what a host refused it may take after another boot
			if g == 0 {
				most = freshMax
			}
			if made > most*(deaths+1) {
				t.Fatalf("g%d was tried %d times, %d deaths", g, made, deaths)
			}
		}
	})
}

// A keeper that dies in each try of a generation, with everything: the third
// time is the last one, and what it had learned before is not lost.
func TestDeathInEachTry(t *testing.T) {
	list := line(5)
	in, bad := Incident{Crashed: at(6)}, []Generation{5}
	var tried []Generation
	for {
		d := Next(Rules{}, in, list, bad)
		if d.Do == Stop {
			break
		}
		if tried = append(tried, d.Generation); len(tried) > 100 {
			t.Fatal("it loops")
		}
		in.Tries = append(in.Tries, Try{Generation: d.Generation, Taken: at(float64(d.Generation)), Fate: Pending})
		in = Reopen(&in, at(6))
	}
	if want := []Generation{4, 4, 4, 1, 1, 1, 2, 2, 2, 3, 3, 3}; !slices.Equal(tried, want) {
		t.Errorf("%v, want %v", tried, want)
	}
}

func TestProbation(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		age := time.Duration(rapid.Int64Range(-int64(time.Minute), int64(30*24*time.Hour)).Draw(t, "age"))
		if p := Probation(at(0), at(0).Add(-age)); p < 10*time.Second || p < 2*age || p > max(10*time.Second, 2*age) {
			t.Fatalf("of %v: %v", age, p)
		}
	})
}
