package durable

import (
	"testing"

	"github.com/wakepoint/wakepoint/internal/disk/crashfs"
)

// TestPacerReplay: what the log holds counts for the next checkpoint as much when it
// was replayed as it did when it was written.
func TestPacerReplay(t *testing.T) {
	d := crashfs.New()
	db, table := onDisk(t, d)
	for range 10 {
		must(t, db.Update(ctx, func(tx *Tx) error {
			for k := range 500 {
				table.Put(tx, string(rune('0'+k)), "value")
			}
			return nil
		}))
	}
	pending := func() amount {
		db.pacer.mu.Lock()
		defer db.pacer.mu.Unlock()
		return db.pacer.since
	}
	want := pending()
	if want.changes < 10*500 {
		t.Fatalf("%d changes were counted", want.changes)
	}
	must(t, db.Close())
	db, _ = onDisk(t, d)
	if got := pending(); got != want {
		t.Errorf("%+v after it was opened again, %+v before", got, want)
	}
	must(t, db.Close())
}
