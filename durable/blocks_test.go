package durable_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/wakepoint/wakepoint/durable"
	"github.com/wakepoint/wakepoint/durable/durabletest"
)

// TestBlocks: of a database that was closed no block of 4 KiB can become zeros, and
// no file shorter, without that all is there or that it is said what is not.
func TestBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFlips(quietLog{t}, 1)
		files, err := f.disk.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		tried := 0
		try := func(what string, damage func(d *durabletest.Disk) error) {
			d := f.disk.Kill()
			f.disk = f.disk.Kill()
			if err := damage(d); err != nil {
				t.Fatal(err)
			}
			tried++
			_, err := f.look(d)
			whose := strings.HasSuffix(what, "DURABLE") && errors.Is(err, durable.ErrForeign)
			if err != nil && !whose && (!isDamage(err) || strings.Contains(err.Error(), "Verify says")) {
				t.Errorf("%s: %v", what, err)
			}
		}
		for _, e := range files {
			name := path.Join(dir, e.Name())
			fi, err := f.disk.Lstat(name)
			if err != nil {
				t.Fatal(err)
			}
			before := make([]byte, fi.Size())
			h, err := f.disk.Open(name)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = h.ReadAt(before, 0)
			h.Close()
			for at := int64(0); at < fi.Size(); at += 4096 {
				n := min(4096, fi.Size()-at)
				if len(bytes.Trim(before[at:at+n], "\x00")) == 0 {
					continue
				}
				try(fmt.Sprintf("zeros at %d of %s", at, name), func(d *durabletest.Disk) error {
					w, err := d.Modify(name)
					if err != nil {
						return err
					}
					_, err = w.WriteAt(make([]byte, n), at)
					return errors.Join(err, w.Close())
				})
			}
			for _, size := range []int64{0, 1, 4096, fi.Size() / 2, fi.Size() - 1} {
				if size < fi.Size() {
					try(fmt.Sprintf("the end at %d of %s", size, name), func(d *durabletest.Disk) error { return d.Shorten(name, size) })
				}
			}
		}
		t.Logf("%d blocks and ends of %d files", tried, len(files))
	})
}

// TestEmptied: a directory that holds a database no more is not taken for one that
// had nothing in it: what is left of it are names, or its identity.
func TestEmptied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for what, empty := range map[string]func(d *durabletest.Disk, name string) error{
			"without contents": func(d *durabletest.Disk, name string) error { return d.Shorten(name, 0) },
			"without files":    func(d *durabletest.Disk, name string) error { return d.Remove(name) },
		} {
			for _, checkpoints := range []int{0, 1} {
				d := durabletest.NewDisk()
				c := &client{t: t, all: &states{}}
				s, err := c.open(d)
				if err == nil {
					err = c.update(s)
				}
				for range checkpoints {
					err = errors.Join(err, s.Checkpoint(context.Background()))
				}
				if err = errors.Join(err, s.Close()); err != nil {
					t.Fatal(err)
				}
				files, err := d.ReadDir(dir)
				if err != nil {
					t.Fatal(err)
				}
				for _, e := range files {
					if e.Name() != "DURABLE" {
						if err := empty(d, path.Join(dir, e.Name())); err != nil {
							t.Fatal(err)
						}
					}
				}
				if s, err := start(d, dir, 2); !isDamage(err) {
					t.Errorf("%s, %d checkpoints: %v", what, checkpoints, err)
					if err == nil {
						s.Close()
					}
				}
			}
		}
	})
}
