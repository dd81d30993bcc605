package store

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"testing"

	"github.com/wakepoint/wakepoint/internal/seal"
)

var update = flag.Bool("update", false, "write testdata/golden anew: only before a format was ever released")

// golden is the store of version 1 that every later version must read.
const goldenDir = "testdata/golden/v1"

var goldenKey = seal.Key{1, 2, 3, 4, 5}

// goldenPages is what its generations hold: of the function page, which so must stay as it is.
var goldenPages = []map[int64]int{
	{0: 2, 1: 3, 2: 5, 17: 4, 300: 7, high / PageSize: 9}, // g1
	{0: 2, 1: 11, 17: 4, 300: 12, high / PageSize: 9},     // g2: a change, a hole
	{0: 2, 1: 11, 17: 4, 300: 12, high / PageSize: 13},    // g3: with all of g1 moved
}

// writeGolden makes the golden store.
func writeGolden(t *testing.T) {
	o := Options{Key: goldenKey, limits: limits{packSize: 64 << 20, treeNodes: 8192, dead: 1, moved: 32 << 20, packs: 2}}
	s, err := Open(goldenDir, o)
	must(t, err)
	w, err := s.Create("golden")
	must(t, err)
	l, err := w.Lock()
	must(t, err)
	defer l.Close()
	must(t, w.PutRecord("policy", []byte("a record")))
	before := map[int64]int{}
	for i, pages := range goldenPages {
		d, err := w.Begin(Generation(i))
		must(t, err)
		sec, err := d.Section("mem", i > 0)
		must(t, err)
		for at := range before {
			if pages[at] == 0 {
				must(t, sec.Zero(at*PageSize, PageSize))
			}
		}
		for at, seed := range pages {
			if before[at] != seed {
				must(t, sec.Put(at*PageSize, page(seed)))
			}
		}
		must(t, sec.Close())
		must(t, d.Blob("image", []byte("of "+d.gen.String())))
		must(t, d.Blob("large", large))
		_, err = d.Commit(context.Background(), CommitInfo{Pause: 7, Tag: "gold", Meta: map[string]string{"k": "v"}})
		must(t, err)
		before = pages
	}
}

// TestGolden reads the store of version 1.
func TestGolden(t *testing.T) {
	if *update {
		must(t, os.RemoveAll(goldenDir))
		must(t, os.MkdirAll(filepath.Dir(goldenDir), 0o755))
		writeGolden(t)
	}
	dir := filepath.Join(t.TempDir(), "store")
	must(t, os.CopyFS(dir, os.DirFS(goldenDir)))
	private(t, dir)
	if _, err := Open(dir, Options{Key: seal.Key{1}}); !errors.Is(err, ErrKey) {
		t.Errorf("with another key: %v", err)
	}
	s, err := Open(dir, Options{Key: goldenKey})
	must(t, err)
	w, err := s.Workload("golden")
	must(t, err)
	if found, err := w.Verify(context.Background()); err != nil || len(found) > 0 {
		t.Fatalf("verify: %v, %v", found, err)
	}
	if b, err := w.Record("policy"); err != nil || string(b) != "a record" {
		t.Errorf("record %q: %v", b, err)
	}
	for i, pages := range goldenPages {
		got, err := contents(w, Generation(i+1))
		want := map[int64][]byte{}
		for at, seed := range pages {
			want[at] = page(seed)
		}
		if err != nil || !maps.EqualFunc(got, want, bytes.Equal) {
			t.Errorf("g%d: %d pages, want %d: %v", i+1, len(got), len(want), err)
		}
		r, err := w.OpenGeneration(Generation(i + 1))
		must(t, err)
		if info := r.Info(); info.Tag != "gold" || info.Pause != 7 || info.Meta["k"] != "v" || info.Parent != Generation(i) {
			t.Errorf("g%d: %+v", i+1, info)
		}
		must(t, r.Close())
	}
	codecs := map[byte]bool{}
	for _, g := range []Generation{1, 2, 3} {
		r, err := w.OpenGeneration(g)
		must(t, err)
		for _, p := range r.m.Packs {
			b, err := os.ReadFile(filepath.Join(w.dir, p.Pack.file()))
			must(t, err)
			for off := int64(packHeadSize); off < int64(len(b)); off += frameCost(b[off:]) {
				codecs[b[off+1]] = true
			}
		}
		must(t, r.Close())
	}
	if len(codecs) != 3 {
		t.Errorf("it has the codecs %v only", codecs)
	}
	l, err := w.Lock() // what is written to it goes on where it was
	must(t, err)
	defer l.Close()
	if g := write(t, w, 3, true, change1); g.Generation != 4 {
		t.Errorf("the next generation is %v", g.Generation)
	}
}
