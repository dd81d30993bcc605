package durable

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// turn is held by one at a time. Who comes while it is free takes it, also when
// others wait: those that run go on, and nobody waits for one that sleeps to wake
// up. Who waits can give up.
type turn struct {
	held    atomic.Bool
	waiting atomic.Int32
	free    chan struct{} // holds one: it was let go when somebody waited

	mu   sync.Mutex
	late chan struct{} // closed when all who wait look whether it is for themselves; nil: no timer runs
}

func newTurn() *turn { return &turn{free: make(chan struct{}, 1)} }

const (
	turnTries = 1000 // before sleeping: about as long as another takes
	// nestedAfter is how long an Update waits for its turn, at most, before it looks
	// whether it waits for itself.
	nestedAfter = time.Second
)

// take waits for the turn.
func (t *turn) take(ctx context.Context) error {
	for range turnTries {
		if t.try() {
			return nil
		}
	}
	t.waiting.Add(1)
	defer t.waiting.Add(-1)
	for late := t.look(); !t.try(); {
		select {
		case <-t.free:
		case <-ctx.Done():
			t.pass()
			return ctx.Err()
		case <-late:
			if nested() {
				t.pass()
				return ErrNested
			}
			late = t.look()
		}
	}
	return nil
}

// look gives a channel that is closed after a while. All who wait have the same:
// a timer for each would cost more than most of them wait.
func (t *turn) look() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.late == nil {
		t.late = make(chan struct{})
		time.AfterFunc(nestedAfter, t.remind)
	}
	return t.late
}

func (t *turn) remind() {
	t.mu.Lock()
	defer t.mu.Unlock()
	close(t.late)
	t.late = nil
}

func (t *turn) try() bool { return !t.held.Load() && t.held.CompareAndSwap(false, true) }

// give lets the turn go.
func (t *turn) give() {
	t.held.Store(false)
	t.pass()
}

// pass wakes one that waits.
func (t *turn) pass() {
	if t.waiting.Load() > 0 {
		select {
		case t.free <- struct{}{}:
		default:
		}
	}
}
