package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/wakepoint/wakepoint/internal/memory"
)

var errPlanned = errors.New("planned failure")

// failingSink fails the n-th call; lying says that the call was made all the same.
type failingSink struct {
	Sink
	left  *int
	lying bool
}

type failingSection struct {
	SectionSink
	f *failingSink
}

// step counts a call down and fails it when it is its turn.
func (f *failingSink) step(do func() error) error {
	*f.left--
	if *f.left != 0 {
		return do()
	}
	if f.lying {
		_ = do()
	}
	return errPlanned
}

func (f *failingSink) Blob(name string, p []byte) error {
	return f.step(func() error { return f.Sink.Blob(name, p) })
}

func (f *failingSink) Section(name string, inherit bool) (SectionSink, error) {
	var s SectionSink
	err := f.step(func() (err error) { s, err = f.Sink.Section(name, inherit); return err })
	return &failingSection{s, f}, err
}

func (s *failingSection) Put(off int64, p []byte) error {
	return s.f.step(func() error { return s.SectionSink.Put(off, p) })
}

func (s *failingSection) Zero(off, n int64) error {
	return s.f.step(func() error { return s.SectionSink.Zero(off, n) })
}

func (s *failingSection) Close() error { return s.f.step(s.SectionSink.Close) }

// differs compares a generation with the frozen program's memory, byte by byte.
func differs(f *Frozen, s *memStore) error {
	for _, sp := range f.image.spaces {
		pages := s.sections[sp.section()]
		full, err := memory.NewFull(sp.owner.pid)
		if err != nil {
			return err
		}
		defer full.Close()
		seen := map[int64]bool{}
		for _, a := range sp.privateAreas() {
			if a.blank {
				continue
			}
			found, err := full.Look(a.Area)
			if err != nil {
				return err
			}
			for _, r := range found.Present {
				for at := r.Start; at < r.End; at += 4096 {
					buf := make([]byte, 4096)
					if _, err := sp.space.Mem.ReadAt(buf, int64(at)); err != nil {
						return err
					}
					want, ok := pages[int64(at)]
					if !ok {
						want = make([]byte, 4096)
					}
					if !bytes.Equal(buf, want) {
						return fmt.Errorf("page %#x differs", at)
					}
					seen[int64(at)] = true
				}
			}
		}
		for at, p := range pages {
			if !seen[at] && !bytes.Equal(p, make([]byte, 4096)) {
				return fmt.Errorf("page %#x is in the generation but not in the program", at)
			}
		}
	}
	return nil
}

// TestEveryStepFails fails each step of a checkpoint in turn, both ways (not
// done; done but reported failed), and compares the next generation with the
// program's memory. Between failures there are sometimes several in a row.
func TestEveryStepFails(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	tree, out, _ := startProgram(t, dir, compiled(t, dir, "churn.c"))
	defer killTree(t, tree)
	goesOn(t, out)
	committed := checkpoint(t, tree, nil)
	ctx := context.Background()
	// one takes a checkpoint that fails at step n, or succeeds with n 0.
	one := func(n int, lying bool) (steps int, err error) {
		f, err := tree.Freeze(ctx)
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := f.Thaw(); err != nil {
				t.Fatal(err)
			}
		}()
		s := newMemStore(committed)
		left := n
		if n == 0 {
			left = 1 << 30
		}
		err = f.Dump(ctx, &failingSink{s.sink(), &left, lying}, true)
		if err != nil {
			tree.Abandoned()
			return 0, err
		}
		if err := differs(f, s); err != nil {
			t.Fatalf("after a failure: %v", err)
		}
		tree.Committed()
		committed = s
		s.parent = nil
		return 1<<30 - left, nil
	}
	steps, err := one(0, false)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for i := 1; i <= min(steps, count("WAKEPOINT_STEPS", 150)); i++ {
		for _, lying := range []bool{false, true} {
			for range 1 + i%3 {
				time.Sleep(time.Millisecond)
				if _, err := one(i, lying); err != nil && !errors.Is(err, errPlanned) {
					t.Fatal(err)
				}
			}
			if _, err := one(0, false); err != nil {
				t.Fatal(err)
			}
			n++
		}
	}
	goesOn(t, out)
	t.Logf("%d failures at up to %d steps, no difference", n, steps)
	if n < 20 {
		t.Errorf("only %d failures", n)
	}
}
