package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const floorName = "floor"

// warm is how long writers write before it counts.
const warm = 200 * time.Millisecond

// commitKeys is how many keys the writers of commits use.
const commitKeys = 100_000

// runCommits measures commits of one, eight and 64 writers that each wait for
// theirs.
func runCommits(c config) error {
	list, err := choose(c.only)
	if err != nil {
		return err
	}
	for _, size := range []int{128, 1024} {
		for _, writers := range []int{1, 8, 64} {
			t := newTable(fmt.Sprintf("commits: %d writers, values of %d bytes, %v each, median of %d rounds", writers, size, c.seconds, c.rounds),
				"commits/s", "p50 us", "p99 us", "p99.9 us", "cpu us")
			for round := range c.rounds {
				if err := c.commitRound(t, list, round, writers, newState(commitKeys, size)); err != nil {
					return err
				}
			}
			t.print()
			judgeCommits(t, writers)
		}
	}
	return nil
}

func judgeCommits(t *table, writers int) {
	if len(t.values[[2]string{ours, "p50 us"}]) == 0 {
		return
	}
	if writers == 1 {
		atMost("p50, of the floor's", t.median(ours, "p50 us")/t.median(floorName, "p50 us"), 1.15)
	}
	name, most := t.most("commits/s")
	if name == "" {
		return
	}
	ratio := t.median(ours, "commits/s") / most
	what := fmt.Sprintf("commits/s, of the best rival's (%s)", name)
	switch writers {
	case 1:
		fmt.Printf("  %-58s %8.3g\n", what, ratio)
	case 8:
		atLeast(what, ratio, 1.5)
	default:
		atLeast(what, ratio, 1.4)
	}
	name, least := t.least("p99 us")
	ratio, what = t.median(ours, "p99 us")/least, fmt.Sprintf("p99, of the best rival's (%s)", name)
	if writers == 1 {
		fmt.Printf("  %-58s %8.3g\n", what, ratio)
		return
	}
	atMost(what, ratio, 0.6)
}

// commitRound measures each engine once, beginning with another one each time;
// the floor comes first where there is one writer.
func (c config) commitRound(t *table, list []maker, round, writers int, s state) error {
	if writers == 1 {
		dir, remove, err := c.scratch(floorName)
		if err != nil {
			return err
		}
		f, err := openFloor(dir)
		if err == nil {
			err = c.commitOnce(t, floorName, f, writers, s)
		}
		if remove(); err != nil {
			return fmt.Errorf("floor: %w", err)
		}
	}
	for i := range list {
		m := list[(i+round)%len(list)]
		dir, remove, err := c.scratch(m.name)
		if err != nil {
			return err
		}
		e, err := m.open(dir, writers)
		if err == nil {
			err = c.commitOnce(t, m.name, e, writers, s)
		}
		if remove(); err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
	}
	return nil
}

// commitOnce measures an engine and closes it.
func (c config) commitOnce(t *table, name string, e putter, writers int, s state) error {
	runtime.GC()
	debug.FreeOSMemory()
	unix.Sync() // what others have left
	if _, err := write(e, writers, warm, s); err != nil {
		return err
	}
	stop, err := c.startProfile(name, fmt.Sprintf("commits-%d-%d", writers, s.value))
	if err != nil {
		return err
	}
	before, err := worked(e)
	if err != nil {
		return err
	}
	took, err := write(e, writers, c.seconds, s)
	if err != nil {
		return err
	}
	after, err := worked(e)
	stop()
	if err != nil {
		return err
	}
	us := func(q float64) float64 { return float64(quantile(took, q)) / 1e3 }
	t.add(name, float64(len(took))/c.seconds.Seconds(), us(0.5), us(0.99), us(0.999),
		float64(after-before)/1e3/float64(len(took)))
	return e.Close()
}

// write lets writers put random keys for a while, each waiting for one before
// the next, and returns how long each commit took, sorted.
func write(e putter, writers int, during time.Duration, s state) ([]time.Duration, error) {
	var wg sync.WaitGroup
	lists, errs := make([][]time.Duration, writers), make([]error, writers)
	until := time.Now().Add(during)
	for w := range writers {
		wg.Go(func() {
			for now := time.Now(); now.Before(until); {
				if errs[w] = putAny(e, s); errs[w] != nil {
					return
				}
				after := time.Now()
				lists[w] = append(lists[w], after.Sub(now))
				now = after
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	all := slices.Concat(lists...)
	slices.Sort(all)
	return all, nil
}

// startProfile begins a CPU profile of durable, if one is wanted.
func (c config) startProfile(engine, name string) (stop func(), err error) {
	if c.profile == "" || engine != ours {
		return func() {}, nil
	}
	if err := os.MkdirAll(c.profile, 0o755); err != nil {
		return nil, err
	}
	f, err := os.Create(filepath.Join(c.profile, name+".pprof"))
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, err
	}
	return func() {
		pprof.StopCPUProfile()
		_ = f.Close()
	}, nil
}
