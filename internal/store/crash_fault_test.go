package store

import (
	"errors"
	"strings"
	"syscall"
	"testing"

	"github.com/wakepoint/wakepoint/internal/disk"
	"github.com/wakepoint/wakepoint/internal/disk/crashfs"
)

// TestFsyncNotTrusted makes each fsync of a file fail, in every scene, done or
// not. From then on the file gets no name, is not written to and not fsynced
// again: it is removed, or made anew.
func TestFsyncNotTrusted(t *testing.T) {
	fsyncs := 0
	for _, s := range scenes {
		st := newStage(t, s)
		var syncs []int // which calls are one
		r := &rig{name: s.name}
		r.seen = func(op disk.Op) {
			if op.Verb == "sync" {
				syncs = append(syncs, r.calls)
			}
		}
		x, err := st.play(t, r)
		x.release()
		must(t, err)
		for _, at := range syncs {
			for _, w := range []way{failed, lied} {
				fsyncs++
				st.distrust(t, at, w)
			}
		}
	}
	if fsyncs < 40 {
		t.Errorf("only %d fsyncs", fsyncs)
	}
}

// distrust plays a scene in which an fsync fails.
func (s *stage) distrust(t *testing.T, at int, w way) {
	r := &rig{name: s.name, at: at, way: w, err: syscall.EIO}
	bad := map[string]bool{}
	failedOne := false
	r.seen = func(op disk.Op) {
		switch {
		case r.calls == at && op.Verb == "sync":
			bad[op.Name], failedOne = true, true
		case op.Verb == "remove" || op.Verb == "create":
			delete(bad, op.Name)
		case bad[op.Name] && crashfs.Changes(op):
			t.Errorf("%s: after its fsync failed: %v", s.name, op)
		}
	}
	x, err := s.play(t, r)
	defer x.release()
	// A pack's fsync goes on by the side, so that the calls may change places;
	// a head is a witness, on which nothing depends.
	if failedOne && err == nil {
		for name := range bad {
			if !strings.HasPrefix(name, crashHeads) {
				t.Errorf("%s: the fsync of %s failed, and nobody said so", s.name, name)
			}
		}
	}
}

// commits are the scenes that commit.
func commits() (all []scene) {
	for _, s := range scenes {
		if strings.Contains(s.name, "commit") {
			all = append(all, s)
		}
	}
	return all
}

// TestNoSpace lets each call of a commit that takes room report that there is
// none. Every generation stays, and when there is room commits go on.
func TestNoSpace(t *testing.T) {
	for _, s := range commits() {
		st := newStage(t, s)
		r := &rig{name: s.name}
		x, err := st.play(t, r)
		must(t, err)
		x.release()
		for at, changes := range r.changes {
			for _, w := range []way{failed, lied} {
				if changes {
					r := &rig{name: s.name, at: at + 1, way: w, err: syscall.ENOSPC}
					x, err := st.play(t, r)
					st.afterFull(t, x, err)
				}
			}
		}
	}
}

// TestRoom gives a commit every room that is too small, and then enough.
func TestRoom(t *testing.T) {
	for _, s := range commits() {
		st := newStage(t, s)
		fulls := 0
		for room := int64(0); ; room += crashfs.Sector {
			x := newWorld(st.disk.Crash(crashfs.LoseAll), st.ledger.clone())
			must(t, st.ready(x))
			x.disk.SetRoom(room)
			err := s.do(x)
			if err == nil {
				x.release()
				break
			}
			fulls++
			// The disk is as full as before: once more, which fails as well, and
			// leaves nothing that takes what room there is.
			if err := s.do(x); !errors.Is(err, syscall.ENOSPC) {
				t.Errorf("%s, room %d, again: %v", s.name, room, err)
			}
			x.read(false)
			x.disk.SetRoom(-1)
			st.afterFull(t, x, err)
		}
		if fulls < 4 {
			t.Errorf("%s: full %d times", s.name, fulls)
		}
	}
}

// afterFull checks what is there after a commit that found no room, and that
// the next one works.
func (s *stage) afterFull(t *testing.T, x *world, err error) {
	t.Helper()
	if err != nil && !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("%s: %v", s.name, err)
	}
	if x.read(false); len(x.broken) == 0 {
		x.goOn(false)
	}
	x.release()
	for _, b := range x.broken {
		t.Errorf("%s: %v", s.name, b)
	}
}

// TestFirstLockCut ends the process that makes a workload before its name is
// durable, and cuts the power while the next one locks that. There is the
// workload, or its name can be taken.
func TestFirstLockCut(t *testing.T) {
	st, all := newStage(t, scenes[0]), newTrial(t, 1)
	last, calls := 0, 0
	r := &rig{name: st.name}
	r.seen = func(op disk.Op) {
		if calls++; op.Verb == "syncdir" {
			last = calls
		}
	}
	x, err := st.play(t, r)
	must(t, err)
	x.release()
	for n := range uint64(12) {
		x, _ := st.play(t, &rig{name: st.name, at: last, way: killed})
		x.release()
		y := newWorld(x.disk, x.ledger.clone())
		r := &rig{x: y, name: "the first lock"}
		r.cuts = func(int) []uint64 {
			return []uint64{crashfs.Drawn + 3*n, crashfs.Drawn + 3*n + 1, crashfs.Drawn + 3*n + 2}
		}
		y.disk.Watch(r.watch)
		must(t, taken(y))
		y.disk.Watch(nil)
		for _, img := range r.images {
			all.check(img, 0)
		}
	}
	all.report()
}
