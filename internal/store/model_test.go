package store

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/wakepoint/wakepoint/internal/disk"
)

// tiny makes everything happen that otherwise takes gigabytes: packs that
// end, trees that do not fit in memory, packs that are emptied.
var tiny = limits{packSize: 64 << 10, treeNodes: 12, dead: 16 << 10, moved: 128 << 10, packs: 6}

// model is a workload and what must be in it: of each generation, the seed of
// each page of each section.
type model struct {
	w    *Workload
	gens map[Generation]map[string]map[int64]int
}

func drawPage(t *rapid.T) int64 {
	base := rapid.SampledFrom([]int64{0, 0, 0, 1 << 12, 0x7ffc_0000_0, sizeMax/PageSize - 300}).Draw(t, "base")
	return base + rapid.Int64Range(0, 299).Draw(t, "page")
}

// draft writes one generation and returns what it must hold.
func (m *model) draft(t *rapid.T) {
	parents := append(slices.Sorted(maps.Keys(m.gens)), 0)
	parent := rapid.SampledFrom(parents).Draw(t, "parent")
	d, err := m.w.Begin(parent)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Abort()
	want := map[string]map[int64]int{}
	for i := range rapid.IntRange(0, 2).Draw(t, "sections") {
		name := fmt.Sprintf("s%d", i)
		old, ok := m.gens[parent][name]
		inherit := ok && rapid.Bool().Draw(t, "inherit")
		s, err := d.Section(name, inherit)
		if err != nil {
			t.Fatal(err)
		}
		pages := map[int64]int{}
		if inherit {
			pages = maps.Clone(old)
		}
		change(t, s, pages)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		want[name] = pages
	}
	if rapid.IntRange(0, 9).Draw(t, "abort") == 0 {
		if err := d.Abort(); err != nil {
			t.Fatal(err)
		}
		return
	}
	info, err := d.Commit(context.Background(), CommitInfo{})
	if err != nil {
		t.Fatal(err)
	}
	m.gens[info.Generation] = want
}

// change does random operations on a section and on the model of it.
func change(t *rapid.T, s *SectionWriter, pages map[int64]int) {
	for range rapid.IntRange(0, 12).Draw(t, "ops") {
		first := drawPage(t)
		if rapid.IntRange(0, 3).Draw(t, "kind") == 0 {
			n := rapid.SampledFrom([]int64{1, 16, 100, 256, 1 << 20, sizeMax/PageSize - first}).Draw(t, "n")
			n = min(n, sizeMax/PageSize-first)
			if err := s.Zero(first*PageSize, n*PageSize); err != nil {
				t.Fatal(err)
			}
			maps.DeleteFunc(pages, func(p int64, _ int) bool { return p >= first && p < first+n })
			continue
		}
		n := min(rapid.Int64Range(1, 40).Draw(t, "n"), sizeMax/PageSize-first)
		seed := rapid.IntRange(0, 3).Draw(t, "seed")
		var p []byte
		for i := range n {
			if seed == 0 {
				p = append(p, make([]byte, PageSize)...)
				delete(pages, first+i)
			} else {
				p = append(p, page(seed+int(first+i))...)
				pages[first+i] = seed + int(first+i)
			}
		}
		if err := s.Put(first*PageSize, p); err != nil {
			t.Fatal(err)
		}
	}
}

// check compares every generation, and the counts in its manifest.
func (m *model) check(t *rapid.T) {
	infos, damages, err := m.w.Generations()
	if err != nil || len(damages) > 0 || len(infos) != len(m.gens) {
		t.Fatalf("%d generations, want %d; %v, %v", len(infos), len(m.gens), damages, err)
	}
	for g, want := range m.gens {
		r, err := m.w.OpenGeneration(g)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(r.Sections(), slices.Sorted(maps.Keys(want))) {
			t.Fatalf("%v: sections %v", g, r.Sections())
		}
		for name, pages := range want {
			checkSection(t, r, name, pages)
		}
		live := map[PackID]int64{}
		for i := range r.m.Sections {
			count(t, r, &r.m.Sections[i], live)
		}
		for _, p := range r.m.Packs {
			if live[p.Pack] != p.Live {
				t.Fatalf("%v: %d live bytes in %v, want %d", g, p.Live, p.Pack, live[p.Pack])
			}
			delete(live, p.Pack)
		}
		if len(live) > 0 {
			t.Fatalf("%v: packs that are not listed: %v", g, live)
		}
		r.Close()
	}
}

func checkSection(t *rapid.T, r *Reader, name string, pages map[int64]int) {
	s, err := r.Section(name)
	if err != nil {
		t.Fatal(err)
	}
	got, last := 0, int64(-1)
	err = s.Each(0, sizeMax, func(off int64, p []byte) error {
		for ; len(p) > 0; p, off = p[PageSize:], off+PageSize {
			seed, ok := pages[off/PageSize]
			if !ok || off <= last || !bytes.Equal(p[:PageSize], page(seed)) {
				return fmt.Errorf("page %#x is wrong", off)
			}
			got, last = got+1, off
		}
		return nil
	})
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if got != len(pages) || s.Size() != int64(got)*PageSize {
		t.Fatalf("%s: %d pages, want %d; size %d", name, got, len(pages), s.Size())
	}
}

// count adds up what a section refers to, the long way.
func count(t *rapid.T, r *Reader, s *sectionRef, live map[PackID]int64) {
	src := &nodes{r: r.packs}
	var walk func(e entry, level int)
	walk = func(e entry, level int) {
		live[e.pack] += e.cost()
		if level < 0 {
			return
		}
		n, err := src.read(e.place, level)
		if err != nil {
			t.Fatal(err)
		}
		for i := range fan {
			if n.has(i) {
				walk(n.e[i], level-1)
			}
		}
	}
	if e, level := s.root(); !e.none() {
		walk(e, level)
	}
}

// TestModel compares generations with a map: random changes, parents,
// inheritance, retention and reopening.
func TestModel(t *testing.T) {
	top := t.TempDir()
	run := 0
	rapid.Check(t, func(t *rapid.T) {
		run++
		dir := filepath.Join(top, fmt.Sprint(run))
		defer os.RemoveAll(dir)
		m := &model{gens: map[Generation]map[string]map[int64]int{}}
		open := func() {
			w, err := openWorkload(dir, [16]byte{}, Options{FS: unsynced{}, Buffer: 1, limits: tiny}.filled())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := w.Lock(); err != nil {
				t.Fatal(err)
			}
			m.w = w
		}
		open()
		defer func() { m.w.own.Close() }()
		for range rapid.IntRange(1, 8).Draw(t, "steps") {
			switch rapid.IntRange(0, 9).Draw(t, "step") {
			case 0:
				m.w.own.Close()
				open()
			case 1:
				removed, err := m.w.Retain(rapid.IntRange(1, 3).Draw(t, "keep"))
				if err != nil {
					t.Fatal(err)
				}
				for _, g := range removed {
					delete(m.gens, g)
				}
			default:
				m.draft(t)
			}
			m.check(t)
		}
		if found, err := m.w.Verify(context.Background()); err != nil || len(found) > 0 {
			t.Fatalf("verify: %v, %v", found, err)
		}
	})
}

// unsynced is the operating system's file system without fsync, for tests
// that ask nothing of it.
type unsynced struct{ disk.OS }

func (unsynced) SyncDir(string) error { return nil }

func (u unsynced) Create(name string) (disk.File, error) {
	f, err := u.OS.Create(name)
	if err != nil {
		return nil, err
	}
	return unsyncedFile{f}, nil
}

type unsyncedFile struct{ disk.File }

func (unsyncedFile) Sync() error { return nil }

// TestVictims shows what is moved when.
func TestVictims(t *testing.T) {
	l := limits{dead: 100, moved: 60, packs: 4}
	pack := func(g Generation, size, live int64) packUse {
		return packUse{Pack: packID(g, 0), Size: size, Live: live}
	}
	for name, c := range map[string]struct {
		packs []packUse
		want  []Generation
	}{
		"nothing dead":      {[]packUse{pack(1, 100, 100), pack(2, 100, 90)}, nil},
		"not worth it":      {[]packUse{pack(1, 100, 10), pack(2, 5, 5)}, nil},
		"half is alive":     {[]packUse{pack(1, 1000, 100), pack(2, 1000, 1000)}, nil},
		"emptiest first":    {[]packUse{pack(1, 200, 50), pack(2, 200, 40), pack(3, 200, 10)}, []Generation{2, 3}},
		"not the draft's":   {[]packUse{pack(1, 200, 50), pack(9, 200, 10)}, []Generation{1}},
		"not the full ones": {[]packUse{pack(1, 1000, 10), pack(2, 20, 20)}, []Generation{1}},
		"too many": {
			[]packUse{pack(1, 20, 20), pack(2, 10, 10), pack(3, 10, 10), pack(4, 10, 10), pack(5, 30, 30)},
			[]Generation{2, 3, 4},
		},
	} {
		var got []Generation
		for id := range victims(c.packs, 9, l) {
			got = append(got, id.Generation())
		}
		slices.Sort(got)
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
