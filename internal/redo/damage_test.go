package redo

import (
	"errors"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/wakepoint/wakepoint/internal/disk"
	"github.com/wakepoint/wakepoint/internal/disk/crashfs"
)

// spoil tries what becomes of a closed log when a file is damaged: all is there
// that was acknowledged, or it is said what is not. It returns how often it was.
func spoil(t *testing.T, d *crashfs.FS, acked []string, what string, damage func(after *crashfs.FS) error) (said int) {
	t.Helper()
	after := d.Crash(0)
	must(t, damage(after))
	var got []string
	l, err := read(after, 0, &got)
	if err != nil {
		if !errors.As(err, new(*DamageError)) {
			t.Errorf("%s: %v", what, err)
		}
		return 1
	}
	if err := held(acked, acked, got); err != nil {
		t.Errorf("%s: %v", what, err)
	}
	must(t, l.Close())
	return 0
}

// overwrite replaces a part of a file, and waits for the disk.
func overwrite(d disk.FS, name string, b []byte, at int64) error {
	f, err := d.Modify(name)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(b, at)
	return errors.Join(err, f.Sync(), f.Close())
}

// TestBlocks: of a log that was closed no block of any file can become zeros, or
// what it never was, and no file shorter, without that being said or without
// harm.
func TestBlocks(t *testing.T) {
	d := fresh(t)
	var acked []string
	var err error
	for range 3 {
		acked, _, err = life(d, rand.New(rand.NewPCG(3, 3)), 12)
		must(t, err)
	}
	garbage := make([]byte, pageSize)
	for i := range garbage {
		garbage[i] = byte(i*7 + 1)
	}
	entries, err := d.ReadDir("/log")
	must(t, err)
	said := 0
	for _, e := range entries {
		name := filepath.Join("/log", e.Name())
		fi, err := d.Lstat(name)
		must(t, err)
		for at := int64(0); at < fi.Size(); at += pageSize {
			for what, b := range map[string][]byte{"zeros": make([]byte, pageSize), "garbage": garbage} {
				n := spoil(t, d, acked, what+" in "+name, func(after *crashfs.FS) error { return overwrite(after, name, b, at) })
				if said += n; at == 0 && n == 0 {
					t.Errorf("%s for the header of %s: nobody noticed", what, name)
				}
			}
			for _, size := range []int64{at, at + 1} {
				n := spoil(t, d, acked, "the end of "+name, func(after *crashfs.FS) error { return after.Cut(name, size) })
				if said += n; size < pageSize && n == 0 {
					t.Errorf("%s has %d bytes: nobody noticed", name, size)
				}
			}
		}
	}
	t.Logf("%d said, of %d files", said, len(entries))
}

// TestMade: a log that was made before is missed when it is gone; without that
// knowledge it is a new one.
func TestMade(t *testing.T) {
	for _, made := range []bool{false, true} {
		l, err := Open(Options{FS: fresh(t), Dir: "/log", Room: small, Made: made}, 0, nil)
		if made != errors.As(err, new(*DamageError)) || !made && err != nil {
			t.Errorf("made: %v: %v", made, err)
		}
		if err == nil {
			must(t, l.Close())
		}
	}
}

// TestSpoiled: what does not matter yet is told of: one copy of a header, and a
// size. A change of a header that was cut short is none.
func TestSpoiled(t *testing.T) {
	d := fresh(t)
	_, _, err := life(d, rand.New(rand.NewPCG(3, 3)), 30)
	must(t, err)
	o := Options{FS: d, Dir: "/log", Room: small}
	must(t, Spoiled(o))
	entries, err := d.ReadDir("/log")
	must(t, err)
	for _, e := range entries {
		name := filepath.Join("/log", e.Name())
		fi, err := d.Lstat(name)
		must(t, err)
		for what, damage := range map[string]func(after *crashfs.FS) error{
			"first copy":  func(after *crashfs.FS) error { return after.Flip(name, 8*20) },
			"second copy": func(after *crashfs.FS) error { return after.Flip(name, 8*(headerCopy+20)) },
			"size":        func(after *crashfs.FS) error { return after.Cut(name, fi.Size()-1) },
		} {
			after := d.Crash(0)
			must(t, damage(after))
			damaged := (*DamageError)(nil)
			if err := Spoiled(Options{FS: after, Dir: "/log", Room: small}); !errors.As(err, &damaged) || damaged.File != e.Name() {
				t.Errorf("%s of %s: %v", what, name, err)
			}
		}
		after := d.Crash(0)
		s := segment{number: mustNumber(t, e.Name()), room: small, turn: 99}
		must(t, overwrite(after, name, s.page()[:headerCopy], 0))
		must(t, overwrite(after, name, sparePage(s.number, small)[headerCopy:], headerCopy))
		must(t, Spoiled(Options{FS: after, Dir: "/log", Room: small}))
	}
}
