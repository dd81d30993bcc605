package durable

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/wakepoint/wakepoint/internal/disk/crashfs"
)

// TestViews: while many move amounts from account to account and checkpoints are
// made, every view sees the same sum, at its beginning and at its end, in each
// account what it saw before, and never less than an earlier one of the same
// goroutine; and no view holds back the others.
func TestViews(t *testing.T) {
	const accounts, each = 4000, 100
	table := NewTable[int, int64]("accounts")
	moves := NewTable[string, int64]("moves")
	db, _, err := Open(ctx, Options{Dir: "/db", FS: crashfs.New(), segment: 1 << 20}, table, moves)
	must(t, err)
	defer db.Close()
	must(t, db.Update(ctx, func(tx *Tx) error {
		for i := range accounts {
			table.Put(tx, i, each)
		}
		return nil
	}))
	var ended atomic.Bool
	var wg, views sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(w), 1))
			for range 200 {
				err := db.Update(ctx, func(tx *Tx) error {
					from, to, n := r.IntN(accounts), r.IntN(accounts), r.Int64N(50)
					a, _ := table.Get(tx, from)
					table.Put(tx, from, a-n)
					b, _ := table.Get(tx, to)
					table.Put(tx, to, b+n)
					m, _ := moves.Get(tx, "all")
					moves.Put(tx, "all", m+1)
					return nil
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	views.Go(func() {
		for !ended.Load() {
			if err := db.Checkpoint(ctx); err != nil {
				t.Error(err)
			}
		}
	})
	for range 3 {
		views.Go(func() {
			last := int64(0)
			for !ended.Load() {
				last = look(t, db, table, moves, last)
			}
		})
	}
	wg.Wait()
	ended.Store(true)
	views.Wait()
	if n := look(t, db, table, moves, 0); n != 800 {
		t.Errorf("%d moves", n)
	}
}

// look reads all accounts twice in one view, and returns how many moves it saw.
func look(t *testing.T, db *DB, table *Table[int, int64], moves *Table[string, int64], last int64) (n int64) {
	err := db.View(ctx, func(tx *Tx) error {
		var first []int64
		sum := int64(0)
		n, _ = moves.Get(tx, "all")
		for _, v := range table.All(tx) {
			first, sum = append(first, v), sum+v
		}
		if want := int64(len(first)) * 100; sum != want || len(first) != 4000 {
			t.Errorf("%d accounts with %d, not %d", len(first), sum, want)
		}
		for i, v := range first {
			if again, _ := table.Get(tx, i); again != v {
				t.Errorf("account %d: %d, and then %d", i, v, again)
			}
		}
		if again, _ := moves.Get(tx, "all"); again != n || n < last {
			t.Errorf("%d moves, and then %d; earlier %d", n, again, last)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	return n
}

// TestLongView: a view that is open sees what it saw, whatever is changed, and a
// checkpoint waits for it and not the other way round.
func TestLongView(t *testing.T) {
	table := NewTable[string, string]("t")
	db, _, err := Open(ctx, Options{Dir: "/db", FS: crashfs.New(), segment: 1 << 20}, table)
	must(t, err)
	defer db.Close()
	want := model{}
	fill(t, db, table, 0, 2000, 0, want)
	must(t, db.Checkpoint(ctx))
	fill(t, db, table, 0, 1000, 1, want)
	saved := make(chan error, 1)
	must(t, db.View(ctx, func(tx *Tx) error {
		then := model{}
		for k, v := range all(t, tx, table) {
			then[k] = v
		}
		fill(t, db, table, 100, 200, 2, want)
		go func() { saved <- db.Checkpoint(ctx) }()
		for round := 2; round < 6; round++ {
			fill(t, db, table, 500, 2500, round, want)
			got := all(t, tx, table)
			for k, v := range then {
				if got[k] != v {
					t.Fatalf("%q was %.10q, and is %.10q", k, v, got[k])
				}
			}
			if len(got) != len(then) {
				t.Fatalf("%d keys, and then %d", len(then), len(got))
			}
		}
		select {
		case err := <-saved:
			t.Errorf("the checkpoint did not wait: %v", err)
			saved <- err
		default:
		}
		return nil
	}))
	must(t, <-saved)
	same(t, db, table, want)
	must(t, db.Close())
}
