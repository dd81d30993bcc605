package engine

import (
	"context"
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// killingSink kills the program at the n-th call.
type killingSink struct {
	Sink
	left *int
	pid  int
}

func (k killingSink) Section(name string, inherit bool) (SectionSink, error) {
	k.call()
	s, err := k.Sink.Section(name, inherit)
	return killingSection{s, k}, err
}

func (k killingSink) call() {
	if *k.left--; *k.left == 0 {
		_ = unix.Kill(k.pid, unix.SIGKILL)
	}
}

type killingSection struct {
	SectionSink
	k killingSink
}

func (s killingSection) Put(off int64, p []byte) error {
	s.k.call()
	return s.SectionSink.Put(off, p)
}

// TestKilledWhileSaved kills the program in the middle of its dump: no
// generation may come of it, and nothing may stay attached.
func TestKilledWhileSaved(t *testing.T) {
	needRoot(t)
	for i := 1; i <= 6; i++ {
		dir := t.TempDir()
		tree, out, _ := startProgram(t, dir, compiled(t, dir, "steady.c"))
		goesOn(t, out)
		f, err := tree.Freeze(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		left := i
		err = f.Dump(context.Background(), killingSink{newMemStore(nil).sink(), &left, int(tree.Handle().Command)}, false)
		if err == nil {
			t.Errorf("killed at call %d: a generation of a dead program", i)
		}
		if err := f.Thaw(); err != nil {
			t.Error(err)
		}
		tree.Abandoned()
		<-tree.CommandDone()
		if _, err := tree.Freeze(context.Background()); !errors.Is(err, os.ErrProcessDone) {
			t.Errorf("freeze of a dead program: %v", err)
		}
		killTree(t, tree)
	}
}
