package store

import (
	"path/filepath"
	"testing"
)

// TestWaits says of a draft whether it was larger than its buffer.
func TestWaits(t *testing.T) {
	w := lockedWorkload(t, unsynced{}, filepath.Join(t.TempDir(), "w"))
	for _, c := range []struct {
		pages int
		waits bool
	}{{100, false}, {4000, true}} {
		d, err := w.BeginBuffered(0, 1<<20)
		must(t, err)
		s, err := d.Section("mem", false)
		must(t, err)
		for i := range 4000 { // while the program runs it does not matter
			must(t, s.Put(int64(i)*PageSize, page(i)))
		}
		d.Still(true)
		for i := range c.pages {
			must(t, s.Put(int64(i)*PageSize, page(i)))
		}
		if (d.Waits() > 0) != c.waits {
			t.Errorf("%d pages: %d waits", c.pages, d.Waits())
		}
		must(t, d.Abort())
	}
}
