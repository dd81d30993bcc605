package policy

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestSearch lets faults spoil the state of a program some time before it
// dies, and recovery search: how often is something restored that dies, and how
// much more is lost than the fault had spoilt? A restored state dies if and only
// if it is younger than the fault. The retention is the real one.
func TestSearch(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	var table strings.Builder
	fmt.Fprintf(&table, "%10s %8s %8s %14s %16s\n", "interval", "tries", "at most", "lost / fault", "too much lost")
	for _, every := range []time.Duration{time.Second / 4, time.Second, 5 * time.Second, 30 * time.Second} {
		meanMax, mostMax, share := 4.0, 8, 20
		if every < nearest { // more doublings lie between the interval and ten minutes
			meanMax, mostMax, share = 4.5, 10, 14
		}
		tries, most, over := 0, 0, 0
		var ratios []float64
		const faults = 400
		for range faults {
			latency := time.Duration(math.Exp(math.Log(0.01)+r.Float64()*math.Log(600/0.01)) * float64(time.Second))
			n, lost := searchOnce(r, every, latency)
			tries, most = tries+n, max(most, n)
			ratios = append(ratios, lost.Seconds()/latency.Seconds())
			if lost > latency*5/2+2*every {
				over++
			}
		}
		slices.Sort(ratios)
		fmt.Fprintf(&table, "%10v %8.2f %8d %14.2f %13d/%d\n", every, float64(tries)/faults, most, ratios[faults/2], over, faults)
		if float64(tries)/faults > meanMax || most > mostMax || over > faults/share {
			t.Errorf("interval %v: %.2f tries, at most %d, %d of %d lost too much", every, float64(tries)/faults, most, over, faults)
		}
	}
	t.Log("\n" + table.String())
}

// searchOnce is one program that lives for a while and dies of a fault.
func searchOnce(r *rand.Rand, every, latency time.Duration) (tries int, lost time.Duration) {
	l := &life{}
	n := int(latency/every) + 2 + r.IntN(200)
	l.last = epoch
	for range n {
		l.take(every, 0)
		l.drop()
	}
	crashed := l.last.Add(time.Duration(r.Float64() * float64(every)))
	var list []Candidate
	for _, h := range l.held {
		list = append(list, Candidate{Generation: h.Generation, Taken: h.At})
	}
	in, bad := Incident{Crashed: crashed}, []Generation(nil)
	for {
		d := Next(Rules{Every: every}, in, list, bad)
		if d.Do != Restore {
			return tries, crashed.Sub(list[0].Taken) // all that there is
		}
		tries++
		c := list[slices.IndexFunc(list, func(c Candidate) bool { return c.Generation == d.Generation })]
		if age := crashed.Sub(c.Taken); age >= latency {
			return tries, age
		}
		in.Tries = append(in.Tries, Try{Generation: c.Generation, Taken: c.Taken, Fate: Died})
		bad = append(bad, c.Generation)
	}
}
