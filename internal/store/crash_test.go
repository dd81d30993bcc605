package store

import (
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"

	"github.com/wakepoint/wakepoint/internal/disk"
	"github.com/wakepoint/wakepoint/internal/disk/crashfs"
)

// The crash suite does all that writes to a store on a disk that forgets what
// was not synced, and stops it at every call: the power is cut, the call
// fails, or it fails although it was done, or the process ends. What is left
// must keep every promise that was given until then, and the store must go on;
// and so again when that is cut.

// stage is a scene that is set: a disk, and a process that is ready.
type stage struct {
	scene
	disk   *crashfs.FS
	ledger ledger
}

func newStage(t testing.TB, s scene) *stage {
	x := newWorld(crashfs.New(), ledger{books: map[string]*book{}})
	if err := s.base(x); err != nil {
		t.Fatalf("%s: %v", s.name, err)
	}
	x.release()
	return &stage{s, syncedAll(t, x.disk), x.ledger}
}

// syncedAll is the disk with everything durable.
func syncedAll(t testing.TB, d *crashfs.FS) *crashfs.FS { return d.Crash(crashfs.KeepAll) }

// play does the scene on a copy of the stage.
func (s *stage) play(t testing.TB, r *rig) (x *world, err error) {
	x = newWorld(s.disk.Crash(crashfs.LoseAll), s.ledger.clone())
	if err := s.ready(x); err != nil {
		t.Fatalf("%s: %v", s.name, err)
	}
	r.x = x
	x.disk.Watch(r.watch)
	err = s.do(x)
	r.done()
	return x, err
}

// trial counts what was tried, and reports what broke.
type trial struct {
	testing.TB
	rand   *rand.Rand
	points map[string]bool // scene, call and way
	disks  int
	every  bool // whether who goes on where one was killed is cut at every call
	broken []brokenPromise

	sabotage func(d *crashfs.FS, op disk.Op) disk.Verdict // what is taken out; nil: nothing
}

func newTrial(t testing.TB, seed uint64) *trial {
	return &trial{TB: t, rand: rand.New(rand.NewPCG(seed, 1)), points: map[string]bool{}}
}

// judge reports what is broken.
func (t *trial) judge(where string, x *world) {
	for _, b := range x.broken {
		b.what = where + ": " + b.what
		t.broken = append(t.broken, b)
	}
}

// check recovers from an image, and from what a cut leaves of that recovery.
func (t *trial) check(i image, depth int) {
	t.disks++
	x := newWorld(i.disk, i.ledger)
	r := &rig{x: x, name: i.from + "; recovery", sabotage: t.sabotage}
	if depth > 0 {
		r.cuts = t.oneOf(changesMax)
	}
	if depth > 0 || t.sabotage != nil {
		x.disk.Watch(r.watch)
	}
	x.recover(true)
	t.judge(i.from, x)
	for _, again := range r.images {
		t.check(again, depth-1)
	}
}

// changesMax is how often a process changes the disk that recovers and goes on,
// about.
const changesMax = 45

// oneOf cuts the power once, before one of the first n calls that change the
// disk: what a process begins with is reading, for some hundred calls.
func (t *trial) oneOf(n int) (cuts func(call int) []uint64) {
	at, seed, changes := 1+t.rand.IntN(n), t.seed(), 0
	return func(int) []uint64 {
		if changes++; changes == at {
			return []uint64{seed}
		}
		return nil
	}
}

// seed draws what is left by a cut: often an extreme.
func (t *trial) seed() uint64 {
	if t.rand.IntN(2) == 0 {
		return t.rand.Uint64N(crashfs.Drawn)
	}
	return crashfs.Drawn + t.rand.Uint64N(1000)
}

// everyCut plays a scene once and cuts the power before every call.
func (t *trial) everyCut(s *stage, seeds int) *rig {
	r := &rig{name: s.name}
	r.cuts = func(call int) []uint64 {
		t.points[fmt.Sprintf("%s/%d/%v", s.name, call, cutBefore)] = true
		var all []uint64
		for i := range seeds {
			if i < crashfs.Drawn {
				all = append(all, uint64(i))
			} else {
				all = append(all, t.seed())
			}
		}
		return all
	}
	r.sabotage = t.sabotage
	x, err := s.play(t, r)
	x.release()
	if err != nil {
		x.breaks("what is asked for is done", "%v", err)
	}
	t.judge(s.name, x)
	for i, img := range r.images {
		t.check(img, btoi(i%8 == 0))
	}
	return r
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// everyFault plays a scene with one call that fails, for every call and way.
// Where something was taken out, one promise that breaks is enough.
func (t *trial) everyFault(s *stage, changes []bool, share int) {
	for at := 1; at <= len(changes); at++ {
		for _, w := range []way{failed, lied, killed} {
			if w != failed && !changes[at-1] || t.rand.IntN(share) != 0 {
				continue
			}
			if t.sabotage != nil && len(t.broken) > 0 {
				return
			}
			t.points[fmt.Sprintf("%s/%d/%v", s.name, at, w)] = true
			t.oneFault(s, at, w)
		}
	}
}

// oneFault plays a scene with one call that fails. The power is cut at two
// calls that come later, and at the end; and without a cut the writer goes on,
// or another one takes over.
func (t *trial) oneFault(s *stage, at int, w way) {
	r := &rig{name: fmt.Sprintf("%s, call %d %v", s.name, at, w), at: at, way: w, err: syscall.EIO, sabotage: t.sabotage}
	if t.rand.IntN(2) == 0 {
		r.err = syscall.ENOSPC
	}
	later := at + 1 + t.rand.IntN(12)
	r.cuts = func(call int) []uint64 {
		if call == later {
			return []uint64{t.seed()}
		}
		return nil
	}
	x, err := s.play(t, r)
	if err == nil && r.calls < at && t.sabotage == nil {
		t.Fatalf("%s: only %d calls", r.name, r.calls)
	}
	for range 2 {
		r.images = append(r.images, image{x.disk.Crash(t.seed()), x.ledger.clone(), r.name + ", cut at the end"})
	}
	for _, img := range r.images {
		t.check(img, 0)
	}
	if t.judge(r.name, x); len(x.broken) > 0 {
		return
	}
	if x.lock != nil && w != killed && t.rand.IntN(2) == 0 {
		if x.read(false); len(x.broken) == 0 {
			x.goOn(false)
		}
		if t.judge(r.name+", the same writer", x); len(x.broken) > 0 {
			return
		}
	}
	x.release()
	t.goOn(r.name, x, t.every && w == killed)
}

// goOn lets another process go on where one has ended, with the power on and
// then off: at one call, or at every one.
func (t *trial) goOn(name string, x *world, every bool) {
	y := newWorld(x.disk, x.ledger.clone())
	r := &rig{x: y, name: name + ", another process", sabotage: t.sabotage, cuts: t.oneOf(changesMax)}
	if every {
		r.cuts = func(int) []uint64 { return []uint64{t.seed()} }
	}
	y.disk.Watch(r.watch)
	y.recover(false)
	y.disk.Watch(nil)
	t.judge(r.name, y)
	if len(y.broken) == 0 {
		r.images = append(r.images, image{y.disk.Crash(crashfs.LoseAll), y.ledger.clone(), r.name + ", cut at the end"})
	}
	for _, img := range r.images {
		t.check(img, 0)
	}
}

// report fails the test for what broke.
func (t *trial) report() {
	for i, b := range t.broken {
		if i == 60 {
			t.Errorf("and %d more", len(t.broken)-i)
			break
		}
		t.Error(b)
	}
}

// faultShare is of how many faults one is tried, so that the suite is quick.
const faultShare = 8

// TestCrash goes through every scene: every cut, and a share of the faults.
func TestCrash(t *testing.T) {
	all, possible, share := newTrial(t, 1), 0, faultShare
	if *crashEvery {
		all.every, share = true, 1
	}
	for _, s := range scenes {
		st := newStage(t, s)
		r := all.everyCut(st, 6)
		all.everyFault(st, r.changes, share)
		for _, changes := range r.changes {
			possible += 1 + 3*btoi(changes)
		}
		possible++ // the cut at the end
	}
	all.report()
	t.Logf("%d of %d cut points, %d disks", len(all.points), possible, all.disks)
	if len(all.points) < 500 {
		t.Error("they are too few")
	}
}
