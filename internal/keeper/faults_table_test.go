package keeper

import (
	"fmt"
	"time"
)

// faultSum is what the faults in one server came to.
type faultSum struct {
	breed breed

	trials, recovered, within, foretold int
	attempts, most                      int
	ratios                              samples // lost to the age of the fault

	newestTrials, newestAttempts, newestMost, newestLived int
}

// faultSums are those of all servers.
type faultSums struct {
	n      int // faults for each
	newest int // tries of always restoring the newest
	every  time.Duration
	seed   uint64
	began  time.Time
	list   []faultSum
}

func (s *faultSum) add(o outcome, every time.Duration) {
	s.trials++
	s.attempts += o.attempts
	s.most = max(s.most, o.attempts)
	if o.recovered {
		s.recovered++
		s.ratios = append(s.ratios, o.lost.Seconds()/o.age.Seconds())
		if o.lost.Seconds() <= lossFactor*o.age.Seconds()+2*every.Seconds() {
			s.within++
		}
	}
	if o.foretold {
		s.foretold++
	}
	if o.newest > 0 {
		s.newestTrials++
		s.newestAttempts += o.newest
		s.newestMost = max(s.newestMost, o.newest)
		if o.newestLived {
			s.newestLived++
		}
	}
}

// print prints the table, and one line of it all.
func (s *faultSums) print() {
	fmt.Printf("\nfaults with a latency of %v to %v, log-uniform; a checkpoint each %v\n\n", latencyMin, latencyMax, s.every)
	var t table
	t.row("server", "fails by", "faults", "recovered", "tries, mean", "most", "lost <= 2.5 age + 2 intervals", "lost / age, median", "as foretold", "newest: tries, mean", "most", "lived")
	all := faultSum{breed: breed{name: "all"}}
	for _, f := range s.list {
		t.row(f.cells()...)
		all.trials, all.recovered, all.within, all.foretold = all.trials+f.trials, all.recovered+f.recovered, all.within+f.within, all.foretold+f.foretold
		all.attempts, all.most, all.ratios = all.attempts+f.attempts, max(all.most, f.most), append(all.ratios, f.ratios...)
		all.newestTrials, all.newestAttempts = all.newestTrials+f.newestTrials, all.newestAttempts+f.newestAttempts
		all.newestMost, all.newestLived = max(all.newestMost, f.newestMost), all.newestLived+f.newestLived
	}
	t.row(all.cells()...)
	t.print()
	fmt.Printf("\nfaults: %d of %d recovered, mean %.2f attempts, max %d, %.1f %% within the bound, seed %d, in %v\n", all.recovered, all.trials,
		ratioOf(all.attempts, all.trials), all.most, 100*ratioOf(all.within, all.trials), s.seed, time.Since(s.began).Round(time.Second))
}

func (s *faultSum) cells() []string {
	of := func(n, m int) string { return fmt.Sprintf("%d of %d", n, m) }
	newest := []string{"", "", ""}
	if s.newestTrials > 0 {
		newest = []string{fmt.Sprintf("%.2f", ratioOf(s.newestAttempts, s.newestTrials)), fmt.Sprint(s.newestMost), of(s.newestLived, s.newestTrials)}
	}
	return append([]string{
		s.breed.name, s.breed.end, fmt.Sprint(s.trials), of(s.recovered, s.trials), fmt.Sprintf("%.2f", ratioOf(s.attempts, s.trials)), fmt.Sprint(s.most),
		of(s.within, s.trials), fmt.Sprintf("%.2f", s.ratios.median()), of(s.foretold, s.trials),
	}, newest...)
}

// ratioOf is n / m; 0 of nothing.
func ratioOf(n, m int) float64 {
	if m == 0 {
		return 0
	}
	return float64(n) / float64(m)
}
