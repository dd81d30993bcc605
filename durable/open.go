package durable

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"time"

	"github.com/wakepoint/wakepoint/internal/disk"
	"github.com/wakepoint/wakepoint/internal/redo"
)

// Recovery says what Open found and did.
type Recovery struct {
	Generation uint64        // that it went on from; 0: none
	Made       time.Time     // when that was made
	Damaged    []error       // newer generations that could not be used: the log was longer for that
	Replayed   int           // transactions of the log, which were made again
	Bytes      int64         // and their bytes
	Undone     bool          // the log ended with work that was never acknowledged; nothing is left of it
	Dropped    []string      // tables that are there and were not given to Open, jobs' as job/KIND: they stay, and nothing of them is lost
	Indexed    time.Duration // what finding the generation took
	Took       time.Duration // what Open took
}

const (
	budgetDefault    = 2 * time.Second
	generationsLeast = 3
)

func (o Options) filled() (Options, error) {
	if o.Dir == "" {
		return o, errors.New("durable: no Dir")
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return o, err
	}
	o.Dir = dir
	if o.RecoveryBudget <= 0 {
		o.RecoveryBudget = budgetDefault
	}
	o.Generations = max(o.Generations, generationsLeast)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.FS == nil {
		if err := disk.Native(); err != nil {
			return o, fmt.Errorf("durable: no FS: %w", err)
		}
		o.FS = disk.OS{}
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	return o, nil
}

// warn says when the disk will not keep what is promised, as far as it is known:
// by what an FS says itself, and one that can tell by Remote, as that of the
// operating system can.
func (o *Options) warn() {
	if in, err := o.FS.Volatile(o.Dir); err == nil && in {
		o.Logger.Warn("the directory lies in memory: a power cut empties it", "dir", o.Dir)
	}
	r, ok := o.FS.(interface {
		Remote(dir string) (kind string, err error)
	})
	if !ok {
		return
	}
	if kind, err := r.Remote(o.Dir); err == nil && kind != "" {
		o.Logger.Warn("the directory lies on a file system of another machine or program: what is durable there, and who else has it open, only that can say",
			"dir", o.Dir, "kind", kind)
	}
}

// Open opens a database with its tables, or makes it, and brings it to where it
// was: everything that was acknowledged, nothing of what was unfinished. It
// returns before all is in memory: what is needed is loaded first. On a full disk
// it opens all the same, for reading, if no table is new.
//
// Errors: ErrInUse, ErrForeign, ErrNewer, ErrType; a *DamageError when something
// is missing that was acknowledged; the context's and the file system's. An open
// that failed has changed nothing that was acknowledged.
func Open(ctx context.Context, o Options, tables ...AnyTable) (*DB, *Recovery, error) {
	began := time.Now()
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	o, err := o.filled()
	if err != nil {
		return nil, nil, err
	}
	if err := check(tables); err != nil {
		return nil, nil, err
	}
	own, lock, err := openDir(o.FS, o.Dir)
	if err != nil {
		return nil, nil, err
	}
	o.warn()
	db := newDB(o, own, lock)
	r, err := db.recover(ctx, tables)
	if err == nil && !db.owner.made {
		db.owner.made = true // from now on a directory without a log is damaged
		err = db.owner.write(o.FS, o.Dir)
	}
	if err != nil {
		if db.log != nil {
			err = errors.Join(err, db.log.Close())
		}
		return nil, nil, errors.Join(err, db.saved.close(), lock.Close())
	}
	if db.log.Segments() > segmentsMost {
		db.pacer.poke()
	}
	db.tasks.start(db)
	r.Took = time.Since(began)
	return db, r, nil
}

func newDB(o Options, own owner, lock io.Closer) *DB {
	db := &DB{o: o, owner: own, lock: lock, ids: map[AnyTable]uint32{}, names: map[uint32]string{}, turn: newTurn(), gate: newGate()}
	db.tree.load = db.load
	db.saved = saved{fs: o.FS, dir: o.Dir, id: own.id, kept: o.Generations, open: map[uint64]disk.File{}, size: map[uint64]int64{}, next: 1}
	return db
}

func (db *DB) logOptions() redo.Options {
	return redo.Options{FS: db.o.FS, Dir: db.o.Dir, Room: db.o.segment, Made: db.owner.made}
}

// recover makes the state: the newest generation that is whole, and what the log
// has behind it.
func (db *DB) recover(ctx context.Context, tables []AnyTable) (*Recovery, error) {
	r := &Recovery{}
	began := time.Now()
	if err := db.ground(r, &r.Damaged); err != nil {
		return nil, err
	}
	r.Indexed = time.Since(began)
	log, took, err := db.replay(ctx, r)
	if err != nil {
		return nil, err
	}
	db.pacer = newPacer(db.o.RecoveryBudget-r.Indexed, log, took)
	db.pacer.known = db.pacer.known || db.o.segment > 0
	return r, db.settle(ctx, r, tables)
}

// ground makes the tree of the newest generation that is whole, and adds what is
// wrong with newer ones.
func (db *DB) ground(r *Recovery, damaged *[]error) error {
	leaves, bad, err := db.saved.find()
	if err != nil {
		return err
	}
	for _, e := range bad {
		db.o.Logger.Error("a generation cannot be used", "err", e)
	}
	*damaged = append(*damaged, bad...)
	first := &leaf{loaded: true, disk: &stored{}} // that of the catalog
	db.tree.leaves = []*leaf{first, {low: prefix(nil, catalog+1), loaded: true, disk: &stored{}}}
	if leaves == nil {
		return nil
	}
	g := db.saved.list[0]
	r.Generation, r.Made, db.tree.applied = g.number, g.made, g.position
	first.base = g.catalog
	all := make([]leaf, len(leaves))
	db.tree.leaves = db.tree.leaves[:1]
	for i := range leaves {
		all[i] = leaf{low: leaves[i].low, disk: &leaves[i].stored}
		db.tree.leaves = append(db.tree.leaves, &all[i])
	}
	return nil
}

// replay opens the log and makes its transactions again. It returns what there was
// of it, and how long that took.
func (db *DB) replay(ctx context.Context, r *Recovery) (done amount, took time.Duration, err error) {
	began := time.Now()
	log, err := redo.Open(db.logOptions(), db.tree.applied, func(end redo.Position, record []byte) error {
		list, err := db.memory.parse(record)
		if err != nil {
			return fmt.Errorf("durable: record that ends at %d: %w", end, err)
		}
		db.tree.grown(db.tree.apply(list, end))
		r.Replayed++
		r.Bytes += int64(len(record))
		done.changes += int64(len(list))
		done.bytes = r.Bytes
		return ctx.Err()
	})
	if err != nil {
		return done, 0, logDamage(errors.Join(append([]error{err}, r.Damaged...)...))
	}
	db.log, r.Undone = log, log.Torn()
	return done, time.Since(began), nil
}

// settle finds the tables, and makes those that are new.
func (db *DB) settle(ctx context.Context, r *Recovery, tables []AnyTable) error {
	w, err := db.register(tables)
	if err != nil {
		return err
	}
	given := map[uint32]bool{}
	for _, id := range db.ids {
		given[id] = true
	}
	for id, name := range db.names {
		if !given[id] {
			r.Dropped = append(r.Dropped, name)
		}
	}
	slices.Sort(r.Dropped)
	if w.count == 0 {
		return nil
	}
	end, _, err := db.commit(ctx, &w)
	if err != nil {
		return err
	}
	return db.log.Wait(ctx, end)
}
