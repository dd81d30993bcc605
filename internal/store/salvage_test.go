package store

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A workload that has lost its head is listed, named as damaged and can be
// removed; one that was never quite made is none.
func TestSalvage(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "s")
	s, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"lost", "empty", "whole"} {
		w, err := s.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		l, err := w.Lock()
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(w.PutRecord("spec", []byte(name)), l.Close()); err != nil {
			t.Fatal(err)
		}
	}
	head := func(name string) string { return filepath.Join(dir, workloadsDir, name, workloadFile) }
	if err := errors.Join(os.Remove(head("lost")), os.Truncate(head("empty"), 0), os.Mkdir(filepath.Join(dir, workloadsDir, "unmade"), 0o700)); err != nil {
		t.Fatal(err)
	}
	names, err := s.Names()
	if d := cmp.Diff([]string{"empty", "lost", "whole"}, names); d != "" || err != nil {
		t.Errorf("%v\n%s", err, d)
	}
	for _, name := range []string{"lost", "empty"} {
		if _, err := s.Workload(name); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := s.Create(name); !errors.Is(err, ErrExist) {
			t.Errorf("create %s: %v", name, err)
		}
		w, err := s.Salvage(name)
		if err != nil {
			t.Fatal(err)
		}
		if p, err := w.Record("spec"); err != nil || string(p) != name {
			t.Errorf("record of %s: %q %v", name, p, err)
		}
		if err := s.Remove(name); err != nil {
			t.Errorf("remove %s: %v", name, err)
		}
	}
	if _, err := s.Workload("unmade"); !errors.Is(err, ErrNotFound) {
		t.Errorf("unmade: %v", err)
	}
	if _, err := s.Create("unmade"); err != nil {
		t.Errorf("create what was never made: %v", err)
	}
}
