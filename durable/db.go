package durable

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wakepoint/wakepoint/internal/redo"
)

// Options says where a database lies. All but Dir may be zero.
type Options struct {
	Dir string // made if it is missing; nothing else may be in it
	// RecoveryBudget is how long Open may take after a crash, about; 0: 2 seconds.
	// Checkpoints are made as often as that needs.
	RecoveryBudget time.Duration
	Generations    int              // checkpoints that are kept, at least 3; 0: 3
	Logger         *slog.Logger     // nil: none
	FS             FS               // nil: the operating system's
	Clock          func() time.Time // for the times of generations; nil: time.Now

	segment int64 // of the log, in bytes; for tests, in which nothing is measured
}

// DB is an open database.
type DB struct {
	o      Options
	owner  owner
	lock   io.Closer // of the directory
	log    *redo.Log
	tree   tree
	ids    map[AnyTable]uint32
	names  map[uint32]string // of all tables, by number
	turn   *turn             // of closures of Update
	memory memory            // of whoever has the turn
	gate   gate
	saved  saved
	pacer  *pacer
	tasks  tasks
}

// Update runs a closure that may change tables, and returns when what it did is
// durable. Closures run one at a time, each sees all that came before. When it
// returns an error, panics or is cut off, nothing was changed. It must not block,
// send anything or call Update, of another database either: others wait for it. An
// Update in it is told so by ErrNested after a second; one of another goroutine for
// which it waits is not seen to be in it, and both wait for each other.
//
// Errors: that of the closure; that of the context, when nothing was done yet,
// and ErrUnknown when it ended later; ErrTooLarge, ErrFull, ErrNested,
// ErrPoisoned, ErrClosed; a *DamageError when it read what cannot be read.
func (db *DB) Update(ctx context.Context, f func(*Tx) error) error {
	if err := db.enter(ctx); err != nil {
		return err
	}
	defer db.gate.leave()
	if err := db.pacer.admit(ctx); err != nil {
		return err
	}
	end, changed, err := db.transact(ctx, f)
	if end == 0 {
		return err
	}
	werr := db.log.Wait(ctx, end)
	if werr != nil && werr == ctx.Err() && changed {
		werr = fmt.Errorf("%w: %w", ErrUnknown, werr)
	}
	return both(err, werr)
}

// both is the closure's error, as it is if there is no other.
func both(err, waited error) error {
	if waited == nil {
		return err
	}
	return errors.Join(err, waited)
}

// transact runs a closure of Update and commits what it changed. What it saw or
// changed is durable when the log is up to end.
func (db *DB) transact(ctx context.Context, f func(*Tx) error) (end redo.Position, changed bool, err error) {
	if err := db.turn.take(ctx); err != nil {
		return 0, false, err
	}
	var large []*leaf
	defer func() { db.tree.grown(large) }()
	defer db.turn.give()
	tx := &Tx{db: db, at: now, writable: true}
	db.memory.lend(tx)
	if err := tx.call(f); err != nil {
		return db.tree.applied, false, err
	}
	if tx.writes.count == 0 {
		return db.tree.applied, false, nil
	}
	end, large, err = db.commit(ctx, &tx.writes)
	db.memory.back(tx)
	return end, err == nil, err
}

// commit puts changes into the log and the tree. The caller has the turn.
func (db *DB) commit(ctx context.Context, w *writes) (redo.Position, []*leaf, error) {
	record, list := db.memory.record(w)
	end, err := db.log.Append(ctx, record)
	if err != nil {
		return 0, nil, err
	}
	large := db.tree.apply(list, end)
	db.pacer.wrote(len(list), len(record))
	return end, large, nil
}

// View runs a closure on the newest state as it is at one instant, while others
// go on, and returns when all that it saw is durable. A view that lasts long
// holds back checkpoints.
//
// Errors: those of the closure and of the context, ErrReadOnly, ErrPoisoned,
// ErrClosed, *DamageError.
func (db *DB) View(ctx context.Context, f func(*Tx) error) error {
	if err := db.enter(ctx); err != nil {
		return err
	}
	defer db.gate.leave()
	tx := &Tx{db: db, at: db.tree.begin()}
	err := func() error {
		defer db.tree.views.end(tx.at)
		return tx.call(f)
	}()
	return both(err, db.log.Wait(ctx, tx.at))
}

// enter lets a call in, if it has any prospect.
func (db *DB) enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := db.gate.enter(); err != nil {
		return err
	}
	if err := db.log.Err(); err != nil {
		db.gate.leave()
		return err
	}
	return nil
}

// nested says whether the caller was called by a closure of Update.
//
// BUG: a closure of another database counts, too, and below 1024 frames nothing
// is seen.
func nested() bool {
	pcs := make([]uintptr, 1024)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(1, pcs)])
	for n := 0; ; {
		f, more := frames.Next()
		if strings.HasSuffix(f.Function, "durable.(*DB).transact") {
			n++
		}
		if !more {
			return n > 1
		}
	}
}

// gate lets calls in until it is closed.
type gate struct {
	in    atomic.Int64 // calls that are in, and gateClosed
	once  sync.Once
	empty chan struct{} // closed when the last one has left
}

// gateClosed is more than there are calls.
const gateClosed = 1 << 40

func newGate() gate { return gate{empty: make(chan struct{})} }

func (g *gate) enter() error {
	if g.in.Add(1) < gateClosed {
		return nil
	}
	g.leave()
	return ErrClosed
}

func (g *gate) leave() {
	if g.in.Add(-1) == gateClosed {
		g.once.Do(func() { close(g.empty) })
	}
}

// close waits until all are out; false: it was closed before.
func (g *gate) close() bool {
	for {
		n := g.in.Load()
		if n >= gateClosed {
			return false
		}
		if g.in.CompareAndSwap(n, n+gateClosed+1) {
			break
		}
	}
	g.leave()
	<-g.empty
	return true
}

// Close waits for the calls that are running and closes the database. What was
// acknowledged is durable already. In a closure it would wait for itself.
func (db *DB) Close() error {
	if !db.gate.close() {
		return ErrClosed
	}
	return db.shut()
}

// shut ends what runs in the background and lets go of the files.
func (db *DB) shut() error {
	db.tasks.stop()
	return errors.Join(db.log.Close(), db.saved.close(), db.lock.Close())
}
