package store

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/wakepoint/wakepoint/internal/disk"
)

// mount makes a small file system in memory.
func mount(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: mount")
	}
	dir := t.TempDir()
	if err := syscall.Mount("wakepoint-test", dir, "tmpfs", 0, "size=8m,mode=0700"); err != nil {
		t.Skipf("needs to mount a tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	return dir
}

// TestFull fills the disk in a commit. Nothing that was committed is lost,
// what the failed commit wrote is gone, and it goes on when there is room.
func TestFull(t *testing.T) {
	dir := filepath.Join(mount(t), "w")
	w := lockedWorkload(t, disk.OS{}, dir)
	write(t, w, 0, false, change1)
	tooMuch := func(s *SectionWriter) error {
		for i := range 4096 {
			if err := s.Put(int64(i)*PageSize, page(i)); err != nil {
				return err
			}
		}
		return nil
	}
	for range 3 {
		if _, err := tryWrite(w, 1, true, tooMuch); !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("commit on a full disk: %v", err)
		}
	}
	if _, err := contents(w, 1); err != nil {
		t.Error(err)
	}
	noLeftovers(t, "full", w)
	if g := write(t, w, 1, true, change2); g.Generation != 5 {
		t.Errorf("the next one is %v", g.Generation)
	}
}

// TestReadOnly opens a store on a file system that cannot be written.
func TestReadOnly(t *testing.T) {
	dir := mount(t)
	s, err := Open(filepath.Join(dir, "store"), Options{})
	must(t, err)
	if !s.Volatile() {
		t.Error("a store on tmpfs is not called volatile")
	}
	w, err := s.Create("web")
	must(t, err)
	l, err := w.Lock()
	must(t, err)
	write(t, w, 0, false, change1)
	must(t, w.PutRecord("policy", []byte("x")))
	must(t, l.Close())
	must(t, syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""))

	s, err = Open(filepath.Join(dir, "store"), Options{})
	must(t, err)
	names, err := s.Names()
	if err != nil || len(names) != 1 {
		t.Errorf("names: %v, %v", names, err)
	}
	w, err = s.Workload("web")
	must(t, err)
	if _, err := contents(w, 1); err != nil {
		t.Error(err)
	}
	if text, err := w.Record("policy"); err != nil || string(text) != "x" {
		t.Errorf("record: %q, %v", text, err)
	}
	if _, err := w.Lock(); !errors.Is(err, syscall.EROFS) {
		t.Errorf("lock: %v", err)
	}
	if err := w.PutRecord("policy", nil); !errors.Is(err, syscall.EROFS) {
		t.Errorf("put record: %v", err)
	}
	if _, err := s.Create("db"); !errors.Is(err, syscall.EROFS) {
		t.Errorf("create: %v", err)
	}
}
