package files

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"
)

// What is replaced as a whole is told by its contents, what is written to in
// its place by its pages.
func TestReplacedFiles(t *testing.T) {
	p := &prepared{dir: t.TempDir(), s: newPages()}
	p.o.Trees = []string{p.dir}
	path, data := p.dir+"/list", noise(1, 2<<20)
	replace := func(data []byte) {
		write(t, path+".new", string(data), 0o600)
		must(t, os.Rename(path+".new", path))
	}
	replace(data)
	p.capture(t)
	if p.frozen < 2*mib {
		t.Errorf("only %d pages of a new file were stored", p.frozen)
	}
	replace(slices.Concat([]byte("a line at the front\n"), data))
	p.capture(t)
	if p.frozen == 0 || p.frozen > 2*pieceMax/pageSize {
		t.Errorf("%d pages were stored for one line at the front", p.frozen)
	}
	must(t, os.Rename(path, path+".1"))
	p.capture(t)
	if p.frozen != 0 {
		t.Errorf("%d pages were stored for another name", p.frozen)
	}
	f := writer(t, path+".1", 0)
	for i := range 3 {
		_, err := f.WriteAt([]byte{byte(i)}, 1<<20)
		must(t, err)
		p.capture(t)
	}
	must(t, f.Close())
	if slots := len(p.o.Last.Entries[1].Pieces); slots != 0 {
		t.Error("a file that is written to in its place still lies in pieces")
	}
}

// Whatever becomes of files between captures, while they are prepared and
// after, what is kept is what they contain, and nothing else stays behind.
func TestAnyFiles(t *testing.T) {
	for seed := range uint64(8) {
		r := rand.New(rand.NewPCG(seed, 3))
		p := &prepared{dir: t.TempDir(), s: newPages()}
		p.o.Trees = []string{p.dir}
		p.then = func() { p.change(t, r) }
		for range 8 {
			for range r.IntN(6) {
				p.change(t, r)
			}
			if r.IntN(3) == 0 {
				time.Sleep(settled + 10*time.Millisecond)
			}
			p.capture(t)
			if t.Failed() {
				t.Fatalf("seed %d", seed)
			}
		}
		for _, o := range p.open {
			must(t, o.File.Close())
		}
	}
}

// change does something to one of a few files.
func (p *prepared) change(t *testing.T, r *rand.Rand) {
	path := fmt.Sprintf("%s/%d", p.dir, r.IntN(4))
	other := fmt.Sprintf("%s/%d", p.dir, r.IntN(4))
	data := noise(r.Uint64N(5), 1+r.IntN(3<<20))
	switch r.IntN(8) {
	case 0, 1: // replaced
		write(t, p.dir+"/new", string(data), 0o600)
		must(t, os.Rename(p.dir+"/new", path))
	case 2: // begun anew in its place
		write(t, path, string(data), 0o600)
	case 3:
		if f, err := os.OpenFile(path, os.O_RDWR, 0); err == nil {
			_, err := f.WriteAt(data[:min(len(data), 5000)], r.Int64N(3<<20))
			must(t, err, f.Close())
		}
	case 4:
		_ = os.Truncate(path, r.Int64N(1<<20))
	case 5:
		_ = os.Rename(path, other)
	case 6:
		_ = os.Remove(path)
	case 7: // held open from now on
		if f, err := os.OpenFile(path, os.O_RDWR, 0); err == nil {
			p.open = append(p.open, Open{Path: path, File: f, Writable: true})
		}
	}
}
