package durable

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	jobsAtOnce = 16   // of a kind
	whyMax     = 1024 // bytes of an error that are kept
	// How long after its first failure a step is tried again, and at most later: each
	// time it is twice as long. Up to half of it is left off by chance.
	retryFirst = 100 * time.Millisecond
	retryLast  = time.Minute
)

// Retry makes an error by which a step is tried again, after so long; 0: after a
// tenth of a second at first, and up to a minute later. Of nil it is nil. What the
// step has done until then counts as something that may have been done: when a later
// try fails for good, the step is undone as well.
func Retry(err error, after time.Duration) error {
	if err == nil {
		return nil
	}
	return &retry{err, after}
}

type retry struct {
	error
	after time.Duration
}

func (r *retry) Unwrap() []error { return []error{ErrRetry, r.error} }

// retried says whether a step is tried again for an error: a full disk goes away
// by itself, too.
func retried(err error) bool { return errors.Is(err, ErrRetry) || errors.Is(err, ErrFull) }

// pause is how long to wait before a step is tried again, when it was before.
func pause(err error, before int) time.Duration {
	var r *retry
	if errors.As(err, &r) && r.after > 0 {
		return r.after
	}
	d := retryLast
	if before < 10 {
		d = min(retryFirst<<before, retryLast)
	}
	return d - rand.N(d/2)
}

// Work is a step that is being done or undone. It is for the goroutine in which
// that runs, and ends with it.
type Work[S any] struct {
	j      *Job[S]
	db     *DB
	id     string
	began  jobRecord
	tried  bool      // a try before this one may have had an effect
	now    jobRecord // as far as it is recorded
	failed error     // of the last Update
	over   atomic.Bool
}

// ID is that of the job.
func (w *Work[S]) ID() string { return w.id }

// Key is KIND/ID/STEP/do or KIND/ID/STEP/undo, with steps from 0: the same however
// often this is tried, and another one for anything else. With it others can
// tell whether they have done something already.
func (w *Work[S]) Key() string {
	way := "do"
	if w.began.Phase == JobUndoing {
		way = "undo"
	}
	return fmt.Sprintf("%s/%s/%d/%s", w.j.kind, w.id, w.began.next(), way)
}

// Recorded says of an Undo whether the Do before it was recorded. If it was not, all
// that is in the database is as if the Do had never been called, but what it did
// outside may be done. Of a Do it says false.
func (w *Work[S]) Recorded() bool { return w.began.Phase == JobUndoing && !w.began.Unsure }

// State is that of the job. It is the caller's own: Update changes it.
func (w *Work[S]) State() S {
	s, _ := w.j.states.Decode(w.now.State) // it was decoded when the step began
	return s
}

// Update runs the one transaction of a step, as DB.Update does: what it changes,
// the job's new state and that the step is done, or undone, are durable together.
// When it has returned an error it may be called again; a step that is recorded
// returns ErrRecorded.
func (w *Work[S]) Update(ctx context.Context, f func(tx *Tx, state *S) error) error {
	var next jobRecord
	w.failed = w.db.Update(ctx, func(tx *Tx) error {
		r, found := w.j.get(tx, w.id)
		if w.over.Load() || w.left(w.now) || !found || w.left(r) {
			return ErrRecorded
		}
		s := w.j.state(tx, w.id, r.State)
		if err := f(tx, &s); err != nil {
			return err
		}
		if r, found = w.j.get(tx, w.id); !found || w.left(r) { // f has canceled the job
			return ErrRecorded
		}
		r.State = w.j.encoded(tx, w.id, s)
		next = w.j.after(r)
		w.j.table.Put(tx, w.id, next)
		return nil
	})
	if w.failed == nil || errors.Is(w.failed, ErrUnknown) { // it is there until a crash
		w.now = next
		w.j.tell(jobWait{w.db, w.id})
	}
	return w.failed
}

// left says whether a job has gone on from this step, or is another one.
func (w *Work[S]) left(r jobRecord) bool {
	return r.Fresh || r.Phase != w.began.Phase || r.Step != w.began.Step
}

// after is a record when one more step is done, or undone.
func (j *Job[S]) after(r jobRecord) jobRecord {
	if r.Phase == JobUndoing {
		r.Step--
		r.Unsure = false
		return j.undoing(r)
	}
	if r.Step++; r.Step == r.Steps {
		r.Phase = JobDone
	}
	return r
}

// failed is a record whose next step will not be done. If that was tried before, it
// may have had an effect.
func (j *Job[S]) failed(r jobRecord, tried bool, why string) jobRecord {
	r.Why, r.Fresh = why, false
	if tried && j.steps[r.Step].Undo != nil {
		r.Step++
		r.Unsure = true
	}
	return j.undoing(r)
}

// undoing is a record whose steps are undone from now on. Where there is nothing
// to be undone none is.
func (j *Job[S]) undoing(r jobRecord) jobRecord {
	for r.Step > 0 && j.steps[r.Step-1].Undo == nil {
		r.Step--
	}
	if r.Phase = JobUndoing; r.Step == 0 {
		r.Phase = JobUndone
	}
	return r
}

// jobRun is a run of the jobs of a kind.
type jobRun[S any] struct {
	j     *Job[S]
	db    *DB
	more  chan struct{} // holds one: something was queued
	slots chan struct{} // holds one for each job that is at work
	wg    sync.WaitGroup

	mu     sync.Mutex // guards the rest
	queue  []jobTask
	known  map[string]bool   // jobs that are queued, at work or asleep; true: and to be looked at again
	asleep map[string]func() // wakes those that are tried later
	err    error             // why the run ends
}

// jobTask is a job that is to be gone on with.
type jobTask struct {
	id    string
	tries int // of its next step, so far
}

// Run goes on with all jobs of the kind that have not ended, and with those that
// are started meanwhile, until the context ends: from the step that was recorded
// last, or undoing. Several jobs are at work at once, of each one step after the
// other. It returns when no step runs any more; those that were cut off are done
// again by the next Run.
//
// A step that fails is not tried again, unless its error wraps ErrRetry or
// ErrFull: all that was done is undone, the last step first; of the one that failed
// see Step. When an Undo fails the job is stuck. An error counts for nothing when the context has ended, or
// when the step is recorded already. nil from a step whose last Update failed is
// the error of that. A step that panics is tried again as for ErrRetry, and
// Options.Logger gets its stack.
//
// Errors: the context's; ErrRunning; ErrType and ErrNewer, before anything is
// done, when there are jobs with other steps, or of a newer version; those of
// Update.
func (j *Job[S]) Run(ctx context.Context, db *DB) error {
	r, err := j.enter(db)
	if err != nil {
		return err
	}
	defer j.leave(db)
	if err := r.find(ctx); err != nil {
		return err
	}
	own, cancel := context.WithCancel(ctx)
	defer r.wg.Wait()
	defer cancel()
	for {
		select {
		case r.slots <- struct{}{}:
		case <-own.Done():
			return ctx.Err()
		}
		t, err := r.wait(own)
		if err != nil {
			return err
		}
		r.wg.Go(func() { r.work(own, t) })
	}
}

// find queues all jobs that are to be gone on with.
func (r *jobRun[S]) find(ctx context.Context) error {
	// A closure that began before the run was known has started its jobs by then.
	if err := r.db.Update(ctx, func(*Tx) error { return nil }); err != nil {
		return err
	}
	return r.db.View(ctx, func(tx *Tx) error {
		var wrong []error
		for id, rec := range r.j.table.All(tx) {
			if err := rec.check(); err != nil {
				r.j.fail(tx, id, err)
			}
			if !rec.going() {
				continue
			}
			r.j.state(tx, id, rec.State)
			if err := r.j.same(id, rec); err != nil {
				wrong = append(wrong, err)
			}
			r.push(id)
		}
		return errors.Join(wrong...)
	})
}

// push queues a job, if it is not known.
func (r *jobRun[S]) push(id string) {
	r.mu.Lock()
	_, known := r.known[id]
	if r.known[id] = known; !known {
		r.queue = append(r.queue, jobTask{id: id})
	}
	if up := r.asleep[id]; up != nil {
		up()
	}
	r.mu.Unlock()
	r.wake()
}

// pushed says whether a job that is at work is to be looked at again.
func (r *jobRun[S]) pushed(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	again := r.known[id]
	r.known[id] = false
	return again
}

func (r *jobRun[S]) wake() {
	select {
	case r.more <- struct{}{}:
	default:
	}
}

// wait returns the next job, or why there is none any more.
func (r *jobRun[S]) wait(ctx context.Context) (jobTask, error) {
	for {
		r.mu.Lock()
		if r.err != nil || len(r.queue) > 0 && ctx.Err() == nil {
			defer r.mu.Unlock()
			if r.err != nil {
				return jobTask{}, r.err
			}
			t := r.queue[0]
			r.queue = r.queue[1:]
			return t, nil
		}
		r.mu.Unlock()
		select {
		case <-r.more:
		case <-ctx.Done():
			return jobTask{}, ctx.Err()
		case <-r.db.gate.empty:
			return jobTask{}, ErrClosed
		}
	}
}

// work goes on with a job until it has ended, or has to be tried again later. A
// step that ends its goroutine leaves it as it is.
func (r *jobRun[S]) work(ctx context.Context, t jobTask) {
	var later time.Duration
	defer func() {
		<-r.slots
		r.put(ctx, t, later)
	}()
	rec, tried, err := r.load(ctx, t.id)
	for err == nil && rec.going() {
		var failed error
		if rec, failed, err = r.step(ctx, t.id, rec, tried); failed != nil {
			later = pause(failed, t.tries)
			t.tries++
			return
		}
		t.tries, tried = 0, false
		if err == nil && r.pushed(t.id) { // it was canceled, or is another one by now
			rec, _, err = r.load(ctx, t.id)
		}
	}
	switch {
	case err == nil || ctx.Err() != nil:
	case errors.Is(err, ErrFull):
		r.db.o.Logger.Warn("a job waits for room", "kind", r.j.kind, "id", t.id, "err", err)
		later = pause(err, t.tries)
		t.tries++
	default:
		r.mu.Lock()
		r.err = errors.Join(r.err, err)
		r.mu.Unlock()
		r.wake()
	}
}

// put queues a job again that has to be tried later, or looked at again.
func (r *jobRun[S]) put(ctx context.Context, t jobTask, later time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if again := r.known[t.id]; again || later == 0 {
		if delete(r.known, t.id); again {
			r.known[t.id] = false
			r.queue = append(r.queue, jobTask{id: t.id})
			r.wake()
		}
		return
	}
	nap, up := context.WithTimeout(ctx, later)
	r.asleep[t.id] = up
	r.wg.Go(func() {
		<-nap.Done()
		up()
		r.mu.Lock()
		delete(r.asleep, t.id)
		r.known[t.id] = false
		r.queue = append(r.queue, t)
		r.mu.Unlock()
		r.wake()
	})
}

// load reads a job when whoever has started it has ended, and that is durable. It
// says whether the next step may have been tried; from now on it may have been.
func (r *jobRun[S]) load(ctx context.Context, id string) (rec jobRecord, tried bool, err error) {
	err = r.db.Update(ctx, func(tx *Tx) error {
		var found bool
		if rec, found = r.j.get(tx, id); !found || !rec.going() {
			return nil
		}
		r.j.state(tx, id, rec.State)
		if err := r.j.same(id, rec); err != nil {
			return err
		}
		if tried = !rec.Fresh; !tried {
			rec.Fresh = false
			r.j.table.Put(tx, id, rec)
		}
		return nil
	})
	if err == nil && !rec.going() {
		r.j.tell(jobWait{r.db, id})
	}
	return rec, tried, err
}

// step does or undoes the next step of a job, and returns what is recorded then,
// or for which error it is to be tried again.
func (r *jobRun[S]) step(ctx context.Context, id string, rec jobRecord, tried bool) (next jobRecord, again, err error) {
	w := &Work[S]{j: r.j, db: r.db, id: id, began: rec, tried: tried, now: rec}
	do := r.j.steps[rec.next()].Do
	if rec.Phase == JobUndoing {
		do = r.j.steps[rec.next()].Undo
	}
	var failed error
	if do != nil { // an Undo that the program had when the step was done
		failed = w.call(ctx, do)
	}
	w.over.Store(true)
	if err := ctx.Err(); err != nil {
		return rec, nil, err
	}
	if failed == nil && w.failed == nil && w.left(w.now) {
		return w.now, nil, nil
	}
	if failed == nil {
		failed = w.failed
	}
	return r.settle(ctx, w, failed)
}

// call is a step. Its panic is an error to be tried again: it would only come again
// after a restart, and take all else down with it each time.
func (w *Work[S]) call(ctx context.Context, do func(context.Context, *Work[S]) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			w.db.o.Logger.Error("a step of a job panicked", "step", w.Key(), "panic", p, "stack", string(debug.Stack()))
			err = Retry(fmt.Errorf("panic: %v", p), 0)
		}
	}()
	return do(ctx, w)
}

// settle records what became of a step, if the step has not.
func (r *jobRun[S]) settle(ctx context.Context, w *Work[S], failed error) (next jobRecord, again, err error) {
	var left bool
	err = r.db.Update(ctx, func(tx *Tx) error {
		rec, found := r.j.get(tx, w.id)
		// What is there now may be another job of the same id.
		next, left = rec, !found || w.left(rec) || w.left(w.now)
		switch {
		case left || retried(failed):
			return nil
		case failed == nil:
			next = r.j.after(rec)
		case rec.Phase == JobRunning:
			next = r.j.failed(rec, w.tried, text(failed))
		default:
			next.Phase, next.Stuck = JobStuck, text(failed)
		}
		r.j.table.Put(tx, w.id, next)
		return nil
	})
	if err != nil {
		return next, nil, err
	}
	r.told(w, next, left, failed)
	if !left && retried(failed) {
		return next, failed, nil
	}
	return next, nil, nil
}

// told says what became of a step to those who wait, and to the log.
func (r *jobRun[S]) told(w *Work[S], next jobRecord, left bool, failed error) {
	if !next.going() {
		r.j.tell(jobWait{r.db, w.id})
	}
	log := r.db.o.Logger.With("step", w.Key())
	switch {
	case failed == nil:
	case left:
		log.Warn("a step of a job failed when it was recorded", "err", failed)
	case retried(failed):
		log.Info("a step of a job is tried again", "err", failed)
	case next.Phase == JobStuck:
		log.Error("a step of a job cannot be undone", "err", failed)
	default:
		log.Info("a job is undone", "err", failed)
	}
}

// text is an error as it is kept.
func text(err error) string {
	s := err.Error()
	return strings.ToValidUTF8(s[:min(len(s), whyMax)], "")
}
