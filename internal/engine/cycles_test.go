package engine

import "testing"

// TestCycles checkpoints, kills and restores programs that check themselves.
// The full count is WAKEPOINT_CYCLES=60.
func TestCycles(t *testing.T) {
	needRoot(t)
	for _, name := range []string{"steady.c", "clocks.c", "churn.c", "spawner.c"} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			tree, out, rec := startProgram(t, dir, compiled(t, dir, name))
			defer func() { killTree(t, tree) }()
			n := count("WAKEPOINT_CYCLES", 5)
			for range n {
				goesOn(t, out)
				s := checkpoint(t, tree, nil)
				goesOn(t, out)
				s = checkpoint(t, tree, s)
				killTree(t, tree)
				tree = restored(t, s, rec)
			}
			goesOn(t, out)
			t.Logf("%d of %d cycles", n, n)
		})
	}
}
