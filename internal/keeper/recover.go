package keeper

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/wakepoint/wakepoint/internal/api"
	"github.com/wakepoint/wakepoint/internal/hint"
	"github.com/wakepoint/wakepoint/internal/store"
)

const (
	recoverAtOnce = 8                     // workloads brought back in parallel
	busyWait      = 2 * time.Minute       // for a keeper that is bringing its workload up already
	busyAgain     = 50 * time.Millisecond // how often that is looked at
)

// Recover brings back every workload that should run: a keeper that lives is
// left alone, a tree that runs without a keeper is taken over, and any other
// is restored or, with on_crash fresh, started afresh. Workloads come back in
// parallel; the outcomes are in the order of their names. The error is only
// of reading the store.
func Recover(ctx context.Context, s Site, progress Progress) ([]Outcome, error) {
	s, err := s.filled()
	if err != nil {
		return nil, err
	}
	st, err := s.open()
	if err != nil {
		return nil, err
	}
	names, err := st.Names()
	if err != nil {
		return nil, err
	}
	outcomes := make([]*Outcome, len(names))
	var wg sync.WaitGroup
	var mu sync.Mutex // one word at a time
	slots := make(chan struct{}, recoverAtOnce)
	for i, name := range names {
		wg.Add(1)
		go func() {
			defer wg.Done()
			slots <- struct{}{}
			defer func() { <-slots }()
			outcomes[i] = s.recoverOne(ctx, name, func(words string) {
				mu.Lock()
				defer mu.Unlock()
				progress.say(name + ": " + words)
			})
		}()
	}
	wg.Wait()
	var out []Outcome
	for _, o := range outcomes {
		if o != nil {
			out = append(out, *o)
		}
	}
	return out, nil
}

// recoverOne brings one workload back; nil when it should not run.
func (s Site) recoverOne(ctx context.Context, name string, progress Progress) *Outcome {
	w, err := s.salvage(name)
	if err != nil {
		return nil // gone
	}
	var run runRecord
	if err := getRecord(w, recordRun, &run); err == nil && !run.Wanted {
		return nil
	}
	fail := func(err error) *Outcome { return &Outcome{Name: name, Err: hint.Workload(name, err)} }
	if w, err = s.workload(name); err != nil {
		return fail(err)
	}
	_, err = recordsOf(w, name)
	if err != nil && api.AsError(err).Code == api.CodeNotFound {
		return nil // never launched
	}
	if err != nil {
		return fail(err)
	}
	out, err := s.bringUp(ctx, w, arguments{Options: Options{Name: name, Action: ActRecover}}, progress)
	if err != nil {
		out.Err = hint.Workload(name, err)
	}
	out.Name = name
	return &out
}

// bringUp has a keeper do an action, or waits for the keeper that there is.
func (s Site) bringUp(ctx context.Context, w *store.Workload, a arguments, progress Progress) (Outcome, error) {
	if _, err := recordsOf(w, a.Name); err != nil {
		return Outcome{}, err
	}
	if out, ok, err := s.running(ctx, w); ok || err != nil {
		return out, err
	}
	older, err := s.young(w, a.Name)
	if err != nil {
		return Outcome{}, err
	}
	out, _, err := s.spawn(ctx, w.Dir(), a, progress)
	out.Words += older
	if err != nil && api.AsError(err).Code == api.CodeLocked {
		if out, ok, err := s.running(ctx, w); ok || err != nil {
			return out, err
		}
	}
	return out, err
}

// running says whether a keeper has the workload running; one that is
// bringing it up is waited for. It is an error that one does not answer.
func (s Site) running(ctx context.Context, w *store.Workload) (Outcome, bool, error) {
	for end := time.Now().Add(busyWait); time.Now().Before(end); {
		v, err := s.ping(ctx, w.Dir())
		switch {
		case errors.Is(err, api.ErrSilent):
			return Outcome{}, false, err
		case err != nil:
			return Outcome{}, false, nil
		case v.State == api.Running:
			return Outcome{Name: v.Name, Status: v, Words: "was running"}, true, nil
		case v.State == api.Waiting && v.LastError != nil:
			return Outcome{Name: v.Name, Status: v, Words: "waits: " + v.LastError.Message}, true, nil
		}
		select {
		case <-ctx.Done():
			return Outcome{}, false, nil
		case <-time.After(busyAgain):
		}
	}
	return Outcome{}, false, nil
}

// Start lets a workload go on that does not run: from its newest generation
// if it was stopped frozen, else by starting its command.
func Start(ctx context.Context, s Site, name string, progress Progress) (Outcome, error) {
	s, err := s.filled()
	if err != nil {
		return Outcome{}, err
	}
	w, err := s.workload(name)
	if err != nil {
		return Outcome{}, err
	}
	out, err := s.bringUp(ctx, w, arguments{Options: Options{Name: name, Action: ActStart}}, progress)
	out.Name = name
	return out, err
}

// RestoreOptions says which generation is put back.
type RestoreOptions struct {
	Generation string `json:"generation,omitempty"` // "g411" or "411"; empty: the newest
	Undo       bool   `json:"undo,omitempty"`       // the newest one tagged undo
}

// Restore puts a generation back. What runs is committed first as a
// generation tagged undo, and comes back when the restore fails.
func Restore(ctx context.Context, s Site, name string, o RestoreOptions, progress Progress) (Outcome, error) {
	s, err := s.filled()
	if err != nil {
		return Outcome{}, err
	}
	q := api.Request{Op: api.OpRestore, Generation: o.Generation, Undo: o.Undo}
	r, w, err := s.call(ctx, name, q, progress)
	if errors.Is(err, api.ErrNoKeeper) {
		if _, err := recordsOf(w, name); err != nil {
			return Outcome{}, err
		}
		older, err := s.young(w, name)
		if err != nil {
			return Outcome{}, err
		}
		out, _, err := s.spawn(ctx, w.Dir(), arguments{Options: Options{Name: name, Action: ActRestore, RestoreOptions: o}}, progress)
		out.Name, out.Words = name, out.Words+older
		return out, err
	}
	out := Outcome{Name: name}
	if r.Status != nil {
		out.Status = *r.Status
		if rv := r.Status.Recovery; rv != nil && err == nil {
			out.Words, out.Older = rv.Words, rv.Older
		}
	}
	return out, err
}
