package durable

import (
	"context"
	"errors"
	"sync"
	"time"
)

// tasks is what runs in the background.
type tasks struct {
	end    context.CancelFunc
	wg     sync.WaitGroup
	saving chan struct{} // holds one while a checkpoint is made
}

func (t *tasks) start(db *DB) {
	ctx, cancel := context.WithCancel(context.Background())
	t.end, t.saving = cancel, make(chan struct{}, 1)
	t.wg.Go(func() {
		if err := db.loadAll(ctx); err != nil && ctx.Err() == nil {
			db.o.Logger.Error("not all can be loaded", "err", err)
		}
	})
	t.wg.Go(db.pacer.measure)
	t.wg.Go(func() { db.keepSaving(ctx) })
	t.wg.Go(func() { db.keepScrubbing(ctx) })
}

func (t *tasks) stop() {
	t.end()
	t.wg.Wait()
}

// saveAgain is how long after a checkpoint that failed the next one is tried.
const saveAgain = 5 * time.Second

// keepSaving makes checkpoints when they are due.
func (db *DB) keepSaving(ctx context.Context) {
	timer := time.NewTimer(dueAfter)
	defer timer.Stop()
	due := db.pacer.due
	for {
		select {
		case <-ctx.Done():
			return
		case <-due:
		case <-timer.C:
		}
		err := db.checkpoint(ctx)
		if err == nil || errors.Is(err, context.Canceled) {
			due = db.pacer.due
			timer.Reset(dueAfter)
			continue
		}
		db.o.Logger.Error("a checkpoint failed", "err", err)
		due = nil // not at once
		timer.Reset(saveAgain)
	}
}
