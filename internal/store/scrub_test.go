package store

import (
	"bytes"
	"context"
	"maps"
	"os"
	"path/filepath"
	"testing"
)

// TestScrub damages a page, a node and a whole pack in turn. Scrub names them,
// and the next generation that is written whole refers to none of them: with
// the old packs damaged for good it is as it should be.
func TestScrub(t *testing.T) {
	for _, c := range []struct {
		name   string
		damage func(t *testing.T, w *Workload)
	}{
		{"a page", func(t *testing.T, w *Workload) { flipPage(t, w, 7) }},
		{"two pages", func(t *testing.T, w *Workload) { flipPage(t, w, 7); flipPage(t, w, 30) }},
		{"a pack", func(t *testing.T, w *Workload) { must(t, os.Remove(filepath.Join(w.dir, packsDir, "g1.0"))) }},
		{"a pack cut short", func(t *testing.T, w *Workload) {
			must(t, os.Truncate(filepath.Join(w.dir, packsDir, "g1.0"), 50_000))
		}},
		{"copies", func(t *testing.T, w *Workload) { flip(t, filepath.Join(w.dir, packsDir, "g2.c0"), 120) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := lockedWorkload(t, unsynced{}, filepath.Join(t.TempDir(), "w"))
			want := history(t, w)[3]
			var paced int64
			pace := func(n int64) { paced += n }
			if found, err := w.Scrub(context.Background(), pace); err != nil || len(found) > 0 || paced == 0 {
				t.Fatalf("whole: %v, %v, %d bytes", found, err, paced)
			}
			c.damage(t, w)
			found, err := w.Scrub(context.Background(), pace)
			if err != nil || len(found) == 0 {
				t.Fatalf("nothing was found: %v", err)
			}
			g := write(t, w, 3, false, func(s *SectionWriter) error {
				for i := range int64(40) {
					if err := s.Put(i*PageSize, want[i]); err != nil {
						return err
					}
				}
				return nil
			})
			got, err := contents(w, g.Generation)
			if err != nil || !maps.EqualFunc(got, want, bytes.Equal) {
				t.Errorf("written whole after the scrub: %v", err)
			}
			if c.name == "a page" && g.NewBytes > 4*PageSize {
				t.Errorf("%d bytes were written for one page", g.NewBytes)
			}
		})
	}
}

// flipPage damages a page of the newest generation.
func flipPage(t *testing.T, w *Workload, page int64) {
	t.Helper()
	r, err := w.OpenGeneration(3)
	must(t, err)
	defer r.Close()
	e, err := newCursor(&nodes{r: r.packs}, &r.m.Sections[0]).page(page)
	must(t, err)
	flip(t, filepath.Join(w.dir, e.pack.file()), int64(e.off)+frameHead+3)
}

func flip(t *testing.T, file string, at int64) {
	t.Helper()
	b, err := os.ReadFile(file)
	must(t, err)
	b[at] ^= 4
	must(t, os.WriteFile(file, b, 0o600))
}
