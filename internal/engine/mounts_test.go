package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// busyHost mounts file systems below a directory and unmounts them again, each
// on a place of its own, which stays, or what is mounted there would go everywhere
// (rmdir(2)). From stop on none is mounted.
type busyHost struct {
	dir  string
	next int
	end  chan bool
	done chan error
}

func newBusyHost(t *testing.T, propagation uintptr) *busyHost {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	b := &busyHost{dir: t.TempDir()}
	if err := unix.Mount("busy", b.dir, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		b.stop(t)
		if err := unix.Unmount(b.dir, 0); err != nil {
			t.Error(err)
		}
	})
	if err := unix.Mount("", b.dir, "", propagation, ""); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *busyHost) begin() {
	end, done := make(chan bool), make(chan error, 1)
	b.end, b.done = end, done
	go func() {
		for ; ; b.next++ {
			select {
			case <-end:
				done <- nil
				return
			default:
			}
			place := fmt.Sprintf("%s/%d", b.dir, b.next)
			if err := errors.Join(os.Mkdir(place, 0o700), unix.Mount("busy", place, "tmpfs", 0, ""), unix.Unmount(place, 0)); err != nil {
				done <- err
				return
			}
		}
	}()
}

func (b *busyHost) stop(t *testing.T) {
	t.Helper()
	if b.end == nil {
		return
	}
	close(b.end)
	b.end = nil
	if err := <-b.done; err != nil {
		t.Fatal(err)
	}
}

// taken is a checkpoint of a tree; it must not be refused.
func taken(t *testing.T, tree *Tree) *memStore {
	t.Helper()
	ctx, s := context.Background(), newMemStore(nil)
	f, err := tree.Freeze(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Dump(ctx, s.sink(), false), f.Thaw()); err != nil {
		t.Fatal(err)
	}
	return s
}

// asleep starts a tree that sleeps, and ends it with the test.
func asleep(t *testing.T) *Tree {
	t.Helper()
	tree, err := Start(context.Background(), StartOptions{Argv: []string{"sleep", "1000"}, Env: os.Environ(), Dir: "/"})
	if err != nil {
		t.Fatal(err)
	}
	ending(t, tree)
	return tree
}

func ending(t *testing.T, tree *Tree) {
	t.Cleanup(func() {
		if err := errors.Join(tree.Kill(context.Background()), tree.Close()); err != nil {
			t.Error(err)
		}
	})
}

// TestHostUnmountsBesideStart: a tree keeps the mounts with which it began, of
// which the host has unmounted some before anybody could look.
func TestHostUnmountsBesideStart(t *testing.T) {
	b := newBusyHost(t, unix.MS_PRIVATE)
	for range 15 {
		b.begin()
		tree := asleep(t)
		b.stop(t)
		s := taken(t, tree)
		b.begin()
		r, err := Restore(context.Background(), s.source(), RestoreOptions{})
		if err != nil {
			t.Fatal(err)
		}
		tree, err = r.Run()
		if err != nil {
			t.Fatal(err)
		}
		ending(t, tree)
		b.stop(t)
		taken(t, tree)
	}
}

// TestHostUnmountsBesideCheckpoint: what the host mounts appears inside and
// goes with the host's, also between two looks at them.
func TestHostUnmountsBesideCheckpoint(t *testing.T) {
	b := newBusyHost(t, unix.MS_SHARED)
	tree := asleep(t)
	b.begin()
	for range 300 {
		taken(t, tree)
	}
}
