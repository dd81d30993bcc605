package engine

import (
	"context"
	"errors"
	"testing"
	"time"
)

// TestPrecopy copies the memory of a program that changes all the time while
// it runs, freezes it, dumps the rest, and compares with its memory. Every
// other time the dump fails, and the next generation must be whole all the same.
func TestPrecopy(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	tree, out, rec := startProgram(t, dir, compiled(t, dir, "churn.c"))
	defer func() { killTree(t, tree) }()
	tree.precopyMin = 0
	goesOn(t, out)
	ctx := context.Background()
	var s *memStore
	for i := range count("WAKEPOINT_CYCLES", 20) {
		s = newMemStore(nil)
		if err := tree.Precopy(ctx, s.sink()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Millisecond)
		f, err := tree.Freeze(ctx)
		if err != nil {
			t.Fatal(err)
		}
		left := 1 << 30
		if i%2 == 1 {
			left = 1 + i
		}
		err = f.Dump(ctx, &failingSink{s.sink(), &left, false}, false)
		if err == nil {
			err = differs(f, s)
		}
		if terr := f.Thaw(); terr != nil {
			t.Fatal(terr)
		}
		if err != nil && !errors.Is(err, errPlanned) {
			t.Fatal(err)
		}
		if err != nil {
			tree.Abandoned()
			continue
		}
		tree.Committed()
		// An inheriting generation on top of it must be whole, too.
		time.Sleep(2 * time.Millisecond)
		checkWhole(t, tree, s)
		tree.CopyAll(false) // forget everything: the next one is the first again
	}
	s = newMemStore(nil)
	if err := tree.Precopy(ctx, s.sink()); err != nil {
		t.Fatal(err)
	}
	s = dumpInto(t, tree, s)
	killTree(t, tree)
	tree = restored(t, s, rec)
	goesOn(t, out)
}

func checkWhole(t *testing.T, tree *Tree, parent *memStore) {
	t.Helper()
	ctx := context.Background()
	f, err := tree.Freeze(ctx)
	if err != nil {
		t.Fatal(err)
	}
	s := newMemStore(parent)
	err = f.Dump(ctx, s.sink(), true)
	if err == nil {
		err = differs(f, s)
	}
	if err := errors.Join(err, f.Thaw()); err != nil {
		t.Fatal(err)
	}
	tree.Committed()
}

func dumpInto(t *testing.T, tree *Tree, s *memStore) *memStore {
	t.Helper()
	ctx := context.Background()
	f, err := tree.Freeze(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Dump(ctx, s.sink(), false), differs(f, s), f.Thaw()); err != nil {
		t.Fatal(err)
	}
	tree.Committed()
	return s
}
