package keeper

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/wakepoint/wakepoint/internal/api"
	"github.com/wakepoint/wakepoint/internal/health"
	"github.com/wakepoint/wakepoint/internal/policy"
)

// serve answers one request. An error ends the loop; the answer has been
// given either way. An answer that says that the workload has ended is given
// by the server after the lock is free, so that whoever hears it can act.
func (k *keeper) serve(ctx context.Context, r *request) error {
	if r.dropped() {
		return nil
	}
	k.say = r.progress
	defer func() { k.say = func(string) {} }()
	var err error
	var out api.Reply
	switch r.Op {
	case api.OpCheckpoint:
		info, cerr := k.checkpoint(ctx, checkpointOptions{tag: r.Tag, asked: true})
		if err = cerr; err == nil {
			g := row(info, api.Committed)
			out.Generation = &g
		}
	case api.OpStop:
		err = k.stop(ctx, r)
	case api.OpRemove:
		err = k.end(ctx)
	case api.OpHalt:
		err = k.halt(ctx, r.GoingDown)
		k.answer(r, out, err)
		if k.tree == nil {
			return errLeave
		}
		return nil
	case api.OpSet:
		err = k.set(r.Change)
	case api.OpPin, api.OpForget, api.OpCollect, api.OpJudge:
		out, err = k.tend(r.Request)
	case api.OpRestore:
		err = k.restore(ctx, RestoreOptions{Generation: r.Generation, Undo: r.Undo})
	default:
		err = api.Errorf(api.CodeUsage, "", "unknown request %q", r.Op)
	}
	k.answer(r, out, err)
	if k.tree == nil && k.rec.run.Wanted {
		return k.down(err, k.rec.run) // a restore failed both ways
	}
	return nil
}

func (k *keeper) answer(r *request, out api.Reply, err error) {
	out.Done, out.Error = true, k.explain(err)
	s := k.status()
	out.Status = &s
	r.reply <- out
}

// serveDown answers while nothing runs and another try is awaited. What
// needs the tree is not obeyed.
func (k *keeper) serveDown(r *request) error {
	if r.dropped() {
		return nil
	}
	r.stays = r.Op != api.OpStop && r.Op != api.OpRemove
	switch r.Op {
	case api.OpStop, api.OpRemove:
		if r := &k.rec.run; r.State == api.Waiting {
			r.Frozen = true // nothing has become of it yet
		}
		err := k.finish(api.Stopped, nil)
		k.answer(r, api.Reply{}, err)
		if err != nil {
			return err
		}
		return errGivenUp
	case api.OpHalt:
		k.answer(r, api.Reply{}, nil)
		return errLeave
	case api.OpSet:
		k.answer(r, api.Reply{}, k.set(r.Change))
	case api.OpPin, api.OpForget, api.OpCollect, api.OpJudge:
		out, err := k.tend(r.Request)
		k.answer(r, out, err)
	default:
		k.answer(r, api.Reply{}, api.Errorf(api.CodeFailed, "try again when `wakepoint status "+k.rec.spec.Name+"` says running", "it is being brought back"))
	}
	return nil
}

// stop ends the workload: frozen, in the very state that was committed, or
// by a signal that lets it end by itself, if it does so in time.
func (k *keeper) stop(ctx context.Context, r *request) error {
	if r.Signal != 0 {
		ended, err := k.ask(ctx, r.Signal, seconds(r.TimeoutSeconds))
		if err != nil || ended {
			return err
		}
		k.say("it did not end in time")
	}
	if err := k.endFrozen(ctx, false, api.Stopped); err != nil {
		return fmt.Errorf("stop: it runs on, since it could not be committed: %w", err)
	}
	k.closeIncident()
	k.counted(time.Now())
	return k.putHistory()
}

// endFrozen commits what runs and ends it in that very state. On an error it
// runs on.
func (k *keeper) endFrozen(ctx context.Context, wanted bool, s api.State) error {
	old := k.rec.run
	_, err := k.checkpoint(ctx, checkpointOptions{hold: true, held: func(f frozen) error {
		n := &k.rec.run
		n.Wanted, n.State, n.Frozen = wanted, s, true
		if err := k.putRun(); err != nil {
			return err
		}
		return f.Kill()
	}})
	if err != nil {
		noted := k.rec.run.Frozen
		if k.rec.run = old; noted {
			err = errors.Join(err, k.putRun())
		}
		return err
	}
	k.dropTree(nil)
	return nil
}

// halt ends the workload as a power cut right after a commit would: it stays
// one that should run, and recover brings it back. What cannot be committed
// runs on, unless the machine goes down: then it ends as it is, since it would
// be asked to end, and would have finished.
func (k *keeper) halt(ctx context.Context, goingDown bool) error {
	err := k.endFrozen(ctx, true, api.Down)
	switch {
	case err == nil:
		return nil
	case !goingDown:
		return fmt.Errorf("halt: it runs on, since it could not be committed: %w", err)
	}
	err = fmt.Errorf("halt: it is ended without a last generation: %w", err)
	return errors.Join(err, k.lostWithMachine(ctx))
}

// lostWithMachine ends what is left of the tree, and leaves of its end no more
// than a power cut would.
func (k *keeper) lostWithMachine(ctx context.Context) error {
	err := k.tree.Kill(ctx)
	k.dropTree(nil)
	if rerr := os.Remove(k.path(waitName)); !errors.Is(rerr, os.ErrNotExist) {
		err = errors.Join(err, rerr)
	}
	return err
}

// endsWithMachine leaves the workload to the next boot when it ended because
// the machine goes down (errLeave).
func (k *keeper) endsWithMachine(ctx context.Context) error {
	if !k.m.GoingDown(ctx) {
		return nil
	}
	if err := k.lostWithMachine(ctx); err != nil {
		k.log.Error("end what is left of it", "err", err)
	}
	return errLeave
}

// told leaves the tree running, as whoever sent the signal wants; but not on a
// machine that goes down.
func (k *keeper) told(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx)
	if !k.m.GoingDown(ctx) {
		return k.leave()
	}
	if err := k.halt(ctx, true); err != nil {
		k.log.Error("halt", "err", err)
	}
	return errLeave
}

// ask sends a signal and waits for the tree to end.
func (k *keeper) ask(ctx context.Context, sig int, limit time.Duration) (ended bool, err error) {
	if err := k.tree.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return false, fmt.Errorf("signal it: %w", err)
	}
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case <-k.tree.Done():
	case <-t.C:
		return false, nil
	case <-ctx.Done():
		return false, ctx.Err()
	}
	k.rec.run.Wait, k.rec.run.Ended = k.wait()
	return true, k.finish(api.Stopped, nil)
}

// end ends the workload without a checkpoint.
func (k *keeper) end(ctx context.Context) error {
	r := &k.rec.run
	r.Wanted, r.State, r.Frozen = false, api.Stopped, false
	if err := k.putRun(); err != nil {
		return err
	}
	if err := k.tree.Kill(ctx); err != nil {
		return err
	}
	k.dropTree(nil)
	return nil
}

// tend looks after the generations.
func (k *keeper) tend(q api.Request) (api.Reply, error) {
	c, err := careOf(k.v, &k.rec)
	if err != nil {
		return api.Reply{}, err
	}
	k.known = nil
	out, err := c.do(q)
	k.publish()
	return out, err
}

// restore puts a generation in the place of what runs.
func (k *keeper) restore(ctx context.Context, o RestoreOptions) error {
	i, err := k.choose(o)
	if err != nil {
		return err
	}
	return k.replace(ctx, i, o)
}

// set changes the policy.
func (k *keeper) set(c *api.PolicyChange) error {
	if c == nil {
		return api.Errorf(api.CodeUsage, "", "nothing to change")
	}
	p := k.rec.policy.With(*c)
	if err := errors.Join(checkPolicy(p), p.Hears(k.rec.spec)); err != nil {
		return err
	}
	if err := putRecord(k.v, recordPolicy, p); err != nil {
		return fmt.Errorf("note the policy: %w", err)
	}
	asks, rehearses := p.Health != k.rec.policy.Health, p.RehearseSeconds != k.rec.policy.RehearseSeconds
	waits := p.WatchdogSeconds != k.rec.policy.WatchdogSeconds
	k.rec.policy = p
	k.publish()
	if asks {
		k.startChecks()
	}
	if rehearses && k.tree != nil {
		k.rehearseIn(rehearseFirst)
	}
	if waits && k.spoken.ear != nil && k.tree != nil {
		k.spoken.dog = policy.Watchdog{}
		if limit := seconds(p.WatchdogSeconds); limit > 0 {
			k.spoken.dog = policy.Watchdog{Limit: limit}.Heard(time.Now())
		}
		k.watchful()
	}
	if k.tree != nil {
		k.pace(time.Now(), time.Now())
		k.retain()
	}
	return nil
}

// checkPolicy refuses what nobody could follow.
func checkPolicy(p api.Policy) error {
	if _, err := health.Parse(p.Health); err != nil {
		return api.Errorf(api.CodeUsage, "exec:COMMAND, tcp:HOST:PORT or an http(s):// URL", "health check %w", err)
	}
	return p.Check(bufferMax)
}
