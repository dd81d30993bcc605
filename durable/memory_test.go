package durable

import (
	"maps"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/wakepoint/wakepoint/internal/disk/crashfs"
)

// TestMemory: what a transaction takes in memory is bounded by what it changes, not
// by how often, and what it holds is the same all the while.
func TestMemory(t *testing.T) {
	d := crashfs.New()
	db, table := onDisk(t, d)
	want := map[string]string{}
	r := rand.New(rand.NewPCG(1, 1))
	most := 0
	must(t, db.Update(ctx, func(tx *Tx) error {
		for n := range 20000 {
			k := string(rune('a' + r.IntN(26)))
			if r.IntN(5) == 0 {
				table.Delete(tx, k)
				delete(want, k)
			} else {
				want[k] = strings.Repeat(string(rune('A'+n%26)), r.IntN(4000))
				table.Put(tx, k, want[k])
			}
			most = max(most, cap(tx.arena))
			v, found := table.Get(tx, k)
			if own, there := want[k]; found != there || v != own {
				t.Fatalf("after %d changes %s has %d bytes (%t), not %d (%t)", n+1, k, len(v), found, len(own), there)
			}
		}
		if got := maps.Collect(table.All(tx)); !maps.Equal(got, want) {
			t.Error("it sees something else than it has put")
		}
		return nil
	}))
	if t.Logf("at most %d KiB", most>>10); most > 1<<20 { // of at most 104 KiB that it changed
		t.Error("that is too much")
	}
	must(t, db.Close())
	db, table = onDisk(t, d)
	must(t, db.View(ctx, func(tx *Tx) error {
		if got := maps.Collect(table.All(tx)); !maps.Equal(got, want) {
			t.Error("something else is there than was put")
		}
		return nil
	}))
	must(t, db.Close())
}
