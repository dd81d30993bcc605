package engine

import (
	"context"
	"strings"
	"testing"
)

// TestOtherVdso restores as if the kernel's vdso were another one: the entry
// points of the old one are redirected. A generation taken then must restore too.
func TestOtherVdso(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	tree, out, rec := startProgram(t, dir, compiled(t, dir, "clocks.c"))
	defer func() { killTree(t, tree) }()
	for i := range count("WAKEPOINT_CYCLES", 6) {
		goesOn(t, out)
		s := checkpoint(t, tree, nil)
		killTree(t, tree)
		r, err := Restore(context.Background(), s.source(), RestoreOptions{Record: rec, otherVdso: i%2 == 0})
		if err != nil && strings.Contains(err.Error(), "inside the vdso of another kernel") {
			t.Log(err) // it never left it: refused by name
			r, err = Restore(context.Background(), s.source(), RestoreOptions{Record: rec})
		}
		if err != nil {
			t.Fatal(err)
		}
		if tree, err = r.Run(); err != nil {
			t.Fatal(err)
		}
	}
	goesOn(t, out)
}
