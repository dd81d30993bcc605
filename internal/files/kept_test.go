package files

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// noise is data in which nothing comes twice.
func noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(seed, 1))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// library is a file that is kept, in a directory of its own.
func library(t *testing.T, path string, data []byte) Named {
	t.Helper()
	must(t, os.WriteFile(path, data, 0o755))
	st, err := os.Stat(path)
	must(t, err)
	return Named{Path: path, Size: st.Size(), Mtime: st.ModTime().UnixNano()}
}

// read reads an open file whole.
func read(t *testing.T, f *os.File) []byte {
	t.Helper()
	b, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<40))
	must(t, err)
	must(t, f.Close())
	return b
}

// TestKept takes a library away, puts another in its place, and gets the one
// that was kept.
func TestKept(t *testing.T) {
	dir := t.TempDir()
	a, b := noise(1, 1<<20), noise(2, 300<<10+77)
	list := []Named{library(t, dir+"/liba.so", a), library(t, dir+"/libb.so", b), library(t, dir+"/empty", nil)}
	w := newPages()
	x, left, err := Keep(nil, list, w)
	must(t, err)
	if len(left) != 0 || len(x.Files) != 3 {
		t.Fatalf("kept %d files, left %v", len(x.Files), left)
	}
	p, err := x.Encode()
	must(t, err)
	x, err = DecodeKept(p)
	must(t, err)

	same, err := os.Open(dir + "/libb.so")
	must(t, err)
	shelf := NewShelf(x, w, dir+"/kept", dir+"/own")
	if f, err := shelf.File(dir+"/libb.so", same, nil); f != same || err != nil {
		t.Errorf("the file that was kept is not recognised: %v", err)
	}
	must(t, os.Remove(dir+"/empty"))
	must(t, os.WriteFile(dir+"/liba.so", noise(3, 1<<20), 0o755))
	other, err := os.Open(dir + "/liba.so")
	must(t, err)
	gone := errors.New("it is gone")
	for name, want := range map[string][]byte{"liba.so": a, "libb.so": b, "empty": nil} {
		host, cause := (*os.File)(nil), gone
		if name == "liba.so" {
			host, cause = other, nil // of the same size
		}
		f, err := shelf.File(dir+"/"+name, host, cause)
		must(t, err)
		if !bytes.Equal(read(t, f), want) {
			t.Errorf("%s differs", name)
		}
	}
	if f, err := shelf.File("/elsewhere", nil, gone); f != nil || err != gone {
		t.Errorf("what is not kept: %v, %v", f, err)
	}
	// A second restore uses what the first laid out, after a look at it.
	laid, err := filepath.Glob(dir + "/kept/*/libb.so")
	must(t, err)
	must(t, os.Chmod(laid[0], 0o600))
	must(t, os.WriteFile(laid[0], noise(9, len(b)), 0o600))
	shelf = NewShelf(x, w, dir+"/kept", dir+"/own")
	f, err := shelf.File(dir+"/libb.so", nil, gone)
	must(t, err)
	if !bytes.Equal(read(t, f), b) {
		t.Error("a file that was written to is given out")
	}
	must(t, shelf.Tidy())
	if left, _ := filepath.Glob(dir + "/kept/*"); len(left) != 1 {
		t.Errorf("left over: %v", left)
	}
}

// TestKeptAgain restores what had been restored: what was laid out the first
// time is mapped from there, and stays.
func TestKeptAgain(t *testing.T) {
	dir := t.TempDir()
	w := newPages()
	n := library(t, dir+"/lib.so", noise(1, 9000))
	x, _, err := Keep(nil, []Named{n}, w)
	must(t, err)
	must(t, os.Remove(n.Path))
	shelf := NewShelf(x, w, dir+"/w/kept", dir+"/w")
	f, err := shelf.File(n.Path, nil, os.ErrNotExist)
	must(t, err, shelf.Tidy())
	x, _, err = Keep(x, []Named{{Path: f.Name()}}, w)
	must(t, err, f.Close())
	again, err := os.Open(f.Name())
	must(t, err)
	shelf = NewShelf(x, w, dir+"/w/kept", dir+"/w")
	g, err := shelf.File(f.Name(), again, nil)
	must(t, err, shelf.Tidy())
	if _, err := os.Stat(g.Name()); err != nil {
		t.Errorf("what is in use was tidied away: %v", err)
	}
	must(t, g.Close())
}

// TestKeptInStore does not believe the times of a file that lies where others
// could write.
func TestKeptInStore(t *testing.T) {
	dir := t.TempDir()
	n := library(t, dir+"/lib.so", noise(1, 9000))
	w := newPages()
	x, _, err := Keep(nil, []Named{n}, w)
	must(t, err)
	st, err := os.Stat(n.Path)
	must(t, err)
	must(t, os.WriteFile(n.Path, noise(2, 9000), 0o755))
	must(t, os.Chtimes(n.Path, st.ModTime(), st.ModTime()))
	f, err := os.Open(n.Path)
	must(t, err)
	var now unix.Stat_t
	must(t, unix.Fstat(int(f.Fd()), &now))
	x.Files[0].Ctime = now.Ctim.Nano() // whoever has the disk can write this too
	if g, err := NewShelf(x, w, dir+"/kept", dir).File(n.Path, f, nil); g == f || err != nil {
		t.Errorf("it was believed: %v", err)
	}
}

// TestKeptByContent keeps a new version of a library, another name of it, and
// loses one: what is stored is what is new.
func TestKeptByContent(t *testing.T) {
	dir := t.TempDir()
	old := noise(1, 4<<20)
	w := newPages()
	x, _, err := Keep(nil, []Named{library(t, dir+"/lib.so.1", old)}, w)
	must(t, err)
	first := x.Next
	again, _, err := Keep(x, []Named{{Path: dir + "/lib.so.1"}}, w)
	must(t, err)
	if again != x {
		t.Error("what has not changed was kept anew")
	}
	// Bytes are put in at one place: all behind it has moved.
	changed := append(append(append([]byte{}, old[:2<<20]...), noise(2, 999)...), old[2<<20:]...)
	y, _, err := Keep(x, []Named{library(t, dir+"/lib.so.2", changed), library(t, dir+"/copy", old)}, w)
	must(t, err)
	if grown := y.Next - first; grown == 0 || grown > 3*pieceMax {
		t.Errorf("999 new bytes and a copy take %d", grown)
	}
	z, _, err := Keep(y, []Named{{Path: dir + "/lib.so.2"}}, w)
	must(t, err)
	must(t, os.Remove(dir+"/lib.so.2"))
	f, err := NewShelf(z, w, dir+"/kept", dir).File(dir+"/lib.so.2", nil, os.ErrNotExist)
	must(t, err)
	if !bytes.Equal(read(t, f), changed) {
		t.Error("the new version differs")
	}
	stored := int64(0)
	must(t, w.Each(0, slotLast, func(off int64, p []byte) error { stored += int64(len(p)); return nil }))
	if over := stored - int64(len(changed)); over > 4<<20/pieceMin*pageSize {
		t.Errorf("%d bytes are stored that nothing refers to", over)
	}
}

// TestKeptChanging leaves out a file that is not what the image says, and
// stores nothing of it.
func TestKeptChanging(t *testing.T) {
	dir := t.TempDir()
	n := library(t, dir+"/lib.so", noise(1, 100<<10))
	n.Mtime--
	w := newPages()
	x, left, err := Keep(nil, []Named{n, {Path: dir}, {Path: dir + "/none"}}, w)
	must(t, err)
	if len(x.Files) != 0 || len(left) != 3 {
		t.Errorf("kept %v, left %v", x.Files, left)
	}
}

func FuzzDecodeKept(f *testing.F) {
	x := Kept{Version: keptVersion, Next: 8192, Files: []KeptFile{{Path: "/lib/a", Size: 5000, Sum: make([]byte, 32), Pieces: []piece{{At: 0, Len: 5000}}}}}
	p, err := x.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(p)
	f.Fuzz(func(t *testing.T, p []byte) {
		k, err := DecodeKept(p)
		if err != nil {
			return
		}
		for i := range k.Files {
			for _, q := range k.Files[i].Pieces {
				if q.At < 0 || pageUp(q.Len) > slotEnd || q.At+q.Len > k.Next {
					t.Errorf("piece %#x+%#x", q.At, q.Len)
				}
			}
		}
	})
}
