package engine

import (
	"os"
	"strconv"
	"testing"
)

// count is a number of repetitions from the environment.
func count(name string, short int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil && n > 0 {
		return n
	}
	return short
}

// TestFreezeSpawner checkpoints a program that spawns children all the time.
// The full count is 1,000 (WAKEPOINT_CHECKPOINTS=1000).
func TestFreezeSpawner(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	tree, out, rec := startProgram(t, dir, compiled(t, dir, "spawner.c"))
	defer func() { killTree(t, tree) }()
	goesOn(t, out)
	n := count("WAKEPOINT_CHECKPOINTS", 100)
	var s *memStore
	for range n {
		s = checkpoint(t, tree, nil)
	}
	goesOn(t, out)
	killTree(t, tree)
	tree = restored(t, s, rec)
	goesOn(t, out)
	t.Logf("%d of %d checkpoints", n, n)
}
