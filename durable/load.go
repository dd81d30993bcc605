package durable

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io/fs"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/wakepoint/wakepoint/internal/redo"
)

// load loads a leaf. What is damaged is made anew of an older generation and of
// the log behind it, if they have it.
func (db *DB) load(l *leaf) error {
	l.loading.Lock()
	defer l.loading.Unlock()
	t := &db.tree
	for {
		t.mu.RLock()
		loaded, at, err := l.loaded, l.disk, l.damage
		t.mu.RUnlock()
		if loaded || err != nil {
			return err
		}
		base, runs, err := db.saved.leaf(at)
		anew := err != nil
		if anew {
			db.o.Logger.Error("a range is damaged", "err", err)
			base, err = db.repair(l, err)
		}
		t.mu.Lock()
		if l.disk != at { // a checkpoint was faster
			t.mu.Unlock()
			continue
		}
		if err != nil {
			if !unread(err) {
				l.damage = err
			}
			t.mu.Unlock()
			return err
		}
		l.base, l.runs, l.late, l.loaded = base, runs, nil, true
		if anew {
			l.disk = nil
			l.splits++ // what a checkpoint knows of it is not true any more
			t.touch(l)
		}
		t.mu.Unlock()
		return nil
	}
}

// unread says that the disk could not be read, which it may be the next time.
func unread(err error) bool { return errors.As(err, new(*fs.PathError)) }

// repair makes the leaf of the newest generation anew.
func (db *DB) repair(l *leaf, why error) (*block, error) {
	db.saved.keep.RLock()
	defer db.saved.keep.RUnlock()
	list := db.saved.generations()
	to := list[0].position
	high := db.tree.high(l)
	for _, g := range list[1:] {
		base, err := db.rebuild(g.number, l.low, high, to)
		if err == nil {
			db.o.Logger.Warn("the range was made anew", "generation", g.number)
			return base, nil
		}
		why = errors.Join(why, err)
	}
	out := &DamageError{Table: db.tableOf(l.low, high), Why: why}
	var first *DamageError
	if errors.As(why, &first) {
		out.File, out.Why = first.File, first.Why
	}
	return nil, out
}

// high is the first key behind a leaf; nil: it is the last one.
func (t *tree) high(l *leaf) []byte {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if i := t.find(l.low); i+1 < len(t.leaves) {
		return t.leaves[i+1].low
	}
	return nil
}

// tableOf is the name of the table that a range belongs to; "": of several.
func (db *DB) tableOf(low, high []byte) string {
	if len(low) < tablePrefix {
		return ""
	}
	id := binary.BigEndian.Uint32(low)
	if end := prefix(nil, id+1); high == nil || bytes.Compare(high, end) > 0 {
		return ""
	}
	return db.names[id]
}

// rebuild makes a range as it was at a position, of an earlier generation and
// the log.
func (db *DB) rebuild(number uint64, low, high []byte, to redo.Position) (*block, error) {
	g, leaves, err := readGeneration(db.saved.fs, db.saved.dir, db.owner.id, number)
	if err != nil {
		return nil, err
	}
	in := func(key []byte) bool {
		return bytes.Compare(key, low) >= 0 && (high == nil || bytes.Compare(key, high) < 0)
	}
	var list changes
	for i := range leaves {
		if i+1 < len(leaves) && bytes.Compare(leaves[i+1].low, low) <= 0 {
			continue
		}
		if high != nil && bytes.Compare(leaves[i].low, high) >= 0 {
			break
		}
		base, runs, err := db.saved.leaf(&leaves[i].stored)
		if err != nil {
			return nil, err
		}
		l := leaf{base: base, runs: runs}
		merged(l.layers(now), nil, func(c change) bool {
			if in(c.key) && !c.deleted {
				list = append(list, c)
			}
			return true
		})
	}
	over := &overlay{}
	_, _, err = redo.Read(db.logOptions(), g.position, to, func(_ redo.Position, record []byte) error {
		return parseRecord(record, func(c change) {
			if in(c.key) {
				over.set(c, g.position, 0)
			}
		})
	})
	if err != nil {
		return nil, err
	}
	return flatten([]layer{view{over, now}, list}, true), nil
}

// Load returns when all is in memory. It is loaded in any case, in the
// background; what is needed sooner is loaded then.
//
// Errors: *DamageError of one range, ErrClosed, the context's.
func (db *DB) Load(ctx context.Context) error {
	if err := db.enter(ctx); err != nil {
		return err
	}
	defer db.gate.leave()
	return db.loadAll(ctx)
}

// loadAll loads with as many goroutines as can run.
func (db *DB) loadAll(ctx context.Context) error {
	db.tree.mu.RLock()
	leaves := append([]*leaf(nil), db.tree.leaves...)
	db.tree.mu.RUnlock()
	var next atomic.Int64
	var wg sync.WaitGroup
	errs := make([]error, runtime.GOMAXPROCS(0))
	for w := range errs {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(leaves)) && ctx.Err() == nil; i = next.Add(1) - 1 {
				if err := db.load(leaves[i]); err != nil && errs[w] == nil {
					errs[w] = err
				}
			}
		})
	}
	wg.Wait()
	for _, err := range append(errs, ctx.Err()) {
		if err != nil {
			return err
		}
	}
	return nil
}
