package store

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/wakepoint/wakepoint/internal/disk"
	"github.com/wakepoint/wakepoint/internal/seal"
)

// TestHead puts a workload back from a copy. That is seen, and what goes on
// uses no number twice.
func TestHead(t *testing.T) {
	top := t.TempDir()
	o := Options{Heads: filepath.Join(top, "etc", "heads"), Key: seal.New(), FS: unsynced{},
		Warn: func(err error) { t.Error(err) }}
	dir := filepath.Join(top, "w")
	open := func() *Workload {
		t.Helper()
		w, err := OpenWorkload(dir, o)
		must(t, err)
		return w
	}
	commit := func(parent Generation) Info {
		t.Helper()
		w := open()
		l, err := w.Lock()
		must(t, err)
		defer l.Close()
		info := write(t, w, parent, parent != 0, change1)
		return info
	}
	if err := open().Older(); err != nil {
		t.Errorf("new: %v", err)
	}
	commit(0)
	must(t, os.CopyFS(filepath.Join(top, "copy"), os.DirFS(dir)))
	for g := range Generation(3) {
		commit(g + 1)
	}
	if err := open().Older(); err != nil {
		t.Errorf("as it is: %v", err)
	}
	whole, err := os.ReadFile(filepath.Join(dir, stateFile))
	must(t, err)
	must(t, os.Remove(filepath.Join(dir, stateFile)))
	if err := open().Older(); err != nil {
		t.Errorf("the state is lost: %v", err)
	}
	must(t, os.WriteFile(filepath.Join(dir, stateFile), whole, 0o600))
	w := open()
	l, err := w.Lock()
	must(t, err)
	must(t, w.Forget(4))
	must(t, l.Close())
	if err := open().Older(); err != nil {
		t.Errorf("the newest was forgotten: %v", err)
	}

	must(t, os.RemoveAll(dir))
	must(t, os.Mkdir(dir, 0o700))
	must(t, os.CopyFS(dir, os.DirFS(filepath.Join(top, "copy"))))
	private(t, dir)
	var older *OlderError
	if err := open().Older(); !errors.As(err, &older) || older.Newest != 1 || older.Committed != 4 || !errors.Is(err, ErrOlder) {
		t.Fatalf("put back: %v", err)
	}
	if info := commit(1); info.Generation != 5 || info.Epoch < 6 {
		t.Errorf("it goes on with %v of epoch %d", info.Generation, info.Epoch)
	}
	if err := open().Older(); err != nil {
		t.Errorf("after it was accepted: %v", err)
	}
}

// TestHeadOther gives the newest generation other contents under its number.
func TestHeadOther(t *testing.T) {
	top := t.TempDir()
	k := seal.New()
	dir := filepath.Join(top, "w")
	commit := func(heads string, parent Generation) {
		t.Helper()
		w, err := OpenWorkload(dir, Options{Key: k, FS: unsynced{}, Heads: heads})
		must(t, err)
		l, err := w.Lock()
		must(t, err)
		write(t, w, parent, parent != 0, change1)
		must(t, l.Close())
	}
	commit("", 0)
	must(t, os.CopyFS(filepath.Join(top, "copy"), os.DirFS(dir)))
	commit(filepath.Join(top, "heads"), 1)
	must(t, os.RemoveAll(dir))
	must(t, os.Mkdir(dir, 0o700))
	must(t, os.CopyFS(dir, os.DirFS(filepath.Join(top, "copy"))))
	private(t, dir)
	commit("", 1) // a g2 too
	w, err := OpenWorkload(dir, Options{Key: k, Heads: filepath.Join(top, "heads")})
	must(t, err)
	if err := w.Older(); !errors.Is(err, ErrOlder) {
		t.Errorf("another g2: %v", err)
	}
}

// private gives copied files their modes back.
func private(t *testing.T, dir string) {
	t.Helper()
	must(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.Chmod(path, 0o700)
		}
		return os.Chmod(path, 0o600)
	}))
	must(t, disk.OS{}.Private(dir))
}
