package engine

import (
	"bytes"
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// sparseSink notes what it is given.
type sparseSink struct{ calls string }

func (s *sparseSink) Put(off int64, p []byte) error {
	s.calls += fmt.Sprintf("put %d+%d ", off, len(p))
	return nil
}

func (s *sparseSink) Zero(off, n int64) error {
	s.calls += fmt.Sprintf("zero %d+%d ", off, n)
	return nil
}

func (s *sparseSink) Close() error { return nil }

// TestCopyFile copies files that end in a hole, in the middle of a page too:
// the end of the data is not where the last page begins.
func TestCopyFile(t *testing.T) {
	page := bytes.Repeat([]byte("x"), 4096)
	for _, c := range []struct {
		name string
		at   []int64 // pages with data
		size int64
		want string
	}{
		{"empty", nil, 0, ""},
		{"a hole within a page", nil, 100, "zero 0+4096 "},
		{"a hole of pages and a part", nil, 8292, "zero 0+12288 "},
		{"data and a hole within a page", []int64{0}, 4196, "put 0+4096 zero 4096+4096 "},
		{"a hole, data, a hole", []int64{2}, 20000, "zero 0+8192 put 8192+4096 zero 12288+8192 "},
		{"data to the end", []int64{0, 1}, 8192, "put 0+8192 "},
		{"data to the middle of a page", []int64{0}, 100, "put 0+4096 "},
	} {
		t.Run(c.name, func(t *testing.T) {
			fd, err := unix.MemfdCreate("copied", unix.MFD_CLOEXEC)
			if err != nil {
				t.Fatal(err)
			}
			f := os.NewFile(uintptr(fd), "copied")
			defer f.Close()
			for _, at := range c.at {
				if _, err := f.WriteAt(page, at*4096); err != nil {
					t.Fatal(err)
				}
			}
			if err := f.Truncate(c.size); err != nil {
				t.Fatal(err)
			}
			var s sparseSink
			if err := copyFile(f, c.size, &s); err != nil {
				t.Fatal(err)
			}
			if s.calls != c.want {
				t.Errorf("%s, not %s", s.calls, c.want)
			}
		})
	}
}
