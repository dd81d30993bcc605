//go:build linux

package vm

import (
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// entry is a way to lose power, and its share of all cuts.
type entry struct {
	name  string
	share int                // of 50
	lines func(n int) string // the kernel of the n-th boot
	of    subject
	cycle func(g *rig) // cuts what runs, and has it brought back; at most g.left cuts
}

// entries are all there are. The first one is what is tried where little is.
var entries = []entry{
	{"work-6.1", 8, only(0), large, cutAtWork},
	{"work-6.12", 8, only(1), large, cutAtWork},
	{"commit-6.1", 4, only(0), counter, cutAtCommit},
	{"commit-6.12", 4, only(1), counter, cutAtCommit},
	{"gc-6.1", 3, only(0), counter, cutAtGC},
	{"gc-6.12", 3, only(1), counter, cutAtGC},
	{"recovery-6.1", 4, only(0), counter, cutAtRecovery},
	{"recovery-6.12", 4, only(1), counter, cutAtRecovery},
	{"kernels", 4, turns, large, cutAtWork},
	{"redis", 2, turns, redis, cutAtWork},
	{"numbers", 2, turns, counter, cutAndOccupy},
	{"clock", 2, turns, counter, cutAndTurnClock},
	{"poison", 2, turns, counter, cutPoisoned},
}

// only boots the same kernel each time.
func only(i int) func(int) string { return func(int) string { return lines[i] } }

// turns boots each in turn.
func turns(n int) string { return lines[n%len(lines)] }

// random draws for one part of the run.
func random(name string, n int) *rand.Rand {
	h := fnv.New64a()
	fmt.Fprint(h, name, n)
	return rand.New(rand.NewPCG(*seed, h.Sum64()))
}

// TestTeeth: a disk that confirms a flush and does none makes a promise a lie,
// and the test must say so.
func TestTeeth(t *testing.T) {
	g := newRig(t, random("teeth", 0))
	g.boot(lines[0], time.Time{})
	g.protect()
	g.promising()
	g.waitPromise()
	g.disk.Lie()
	g.waitPromise()
	g.waitPromise()
	g.cut(0)
	g.boot(lines[0], time.Time{})
	err := g.recover()
	t.Log(err)
	if !errors.Is(err, errBroken) {
		t.Fatal("a disk that ignores every flush is not noticed")
	}
	report = append(report, "vm: a disk that ignores flushes is noticed")
}

// TestPowerCuts cuts the power in every way there is, and says how many times
// everything was as promised.
func TestPowerCuts(t *testing.T) {
	passed, all := 0, 0
	for _, e := range shares() {
		t.Run(e.name, func(t *testing.T) {
			made, failed := 0, 0
			for series := 1; made < e.share; series++ {
				name := fmt.Sprintf("series-%d", series)
				t.Run(name, func(t *testing.T) {
					g := newRig(t, random(e.name, made))
					defer func() {
						made += max(g.made, 1) // one that does not even begin counts
						if t.Failed() {
							failed += max(g.open, 1)
						}
					}()
					e.series(g, e.share-made)
				})
			}
			report = append(report, fmt.Sprintf("vm: %s: %d of %d", e.name, made-failed, e.share))
			passed, all = passed+made-failed, all+e.share
		})
	}
	if session.missing == "" {
		report = append(report, fmt.Sprintf("vm: %d of %d power cuts, seed %d, %s",
			passed, all, *seed, strings.Join(lines[:kernelCount()], " and ")))
	}
}

// shares are the entries with the number of cuts of each.
func shares() []entry {
	if *cuts == 0 {
		e := entries[0]
		e.share, e.of = 2, counter
		return []entry{e}
	}
	total, given, sum := 0, 0, 0
	for _, e := range entries {
		total += e.share
	}
	var list []entry
	for _, e := range entries {
		sum += e.share
		e.share = *cuts*sum/total - given
		given += e.share
		if e.share > 0 {
			list = append(list, e)
		}
	}
	return list
}

// series makes n cuts on one disk.
func (e entry) series(g *rig, n int) {
	boots := 0
	g.of = e.of
	g.next = func() string { boots++; return e.lines(boots - 1) }
	g.boot(g.next(), time.Time{})
	g.protect()
	for g.made < n {
		g.left = n - g.made
		e.cycle(g)
	}
}
