package durable_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wakepoint/wakepoint/durable"
	"github.com/wakepoint/wakepoint/durable/durabletest"
)

// TestLives: a server that is killed again and again, long before a checkpoint is due,
// does not fill the disk with a file of the log for each life, whether it does
// something in it or not.
func TestLives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := durabletest.NewDisk()
		ctx := context.Background()
		for life := range 100 {
			counts := durable.NewTable[string, int]("counts")
			db, _, err := durable.Open(ctx, durable.Options{Dir: "/db", FS: d}.WithSegments(1<<16), counts)
			if err != nil {
				t.Fatal(err)
			}
			if life < 50 {
				err = db.Update(ctx, func(tx *durable.Tx) error {
					n, _ := counts.Get(tx, "lives")
					counts.Put(tx, "lives", n+1)
					return nil
				})
				if err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(time.Second)
			d = d.Kill()
			_ = db.Close() // of the life that was ended: nothing of it gets to the disk
		}
		entries, err := d.ReadDir("/db")
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, e := range entries {
			if strings.HasSuffix(e.Name(), ".redo") {
				n++
			}
		}
		if t.Logf("%d files of the log", n); n > 50 {
			t.Error("they are too many")
		}
	})
}
