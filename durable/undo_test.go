package durable

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wakepoint/wakepoint/internal/disk"
	"github.com/wakepoint/wakepoint/internal/disk/crashfs"
)

// TestUndoUnderView: a checkpoint that gives up waiting for a view leaves it what it
// sees, in leaves that are loaded and in those that are not.
func TestUndoUnderView(t *testing.T) {
	for name, save := range map[string]func(*DB, context.Context) error{
		"checkpoint": (*DB).Checkpoint,
		"backup":     func(db *DB, ctx context.Context) error { return db.Backup(ctx, io.Discard) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				db, table := onDisk(t, crashfs.New())
				defer db.Close()
				must(t, db.Update(ctx, func(tx *Tx) error {
					table.Put(tx, "a", "old")
					table.Put(tx, "b", "old")
					return nil
				}))
				must(t, db.View(ctx, func(tx *Tx) error {
					for round := range 3 {
						must(t, db.Update(ctx, func(tx *Tx) error {
							table.Put(tx, "a", fmt.Sprint("new", round))
							table.Put(tx, fmt.Sprint("c", round), "new")
							table.Delete(tx, "b")
							return nil
						}))
						short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
						defer cancel()
						if err := save(db, short); !errors.Is(err, context.DeadlineExceeded) {
							t.Errorf("saved: %v", err)
						}
						if got := fmt.Sprint(all(t, tx, table)); got != "map[a:old b:old]" {
							t.Errorf("round %d: the view sees %s", round, got)
						}
						if v, _ := table.Get(tx, "a"); v != "old" {
							t.Errorf("round %d: a is %q", round, v)
						}
					}
					return nil
				}))
				must(t, db.Checkpoint(ctx))
				same(t, db, table, model{"a": "new2", "c0": "new", "c1": "new", "c2": "new"})
			})
		})
	}
}

// TestUndoStress: whatever becomes of checkpoints and backups, cancelled or refused
// by the disk, every view sees one transaction's work, from its beginning to its
// end, and nothing is lost.
func TestUndoStress(t *testing.T) {
	const keys, rounds = 10, 1000
	var refuse atomic.Bool
	d := crashfs.New()
	d.Watch(func(op disk.Op) (disk.Verdict, error) {
		if refuse.Load() && op.Verb == "write" && strings.HasSuffix(op.Name, generationSuffix) {
			return disk.Fail, syscall.ENOSPC
		}
		return disk.Do, nil
	})
	db, table := onDisk(t, d)
	var done atomic.Int64 // the last transaction
	write := func() error {
		return db.Update(ctx, func(tx *Tx) error {
			n := done.Load() + 1
			for k := range keys { // in leaves far from each other, with something between
				table.Put(tx, fmt.Sprintf("%d", k), fmt.Sprint(n))
				table.Put(tx, fmt.Sprintf("%d/%d", k, n%500), string(make([]byte, 900)))
			}
			done.Store(n)
			return nil
		})
	}
	must(t, write())
	var over atomic.Bool
	var wg sync.WaitGroup
	for w := range 6 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(w), 1))
			for !over.Load() && !t.Failed() {
				switch {
				case w < 2:
					refuse.Store(r.IntN(2) == 0)
					short, cancel := context.WithTimeout(ctx, time.Duration(r.IntN(800))*time.Microsecond)
					if r.IntN(8) == 0 {
						short = ctx
					}
					if w == 0 {
						_ = db.Checkpoint(short)
					} else {
						_ = db.Backup(short, io.Discard)
					}
					cancel()
				default:
					if err := db.View(ctx, func(tx *Tx) error { return one(tx, table, keys) }); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	for range rounds {
		if err := write(); err != nil {
			t.Error(err)
		}
	}
	over.Store(true)
	wg.Wait()
	refuse.Store(false)
	for range 2 {
		must(t, db.View(ctx, func(tx *Tx) error { return one(tx, table, keys) }))
		if v := value(t, db, table, "0"); v != fmt.Sprint(done.Load()) {
			t.Errorf("%s of %d transactions are there", v, done.Load())
		}
		must(t, db.Checkpoint(ctx))
		must(t, db.Close())
		db, table = onDisk(t, d)
	}
}

// one says whether all keys have the same value, twice.
func one(tx *Tx, table *Table[string, string], keys int) error {
	first, _ := table.Get(tx, "0")
	for i := range 2 * keys {
		if i%keys == 0 {
			time.Sleep(100 * time.Microsecond)
		}
		if v, _ := table.Get(tx, fmt.Sprint(i%keys)); v != first {
			return fmt.Errorf("key %d has %s, and 0 had %s", i%keys, v, first)
		}
	}
	return nil
}
