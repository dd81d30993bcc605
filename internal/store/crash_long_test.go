package store

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"slices"
	"syscall"
	"testing"

	"github.com/wakepoint/wakepoint/internal/disk"
	"github.com/wakepoint/wakepoint/internal/disk/crashfs"
)

var (
	crashN    = flag.Int("crash.n", 60, "cuts of the long crash test")
	crashSeed = flag.Uint64("crash.seed", 1, "where the long crash test begins")

	crashEvery = flag.Bool("crash.every", false, "every fault of each scene, and every cut of who goes on after it")
)

// TestCrashLong lets processes do this and that, each on the disk that the
// power cut has left of the one before: also in the midst of its recovery.
func TestCrashLong(t *testing.T) {
	all := newTrial(t, *crashSeed)
	img := image{crashfs.New(), ledger{books: map[string]*book{}}, "an empty disk"}
	for n := range *crashN {
		if img = all.session(n, img); len(all.broken) > 0 {
			break
		}
		if n%500 == 499 {
			t.Logf("%d of %d cuts, %d distinct cut points", n+1, *crashN, len(all.points))
		}
	}
	all.report()
	t.Logf("seed %d: %d of %d cuts, %d distinct cut points", *crashSeed, all.disks, *crashN, len(all.points))
}

// session is one process, from its recovery to the cut.
func (t *trial) session(n int, img image) image {
	t.disks++
	x := newWorld(img.disk, img.ledger)
	r := &rig{x: x, name: fmt.Sprintf("session %d", n), at: 1 + t.rand.IntN(700), way: killed, sabotage: t.sabotage}
	seed := t.seed()
	r.cuts = func(call int) []uint64 {
		if len(r.images) == 0 && call >= r.at {
			return []uint64{seed}
		}
		return nil
	}
	doing, began, wrong := "recover", 0, 0
	r.seen = func(op disk.Op) {
		if r.calls == r.at {
			t.points[fmt.Sprintf("%s/%d", doing, r.calls-began)] = true
		}
	}
	x.disk.Watch(r.watch)
	x.recover(true)
	// From here on one call may fail, and only one.
	if way := t.rand.IntN(4); way < 2 {
		wrong, r.err = r.calls+1+t.rand.IntN(300), syscall.EIO
		r.fault = func(disk.Op) disk.Verdict {
			if r.calls == wrong {
				return []disk.Verdict{disk.Fail, disk.Lie}[way]
			}
			return disk.Do
		}
	}
	for range 2 + t.rand.IntN(8) {
		if x.ended || len(x.broken) > 0 {
			break
		}
		before := r.calls
		began = before
		doing = t.something(x, func(what string, err error) {
			if err != nil && (wrong <= before || wrong > r.calls) {
				x.breaks("what is asked for is done", "%s: %v", what, err)
			}
		})
	}
	x.release()
	r.at = min(r.at, r.calls+1)
	x.disk.Watch(nil)
	if len(r.images) == 0 {
		r.cut(r.calls + 1)
	}
	t.judge(r.name, x)
	return r.images[0]
}

// something does something, and returns what.
func (t *trial) something(x *world, done func(what string, err error)) (what string) {
	if x.lock == nil || t.rand.IntN(6) == 0 {
		what = "take over"
		done(what, t.someWorkload(x))
		return what
	}
	b := x.book()
	var gens []Generation // that are there
	for _, g := range slices.Sorted(maps.Keys(b.gens)) {
		if b.gens[g].fate == sure {
			gens = append(gens, g)
		}
	}
	switch k := t.rand.IntN(20); {
	case k < 9:
		what = "commit"
		done(what, x.commit(t.someScript(gens)))
	case k < 11:
		what = "abort"
		c := t.someScript(gens)
		c.abort = true
		done(what, x.commit(c))
	case k < 13:
		what = "retain"
		done(what, x.retain(1+t.rand.IntN(4)))
	case k < 15 && len(gens) > 0:
		what = "forget"
		done(what, x.forget(gens[t.rand.IntN(len(gens))]))
	case k < 17:
		what = "record"
		value := []string{absent, "a", "b", "c"}[t.rand.IntN(4)]
		done(what, x.put([]string{"policy", "verdict"}[t.rand.IntN(2)], value))
	case k < 18:
		what = "remove"
		done(what, x.remove(x.name))
	default:
		what = "verify"
		found, err := x.w.Verify(context.Background())
		if len(found) > 0 && err == nil {
			err = fmt.Errorf("%+v", found)
		}
		done(what, err)
	}
	return what
}

// someWorkload makes this process the writer of a workload.
func (t *trial) someWorkload(x *world) error {
	x.release()
	if err := x.open(); err != nil {
		return err
	}
	name := []string{"w", "w", "w", "v"}[t.rand.IntN(4)]
	names, err := x.s.Names()
	if err != nil {
		return err
	}
	if !slices.Contains(names, name) {
		if err := x.create(name); err != nil {
			return err
		}
	}
	if err := x.take(name); err != nil {
		return err
	}
	x.read(false)
	return nil
}

func (t *trial) someScript(gens []Generation) script {
	c := script{pages: map[int64]int{}}
	if len(gens) > 0 && t.rand.IntN(8) > 0 {
		c.parent = gens[max(len(gens)-1-t.rand.IntN(2), 0)]
		c.inherit = t.rand.IntN(5) > 0
	}
	for range t.rand.IntN(8) {
		base := []int64{0, 0, 0, 4096, high / PageSize}[t.rand.IntN(5)]
		c.pages[base+t.rand.Int64N(24)] = t.rand.IntN(40)
	}
	return c
}
