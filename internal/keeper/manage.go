package keeper

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/wakepoint/wakepoint/internal/api"
	"github.com/wakepoint/wakepoint/internal/engine"
	"github.com/wakepoint/wakepoint/internal/hint"
	"github.com/wakepoint/wakepoint/internal/notify"
	"github.com/wakepoint/wakepoint/internal/policy"
	"github.com/wakepoint/wakepoint/internal/store"
)

// List returns the status of every workload, by name. One that is damaged has
// Damage set.
func List(ctx context.Context, s Site) ([]api.Status, error) {
	st, err := s.open()
	if err != nil {
		return nil, err
	}
	names, err := st.Names()
	if err != nil {
		return nil, err
	}
	found := make([]*api.Status, len(names))
	var wg sync.WaitGroup
	for i, name := range names { // at once: one that does not answer holds nobody up
		wg.Go(func() {
			v, err := StatusOf(ctx, s, name)
			switch {
			case err == nil:
				found[i] = &v
			case api.AsError(err).Code == api.CodeNotFound: // being made, or gone
			default:
				found[i] = &api.Status{Row: api.Row{Name: name, State: api.Failed}, LastError: hint.Workload(name, err)}
			}
		})
	}
	wg.Wait()
	var out []api.Status
	for _, v := range found {
		if v != nil {
			out = append(out, *v)
		}
	}
	return out, ctx.Err()
}

// StatusOf returns the status of one workload: its keeper's answer, or, where
// none answers, what its records say. What of these is damaged is no error,
// but Damage of the status.
func StatusOf(ctx context.Context, s Site, name string) (api.Status, error) {
	w, bad := s.workload(name)
	if bad != nil {
		if api.AsError(bad).Code != api.CodeIntegrity {
			return api.Status{}, bad
		}
		var err error
		if w, err = s.salvage(name); err != nil {
			return api.Status{}, err
		}
	}
	v, err := s.ping(ctx, w.Dir())
	if ctx.Err() != nil {
		return api.Status{}, ctx.Err()
	}
	if bad == nil {
		_, bad = recordsOf(w, name)
	}
	switch {
	case err == nil:
	case bad != nil && api.AsError(bad).Code == api.CodeNotFound:
		return api.Status{}, bad
	case bad != nil:
		v = damagedStatus(w, name)
	default:
		silent := err
		if v, err = statusAtRest(w, name); err != nil {
			return v, err
		}
		if errors.Is(silent, api.ErrSilent) {
			v.LastError, v.KeeperPID = api.AsError(silent), api.KeeperPID(ctx, w.Dir())
		}
	}
	v.Damage = api.AsError(bad)
	return v, nil
}

// statusAtRest describes a workload that has no keeper.
func statusAtRest(w *store.Workload, name string) (api.Status, error) {
	rec, err := recordsOf(w, name)
	if err != nil {
		return api.Status{}, err
	}
	v := describe(rec, w.Dir())
	l, err := readLineage(realVault{w})
	if err != nil {
		return v, err
	}
	addNewest(&v, l)
	if v.SizeBytes, err = w.Size(); err != nil {
		return v, hint.Workload(name, err)
	}
	if !rec.run.Wanted {
		return v, nil
	}
	if (realMachine{}).Alive(rec.run.Handle) {
		v.State, v.PID = api.Running, int(rec.run.Handle.Command)
		v.LostWorkSeconds = sinceTaken(v)
		return v, nil
	}
	v.State, v.PID = api.Down, 0
	if i, ok := l.info(l.head(rec.run)); ok && !rec.run.Frozen {
		v.LostWorkSeconds = max(0, lostAt(w.Dir(), rec, i).Sub(taken(i)).Seconds())
	}
	return v, nil
}

// Log returns the generations of a workload, newest first, and a line for
// each that is damaged.
func Log(ctx context.Context, s Site, name string) (rows []api.GenerationRow, damaged []string, err error) {
	w, err := s.workload(name)
	if err != nil {
		return nil, nil, err
	}
	var history policy.History
	if err := getRecord(w, recordHistory, &history); err != nil {
		history = policy.History{} // as recovery takes it
	}
	pins := readPins(w)
	infos, damage, err := w.Generations()
	if err != nil {
		return nil, nil, hint.Workload(name, err)
	}
	for _, i := range infos {
		r := row(i, verdict(history, i.Generation))
		r.Pinned = pins.has(i.Generation) && !pins.lost
		rows = append(rows, r)
	}
	for _, d := range damage {
		damaged = append(damaged, d.Error())
	}
	return rows, damaged, nil
}

// notRunning explains that there is nobody to ask.
func notRunning(w *store.Workload, name string) error {
	v, err := statusAtRest(w, name)
	if err != nil {
		return hint.Workload(name, err)
	}
	switch v.State {
	case api.Running:
		return api.Errorf(api.CodeFailed, "`wakepoint recover` gives it one", "%s runs without a keeper", name)
	case api.Down:
		return api.Errorf(api.CodeFailed, "`wakepoint recover` brings it back", "%s does not run", name)
	}
	return api.Errorf(api.CodeFailed, "`wakepoint start "+name+"`", "%s does not run: it is %s", name, v.State)
}

// Checkpoint takes a generation now and returns when it is committed.
func Checkpoint(ctx context.Context, s Site, name, tag string) (api.GenerationRow, error) {
	r, w, err := s.call(ctx, name, api.Request{Op: api.OpCheckpoint, Tag: tag}, nil)
	if errors.Is(err, api.ErrNoKeeper) {
		err = notRunning(w, name)
	}
	if err != nil {
		return api.GenerationRow{}, err
	}
	return *r.Generation, nil
}

// StopOptions says how a workload is stopped.
type StopOptions struct {
	Signal  int           // 0: checkpoint and end frozen; else let it end by itself first
	Timeout time.Duration // how long it may take to end by itself; then checkpoint and end
}

// Stop commits what runs and ends it. A workload that does not run stays as it
// is; one that is down is not brought back any more until it is started.
func Stop(ctx context.Context, s Site, name string, o StopOptions, progress Progress) (api.Status, error) {
	q := api.Request{Op: api.OpStop, Signal: o.Signal, TimeoutSeconds: o.Timeout.Seconds()}
	r, w, err := s.call(ctx, name, q, progress)
	if errors.Is(err, api.ErrNoKeeper) || err == nil && r.Status.State == api.Running { // its keeper has just left it
		v, serr := statusAtRest(w, name)
		switch {
		case serr != nil:
			return v, hint.Workload(name, serr)
		case v.State == api.Running:
			if _, err := Start(ctx, s, name, progress); err != nil {
				return v, err
			}
			r, _, err = s.call(ctx, name, q, progress)
		case v.State == api.Down:
			return s.rest(w, name)
		default:
			return v, nil
		}
	}
	if err != nil {
		return api.Status{}, err
	}
	return *r.Status, nil
}

// Halt ends a workload as a power cut right after a commit would: recover
// brings it back. What cannot be committed runs on and is an error, unless the
// machine goes down. What does not run is no error.
func Halt(ctx context.Context, s Site, name string, goingDown bool, progress Progress) error {
	_, w, err := s.call(ctx, name, api.Request{Op: api.OpHalt, GoingDown: goingDown}, progress)
	if !errors.Is(err, api.ErrNoKeeper) {
		return err
	}
	if goingDown {
		return explainNil(name, endTree(ctx, w))
	}
	return nil
}

// rest makes a workload that is down one that is stopped.
func (s Site) rest(w *store.Workload, name string) (api.Status, error) {
	l, err := w.Lock()
	if err != nil {
		return api.Status{}, hint.Workload(name, err)
	}
	defer l.Close()
	rec, err := recordsOf(w, name)
	if err != nil {
		return api.Status{}, err
	}
	rec.run.Wanted, rec.run.State, rec.run.Frozen = false, api.Stopped, true
	if err := putRecord(w, recordRun, rec.run); err != nil {
		return api.Status{}, hint.Workload(name, err)
	}
	return statusAtRest(w, name)
}

// Set changes a workload's policy.
func Set(ctx context.Context, s Site, name string, c api.PolicyChange) (api.Policy, error) {
	if c.Data != nil {
		v, err := StatusOf(ctx, s, name)
		if err != nil {
			return api.Policy{}, err
		}
		dirs, err := dataDirs(*c.Data, v.Dir)
		if err != nil {
			return api.Policy{}, err
		}
		c.Data = &dirs
	}
	r, w, err := s.call(ctx, name, api.Request{Op: api.OpSet, Change: &c}, nil)
	if err == nil {
		return r.Status.Policy, nil
	}
	if !errors.Is(err, api.ErrNoKeeper) {
		return api.Policy{}, err
	}
	l, err := w.Lock()
	if err != nil {
		return api.Policy{}, hint.Workload(name, err)
	}
	defer l.Close()
	rec, err := recordsOf(w, name)
	if damagedRecord(err, recordPolicy) { // what is not named gets its default
		rec.policy, _, err = preparePolicy(api.Policy{}, rec.spec)
	}
	if err != nil {
		return api.Policy{}, err
	}
	p := rec.policy.With(c)
	if err := errors.Join(checkPolicy(p), p.Hears(rec.spec)); err != nil {
		return p, err
	}
	return p, explainNil(name, putRecord(w, recordPolicy, p))
}

// explainNil is explain for errors that may be nil.
func explainNil(name string, err error) error {
	if err == nil {
		return nil
	}
	return hint.Workload(name, err)
}

// Signal sends a signal to the workload's command.
func Signal(ctx context.Context, s Site, name string, sig int) error {
	_, w, err := s.call(ctx, name, api.Request{Op: api.OpSignal, Signal: sig}, nil)
	if !errors.Is(err, api.ErrNoKeeper) {
		return err
	}
	rec, rerr := recordsOf(w, name)
	h := rec.run.Handle
	if rerr != nil || !rec.run.Wanted || !(realMachine{}).Alive(engine.Handle{BootID: h.BootID, Command: h.Command, CommandStart: h.CommandStart}) {
		return notRunning(w, name)
	}
	return syscall.Kill(int(h.Command), syscall.Signal(sig))
}

// Attach connects to the workload's terminal; the connection speaks the
// protocol of the terminal package, which also says who may only look.
func Attach(ctx context.Context, s Site, name string, readOnly bool) (net.Conn, error) {
	w, err := s.workload(name)
	if err != nil {
		return nil, err
	}
	limited, stop := context.WithTimeout(ctx, s.patience())
	defer stop()
	c, _, err := api.Stream(limited, w.Dir(), api.Request{Op: api.OpAttach, ReadOnly: readOnly}, nil)
	switch {
	case errors.Is(err, api.ErrNoKeeper):
		return nil, notRunning(w, name)
	case err != nil && ctx.Err() == nil && limited.Err() != nil:
		return nil, api.SilentError(api.KeeperPID(ctx, w.Dir()))
	}
	return c, err
}

// waitAgain is how often Wait looks at a workload that has no keeper.
const waitAgain = 200 * time.Millisecond

// Wait returns when the workload has ended for good (stopped, finished or
// failed), with its last status. Recoveries in between do not end it.
func Wait(ctx context.Context, s Site, name string) (api.Status, error) {
	for {
		w, err := s.workload(name)
		if err != nil {
			return api.Status{}, err
		}
		r, err := api.Call(ctx, w.Dir(), api.Request{Op: api.OpWait}, nil)
		v := r.Status
		if err != nil || v == nil {
			at, serr := statusAtRest(w, name)
			if serr != nil {
				return at, serr
			}
			v = &at
		}
		switch v.State {
		case api.Stopped, api.Finished, api.Failed:
			return *v, nil
		}
		select {
		case <-ctx.Done():
			return *v, ctx.Err()
		case <-time.After(waitAgain):
		}
	}
}

// removeWait is how long Remove contends with keepers that come and go.
const removeWait = 5 * time.Second

// Remove ends a workload, if it runs, and deletes it with all its generations,
// whatever of it is damaged.
func Remove(ctx context.Context, s Site, name string) error {
	for end := time.Now().Add(removeWait); ; {
		err := s.removeOnce(ctx, name)
		// A keeper that died may have left the tree; one may have come since
		// none answered.
		again := errors.Is(err, errKeeperDied) || errors.Is(err, store.ErrLocked)
		if !again || ctx.Err() != nil || time.Now().After(end) {
			return explainNil(name, err)
		}
	}
}

func (s Site) removeOnce(ctx context.Context, name string) error {
	w, err := s.salvage(name)
	if err != nil {
		return err
	}
	_, err = s.ask(ctx, w.Dir(), name, api.Request{Op: api.OpRemove}, nil)
	if err == nil || errors.Is(err, api.ErrNoKeeper) {
		err = endTree(ctx, w) // without a keeper, or left by it just now
	}
	if err != nil {
		return err
	}
	st, err := s.open()
	if err != nil {
		return err
	}
	return remove(ctx, st, w, name)
}

// remove deletes a workload, and waits a little for a keeper that is just
// ending.
func remove(ctx context.Context, st *store.Store, w *store.Workload, name string) error {
	notify.Forget(w.Dir()) // a keeper that was killed has left it
	for end := time.Now().Add(lockWait); ; {
		err := st.Remove(name)
		if !errors.Is(err, store.ErrLocked) || time.Now().After(end) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// endTree ends a tree that runs without a keeper. Where the record of what
// runs is lost, or was not written yet, it is the tree whose init records its
// end in the workload's directory.
func endTree(ctx context.Context, w *store.Workload) error {
	var run runRecord
	h := run.Handle
	if err := getRecord(w, recordRun, &run); err == nil {
		h = run.Handle
	}
	if !(realMachine{}).Alive(h) {
		var err error
		if h, err = (realMachine{}).Orphan(filepath.Join(w.Dir(), waitName)); err != nil {
			return nil // nothing runs
		}
	}
	l, err := lockOf(ctx, realVault{w})
	if err != nil {
		return err
	}
	defer l.Close()
	t, err := engine.Open(ctx, h)
	if err != nil {
		return fmt.Errorf("end it: %w", err)
	}
	defer t.Close()
	return t.Kill(ctx)
}

// Output returns the path of the file that holds what a workload printed.
func Output(s Site, name string) (string, error) {
	w, err := s.workload(name)
	if err != nil {
		return "", err
	}
	return filepath.Join(w.Dir(), api.OutputName), nil
}
