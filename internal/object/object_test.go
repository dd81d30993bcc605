package object

import (
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"testing"

	"github.com/wakepoint/wakepoint/internal/disk"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func list(t *testing.T, d *Dir) []string {
	t.Helper()
	names, err := d.List()
	must(t, err)
	return names
}

func TestDir(t *testing.T) {
	d := Open(disk.OS{}, filepath.Join(t.TempDir(), "a", "b"))
	if names := list(t, d); len(names) != 0 {
		t.Errorf("a directory that is missing holds %v", names)
	}
	must(t, d.Make())
	must(t, d.Put("y", []byte("why")))
	w, err := d.Create("x")
	must(t, err)
	_, err = w.Write([]byte("ex"))
	must(t, err)
	if names := list(t, d); !slices.Equal(names, []string{"y"}) {
		t.Errorf("an object shows before it is complete: %v", names)
	}
	must(t, w.Sync())
	must(t, w.Publish())
	must(t, d.Sync())
	if names := list(t, d); !slices.Equal(names, []string{"x", "y"}) {
		t.Errorf("list: %v", names)
	}
	if b, err := d.Get("x", 10); err != nil || string(b) != "ex" {
		t.Errorf("get: %q, %v", b, err)
	}
	must(t, d.Delete("x"))
	if _, err := d.Get("x", 10); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("get after delete: %v", err)
	}
}

func TestLeftovers(t *testing.T) {
	d := Open(disk.OS{}, t.TempDir())
	_, err := d.Create("x")
	must(t, err)
	names, err := d.Leftovers()
	if err != nil || !slices.Equal(names, []string{"x"}) {
		t.Errorf("leftovers: %v, %v", names, err)
	}
	_, err = d.Create("x") // in place of what a dead writer left
	must(t, err)
	must(t, d.Sweep())
	if names, err := d.Leftovers(); err != nil || len(names) != 0 {
		t.Errorf("after sweep: %v, %v", names, err)
	}
}

// TestFsyncFailure: after one, the object is lost, whatever fsync says later.
func TestFsyncFailure(t *testing.T) {
	failed := false
	d := Open(disk.Watch(disk.OS{}, func(op disk.Op) disk.Verdict {
		if op.Verb == "sync" && !failed {
			failed = true
			return disk.Fail
		}
		return disk.Do
	}), t.TempDir())
	w, err := d.Create("x")
	must(t, err)
	_, err = w.Write([]byte("ex"))
	must(t, err)
	for range 2 {
		if err := w.Sync(); !errors.Is(err, disk.ErrInjected) {
			t.Errorf("sync: %v", err)
		}
	}
	if err := w.Publish(); !errors.Is(err, disk.ErrInjected) {
		t.Errorf("publish: %v", err)
	}
	must(t, w.Abort())
	if names, err := d.Leftovers(); err != nil || len(names) != 0 {
		t.Errorf("after abort: %v, %v", names, err)
	}
}
