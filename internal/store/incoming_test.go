package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/wakepoint/wakepoint/internal/disk"
	"github.com/wakepoint/wakepoint/internal/disk/crashfs"
)

// TestIncoming: what comes in is seen by nobody before it has its name, and
// what others do meanwhile does not touch it.
func TestIncoming(t *testing.T) {
	s, err := Open(filepath.Join(t.TempDir(), "store"), Options{Heads: filepath.Join(t.TempDir(), "heads")})
	must(t, err)
	w, own, err := s.Incoming("web")
	must(t, err)
	write(t, w, 0, false, change1)
	if _, _, err := s.Incoming("web"); !errors.Is(err, ErrLocked) {
		t.Errorf("two of one name: %v", err)
	}
	if _, err := s.Create("other"); err != nil {
		t.Fatal(err)
	}
	must(t, s.Remove("other"))
	if names, err := s.Names(); err != nil || len(names) != 0 {
		t.Errorf("names: %v, %v", names, err)
	}
	must(t, w.PutRecord("spec", []byte("x")))
	in, err := s.Admit(w, "web")
	must(t, err)
	if _, err := in.Lock(); !errors.Is(err, ErrLocked) {
		t.Errorf("its lock did not stay: %v", err)
	}
	must(t, own.Close())
	if _, err := contents(in, 1); err != nil {
		t.Error(err)
	}
	if h := in.readHead(); h == nil || h.Generation != 1 || in.Older() != nil {
		t.Errorf("its head: %+v, %v", h, in.Older())
	}
	if _, _, err := s.Incoming("web"); !errors.Is(err, ErrExist) {
		t.Errorf("a name that is taken: %v", err)
	}

	w, own, err = s.Incoming("two")
	must(t, err)
	write(t, w, 0, false, change1)
	if _, err := s.Create("two"); err != nil { // somebody was faster
		t.Fatal(err)
	}
	if _, err := s.Admit(w, "two"); !errors.Is(err, ErrExist) {
		t.Errorf("admitted to a name that is taken: %v", err)
	}
	must(t, s.TurnAway(w, own))
	entries, err := os.ReadDir(filepath.Join(s.Dir(), workloadsDir))
	if err != nil || len(entries) != 2 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
	heads, err := os.ReadDir(s.o.Heads)
	if err != nil || len(heads) != 1 {
		t.Errorf("heads: %v, %v", heads, err)
	}
}

// comeIn brings a workload in, as an import does.
func comeIn(d disk.FS) error {
	s, err := Open("/store", Options{FS: d, Heads: "/heads"})
	if err != nil {
		return err
	}
	w, own, err := s.Incoming("web")
	if err != nil {
		return err
	}
	defer own.Close()
	if _, err := tryWrite(w, 0, false, change1); err != nil {
		return err
	}
	if err := w.PutRecord("spec", []byte("x")); err != nil {
		return err
	}
	_, err = s.Admit(w, "web")
	return err
}

// TestIncomingCut cuts the power, or ends the process, at each call: there is
// the whole workload, or none and nothing is left of it. One that was reported
// to be there is.
func TestIncomingCut(t *testing.T) {
	for at, told := 1, false; !told; at++ {
		d := crashfs.New()
		n := 0
		d.Watch(func(disk.Op) (disk.Verdict, error) {
			if n++; n >= at {
				return disk.Fail, syscall.EIO
			}
			return disk.Do, nil
		})
		told = comeIn(d) == nil
		d.Watch(nil)
		for _, left := range []uint64{crashfs.KeepAll, crashfs.LoseAll, crashfs.Drawn, crashfs.Drawn + 1} {
			if err := cameIn(d.Crash(left), told); err != nil {
				t.Errorf("cut at call %d, seed %d: %v", at, left, err)
			}
		}
	}
}

func cameIn(d *crashfs.FS, told bool) error {
	s, err := Open("/store", Options{FS: d, Heads: "/heads"})
	if err != nil {
		return err
	}
	if _, err := s.Create("next"); err != nil {
		return err
	}
	var want []string
	if w, err := s.Workload("web"); err == nil {
		want = append(want, "web")
		if text, err := w.Record("spec"); err != nil || string(text) != "x" {
			return fmt.Errorf("half of it came in: %q, %w", text, err)
		}
		if _, err := contents(w, 1); err != nil {
			return err
		}
	} else if told {
		return errors.New("it was reported to be there and is not")
	}
	want = append([]string{"next"}, want...)
	entries, err := d.ReadDir("/store/workloads")
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if err != nil || !slices.Equal(got, want) {
		return fmt.Errorf("there are %q, not %q: %w", got, want, err)
	}
	return nil
}
