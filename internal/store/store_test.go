package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/wakepoint/wakepoint/internal/disk"
)

// newWorkload returns a locked workload in a new directory.
func newWorkload(t testing.TB, d disk.FS) *Workload {
	t.Helper()
	return lockedWorkload(t, d, filepath.Join(t.TempDir(), "w"))
}

func lockedWorkload(t testing.TB, d disk.FS, dir string) *Workload {
	t.Helper()
	w, err := openWorkload(dir, [16]byte{}, Options{FS: d, Now: func() time.Time { return time.Unix(1700000000, 5) }}.filled())
	if err != nil {
		t.Fatal(err)
	}
	l, err := w.Lock()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return w
}

// page returns a page that is told from others by its seed.
func page(seed int) []byte {
	p := make([]byte, PageSize)
	r := rand.New(rand.NewPCG(uint64(seed), 1))
	step := 512
	if seed%2 == 0 {
		step = 8 // nothing to compress
	}
	for i := 0; i < len(p); i += step {
		binary.LittleEndian.PutUint64(p[i:], r.Uint64())
	}
	return p
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// large is a blob of two pieces.
var large = bytes.Repeat([]byte("same"), 1<<18+100)

// write commits a generation in which f wrote the section "mem".
func write(t testing.TB, w *Workload, parent Generation, inherit bool, f func(s *SectionWriter) error) Info {
	t.Helper()
	info, err := tryWrite(w, parent, inherit, f)
	must(t, err)
	return info
}

func tryWrite(w *Workload, parent Generation, inherit bool, f func(s *SectionWriter) error) (Info, error) {
	d, err := w.Begin(parent)
	if err != nil {
		return Info{}, err
	}
	defer d.Abort()
	s, err := d.Section("mem", inherit)
	if err == nil {
		err = f(s)
	}
	if err == nil {
		err = s.Close()
	}
	if err == nil {
		err = d.Blob("image", []byte("of "+d.gen.String()))
	}
	if err == nil {
		err = d.Blob("large", large)
	}
	if err != nil {
		return Info{}, err
	}
	return d.Commit(context.Background(), CommitInfo{Pause: time.Millisecond, Tag: "tag", Meta: map[string]string{"a": "b"}})
}

// contents reads the section "mem" whole.
func contents(w *Workload, g Generation) (map[int64][]byte, error) {
	r, err := w.OpenGeneration(g)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	image, err := r.Blob("image")
	if err != nil {
		return nil, err
	}
	if string(image) != "of "+g.String() {
		return nil, fmt.Errorf("image of %v is %q", g, image)
	}
	got, err := r.Blob("large")
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(got, large) {
		return nil, errors.New("the large blob differs")
	}
	s, err := r.Section("mem")
	if err != nil {
		return nil, err
	}
	defer s.Close()
	pages := map[int64][]byte{}
	err = s.Each(0, 1<<52, func(off int64, p []byte) error {
		for ; len(p) > 0; p, off = p[PageSize:], off+PageSize {
			pages[off/PageSize] = bytes.Clone(p[:PageSize])
		}
		return nil
	})
	if err == nil && s.Size() != int64(len(pages))*PageSize {
		err = fmt.Errorf("size %d with %d pages", s.Size(), len(pages))
	}
	return pages, err
}

const high = 0x7ffc_0000_0000 // where stacks lie

func TestGenerations(t *testing.T) {
	w := newWorkload(t, disk.OS{})
	g1 := write(t, w, 0, false, func(s *SectionWriter) error {
		for i := range 1000 {
			if err := s.Put(int64(i)*PageSize, page(i)); err != nil {
				return err
			}
		}
		return s.Put(high, append(page(1), page(2)...))
	})
	if g1.Generation != 1 || g1.Parent != 0 || g1.TotalBytes != 1002*PageSize || g1.NewBytes < g1.TotalBytes/2 || g1.NewBytes > g1.TotalBytes*2/3 {
		t.Errorf("first generation: %+v", g1)
	}
	g2 := write(t, w, 1, true, func(s *SectionWriter) error {
		return errors.Join(s.Zero(16*PageSize, 100*PageSize), s.Put(0, page(7777)), s.Put(5*PageSize, page(5)))
	})
	if g2.Parent != 1 || g2.TotalBytes != 902*PageSize || g2.NewBytes > 4*PageSize {
		t.Errorf("second generation: %+v", g2)
	}
	// Written whole again without a change, a generation costs nothing.
	want := map[int64][]byte{high / PageSize: page(1), high/PageSize + 1: page(2)}
	g3 := write(t, w, 2, false, func(s *SectionWriter) error {
		for i := range 1000 {
			p := page(i)
			switch {
			case i == 0:
				p = page(7777)
			case i >= 16 && i < 116:
				clear(p)
			}
			if i < 16 || i >= 116 {
				want[int64(i)] = p
			}
			if err := s.Put(int64(i)*PageSize, p); err != nil {
				return err
			}
		}
		return s.Put(high, append(page(1), page(2)...))
	})
	if g3.NewBytes != 0 || g3.TotalBytes != g2.TotalBytes {
		t.Errorf("third generation: %+v", g3)
	}
	for _, g := range []Generation{2, 3} {
		got, err := contents(w, g)
		must(t, err)
		if !maps.EqualFunc(got, want, bytes.Equal) {
			t.Errorf("%v differs", g)
		}
	}
	if found, err := w.Verify(context.Background()); err != nil || len(found) != 0 {
		t.Errorf("verify: %v, %v", found, err)
	}
}

func TestInfo(t *testing.T) {
	w := newWorkload(t, disk.OS{})
	for g := range Generation(3) {
		write(t, w, g, false, func(s *SectionWriter) error { return s.Put(0, page(int(g))) })
	}
	infos, damages, err := w.Generations()
	if err != nil || len(damages) != 0 || len(infos) != 3 || infos[0].Generation != 3 {
		t.Fatalf("generations: %v %v %v", infos, damages, err)
	}
	want := Info{
		Generation: 2, Parent: 1, Epoch: 1, Pause: time.Millisecond, Tag: "tag", Meta: map[string]string{"a": "b"},
		CommittedAt: time.Unix(1700000000, 5), NewBytes: infos[1].NewBytes, TotalBytes: PageSize, Sections: map[string]int64{"mem": PageSize},
	}
	if diff := cmp.Diff(want, infos[1]); diff != "" {
		t.Error(diff)
	}
}

func TestReadAt(t *testing.T) {
	w := newWorkload(t, disk.OS{})
	write(t, w, 0, false, func(s *SectionWriter) error {
		return errors.Join(s.Put(PageSize, page(1)), s.Put(3*PageSize, page(3)))
	})
	r, err := w.OpenGeneration(1)
	must(t, err)
	defer r.Close()
	s, err := r.Section("mem")
	must(t, err)
	want := make([]byte, 6*PageSize)
	copy(want[PageSize:], page(1))
	copy(want[3*PageSize:], page(3))
	for off := 0; off < 5*PageSize; off += 777 {
		for _, n := range []int{0, 1, 100, 5000} {
			n = min(n, len(want)-off)
			got := bytes.Repeat([]byte{0xee}, n)
			if m, err := s.ReadAt(got, int64(off)); m != n || err != nil || !bytes.Equal(got, want[off:off+n]) {
				t.Fatalf("ReadAt(%d, %d): %d, %v", off, n, m, err)
			}
		}
	}
}

func TestNames(t *testing.T) {
	s, err := Open(filepath.Join(t.TempDir(), "a", "store"), Options{})
	must(t, err)
	if _, err := s.Create("web"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Create("web"); !errors.Is(err, ErrExist) {
		t.Errorf("second create: %v", err)
	}
	if _, err := s.Workload("db"); !errors.Is(err, ErrNotFound) {
		t.Errorf("unknown: %v", err)
	}
	for _, name := range []string{"", ".", "..", "-x", ".x", "a/b", "a b", "ü", string(make([]byte, 65))} {
		if _, err := s.Create(name); !errors.Is(err, ErrName) {
			t.Errorf("create %q: %v", name, err)
		}
	}
	w, err := s.Workload("web")
	must(t, err)
	l, err := w.Lock()
	must(t, err)
	if err := s.Remove("web"); !errors.Is(err, ErrLocked) {
		t.Errorf("remove a locked one: %v", err)
	}
	must(t, l.Close())
	must(t, s.Remove("web"))
	names, err := s.Names()
	if err != nil || len(names) != 0 {
		t.Errorf("names after remove: %v, %v", names, err)
	}
	if err := s.Remove("web"); !errors.Is(err, ErrNotFound) {
		t.Errorf("remove again: %v", err)
	}
}

// TestRemoveCut cuts a removal at each operation: the workload is whole, or
// there is none and its name is free.
func TestRemoveCut(t *testing.T) {
	for at := 1; ; at++ {
		dir := filepath.Join(t.TempDir(), "store")
		s, err := Open(dir, Options{})
		must(t, err)
		w, err := s.Create("web")
		must(t, err)
		l, err := w.Lock()
		must(t, err)
		write(t, w, 0, false, func(s *SectionWriter) error { return s.Put(0, page(1)) })
		must(t, l.Close())
		n := 0
		cut, err := Open(dir, Options{FS: disk.Watch(disk.OS{}, func(disk.Op) disk.Verdict {
			if n++; n >= at {
				return disk.Fail
			}
			return disk.Do
		})})
		must(t, err)
		err = cut.Remove("web")
		if n < at {
			must(t, err)
			return
		}
		if w, err := s.Workload("web"); err == nil {
			if _, err := contents(w, 1); err != nil {
				t.Errorf("cut at %d: %v", at, err)
			}
			continue
		}
		if _, err := s.Create("web"); err != nil {
			t.Errorf("cut at %d: create: %v", at, err)
		}
		if entries, err := os.ReadDir(filepath.Join(dir, workloadsDir)); err != nil || len(entries) != 1 {
			t.Errorf("cut at %d: left behind %v, %v", at, entries, err)
		}
	}
}

func TestLock(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "w")
	a, err := OpenWorkload(dir, Options{})
	must(t, err)
	b, err := OpenWorkload(dir, Options{})
	must(t, err)
	if _, err := a.Begin(0); !errors.Is(err, ErrNotLocked) {
		t.Errorf("begin without a lock: %v", err)
	}
	l, err := a.Lock()
	must(t, err)
	for _, w := range []*Workload{a, b} {
		if _, err := w.Lock(); !errors.Is(err, ErrLocked) {
			t.Errorf("second lock: %v", err)
		}
	}
	must(t, l.Close())
	var again io.Closer
	again, err = b.Lock()
	must(t, err)
	if b.state.Epoch != 2 {
		t.Errorf("epoch %d", b.state.Epoch)
	}
	must(t, again.Close())
}

func TestRecords(t *testing.T) {
	w := newWorkload(t, disk.OS{})
	if _, err := w.Record("policy"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
	for _, text := range []string{"one", "", "two"} {
		must(t, w.PutRecord("policy", []byte(text)))
		got, err := w.Record("policy")
		if err != nil || string(got) != text {
			t.Errorf("record: %q, %v", got, err)
		}
	}
	// A record under another's name is not that record.
	must(t, w.fs.Rename(filepath.Join(w.dir, recordsDir, "policy"), filepath.Join(w.dir, recordsDir, "other")))
	if _, err := w.Record("other"); !errors.Is(err, ErrDamaged) {
		t.Errorf("moved: %v", err)
	}
	must(t, w.RemoveRecord("other"))
	must(t, w.RemoveRecord("other"))
}

func TestRetain(t *testing.T) {
	w := newWorkload(t, disk.OS{})
	var parent Generation
	for i := range 6 {
		parent = write(t, w, parent, parent != 0, func(s *SectionWriter) error { return s.Put(0, page(i)) }).Generation
	}
	r, err := w.OpenGeneration(2)
	must(t, err)
	removed, err := w.Retain(2)
	if err != nil || len(removed) != 3 {
		t.Fatalf("retain: %v, %v", removed, err)
	}
	if _, err := contents(w, 2); err != nil {
		t.Errorf("a generation that is read: %v", err)
	}
	if err := w.Forget(2); !errors.Is(err, ErrLocked) {
		t.Errorf("forget a generation that is read: %v", err)
	}
	must(t, r.Close())
	must(t, w.Forget(2))
	must(t, w.Forget(6))
	for _, g := range []Generation{1, 2, 6} {
		if _, err := w.OpenGeneration(g); !errors.Is(err, ErrNotFound) {
			t.Errorf("open %v: %v", g, err)
		}
	}
	if _, err := contents(w, 5); err != nil {
		t.Error(err)
	}
	// The number of the newest one is not used again, by no writer.
	dir := w.dir
	must(t, w.own.Close())
	w = lockedWorkload(t, disk.OS{}, dir)
	if g := write(t, w, 5, true, func(s *SectionWriter) error { return nil }); g.Generation != 7 {
		t.Errorf("generation %v after 6 was forgotten", g.Generation)
	}
}
