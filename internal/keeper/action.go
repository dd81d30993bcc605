package keeper

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/wakepoint/wakepoint/internal/api"
	"github.com/wakepoint/wakepoint/internal/policy"
	"github.com/wakepoint/wakepoint/internal/store"
)

// Action is what a keeper does first.
type Action string

// The actions.
const (
	ActLaunch  Action = "launch"  // start or adopt a new workload
	ActRecover Action = "recover" // take over or bring back what should run
	ActStart   Action = "start"   // go on with a workload that does not run
	ActRestore Action = "restore" // put one generation back
)

// errEnded says that there is nothing to look after: the workload has ended.
var errEnded = errors.New("the workload has ended")

// bring does the keeper's action. Afterwards the tree runs (nil), or nothing
// runs and the records say why. errEnded is not a failure.
func (k *keeper) bring(ctx context.Context, a Action, o RestoreOptions) (words string, older bool, err error) {
	was := k.rec.run
	switch a {
	case ActLaunch:
		if k.rec.spec.Adopt != 0 {
			return "adopted", false, k.adopt(ctx)
		}
		return "started", false, k.startFresh(ctx)
	case ActRecover:
		err = k.bringBack(ctx)
	case ActStart:
		err = k.goOn(ctx)
	case ActRestore:
		err = k.putOne(ctx, o)
	default:
		return "", false, fmt.Errorf("unknown action %q", a)
	}
	if err != nil {
		return "", false, k.down(err, was)
	}
	if rv := k.rec.run.Recovery; rv != nil && rv != was.Recovery {
		return rv.Words, rv.Older, nil
	}
	return "was running", false, nil
}

// down notes that what was tried did not come up, and why. What did not run
// before, and was not meant to, stays what it was: nobody asked that it be
// tried again.
func (k *keeper) down(err error, was runRecord) error {
	if errors.Is(err, errEnded) || errors.Is(err, errGivenUp) || errors.Is(err, errLeave) || k.rec.run.State == api.Failed || k.rec.run.State == api.Finished {
		return err
	}
	r := &k.rec.run
	if half := r.PutBack; !was.Wanted {
		*r = was
		r.PutBack = half
	}
	r.Error = k.explain(err)
	if r.Wanted {
		r.State = api.Down
	}
	if perr := k.putRun(); perr != nil {
		k.log.Error("note the failure", "err", perr)
	}
	return err
}

// bringBack takes the tree over if it runs, else recovers it.
func (k *keeper) bringBack(ctx context.Context) error {
	r := &k.rec.run
	if !r.Wanted {
		return errEnded
	}
	half := r.State == api.Starting || r.State == api.Restoring
	if r.Head == headUnknown { // what it did is lost; its init knows what runs
		if h, err := k.m.Orphan(k.path(waitName)); err == nil {
			r.Handle = h
		}
	}
	err := k.takeOver(ctx)
	if err == nil {
		k.resumeProbation()
		return nil
	}
	if !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("take it over: %w", err)
	}
	if half {
		k.clearOrphan(ctx)
	}
	if r.Frozen {
		if l, err := readLineage(k.v); err != nil {
			return err
		} else if err := k.await(ctx, l.head(*r)); err != nil {
			return err
		}
		if err := k.resume(ctx); err != nil {
			return err
		}
		k.resumeProbation()
		return nil
	}
	if err := k.judgeAbsence(); err != nil {
		return err
	}
	return k.recover(ctx, true)
}

// judgeAbsence decides what happened while no keeper looked: an end of the
// command that its init recorded, or the loss of everything. It leaves an
// open incident, or errEnded when the workload has finished.
func (k *keeper) judgeAbsence() error {
	l, err := readLineage(k.v)
	if err != nil {
		return err
	}
	newest, _ := l.info(l.head(k.rec.run))
	at := lostAt(k.v.Dir(), k.rec, newest)
	r := &k.rec.run
	wait, known := k.lastEnd()
	end := policy.EndOf(known, wait)
	ran := r.State == api.Running
	if !known || end.Outside() || r.Daemon || !ran {
		if k.counted(at); k.rec.history.Incident == nil {
			k.rec.history.Crashes++
		}
		in := policy.Reopen(k.rec.history.Incident, at)
		k.rec.history.Incident = &in
		return k.putHistory()
	}
	r.Ended, r.Wait = true, wait
	if end.Clean() && k.rec.policy.OnExit != api.OnRestore {
		if err := k.finish(api.Finished, nil); err != nil {
			return err
		}
		return errEnded
	}
	return k.noteDeath(end, at, "ended with "+describeEnd(known, wait))
}

// resumeProbation goes on with the trial that an earlier keeper began.
func (k *keeper) resumeProbation() {
	in := k.rec.history.Incident
	if in == nil || len(in.Tries) == 0 {
		return
	}
	t := in.Tries[len(in.Tries)-1]
	d := policy.Probation(in.Crashed, in.Crashed)
	if t.Generation != 0 {
		d = policy.Probation(in.Crashed, t.Taken)
	}
	k.probation.Reset(d - time.Since(k.rec.run.Started))
}

// goOn starts a workload that does not run: from the state in which it was
// stopped, or afresh when it ended by itself.
func (k *keeper) goOn(ctx context.Context) error {
	r := &k.rec.run
	if r.Wanted {
		return k.bringBack(ctx)
	}
	if k.m.Alive(r.Handle) { // a stop that was cut short
		t, err := k.m.Open(ctx, r.Handle)
		if err != nil {
			return err
		}
		err = errors.Join(t.Kill(ctx), t.Close())
		if err != nil {
			return err
		}
	}
	k.endIncident()
	if !r.Frozen && r.PutBack == 0 {
		if err := k.startFresh(ctx); err != nil {
			return err
		}
		k.recovered(&api.Recovery{Words: "started afresh"})
		return nil
	}
	return k.resume(ctx)
}

// resume goes on from the state in which the workload was ended or, where that
// is damaged, the newest one before it.
func (k *keeper) resume(ctx context.Context) error {
	l, err := readLineage(k.v)
	if err != nil {
		return err
	}
	head := l.head(k.rec.run)
	newest, _ := l.info(head)
	at := lostAt(k.v.Dir(), k.rec, newest)
	if newest.Generation != 0 && len(l.lost(head, head)) == 0 {
		at = taken(newest) // it was ended in that very state
	}
	tried := map[store.Generation]string{}
	err = l.nothingLeft()
	for _, i := range l.line(head) {
		if k.verdict(i.Generation) == api.Bad {
			tried[i.Generation] = "is known to be bad"
			continue
		}
		if err = k.restoreGeneration(ctx, i.Generation); err == nil {
			k.cameFrom(i, l, head, at, tried)
			return nil
		}
		if !damaged(err) {
			return err
		}
		tried[i.Generation] = err.Error()
		k.say(err.Error())
	}
	return err
}

// cameFrom notes that a workload that had been stopped at some instant goes on
// from a generation. Where that is not the newest it says what it has cost.
func (k *keeper) cameFrom(i store.Info, l lineage, head store.Generation, at time.Time, tried map[store.Generation]string) {
	rv := k.rec.run.Recovery
	rv.Older = l.older(i.Generation, head)
	rv.PassedOver = l.passedOver(i.Generation, head, func(g store.Generation) string { return tried[g] })
	if rv.Older {
		rv.LostWorkSeconds = max(0, at.Sub(taken(i)).Seconds())
	}
	rv.Words = rv.Restored(rv.Older)
	k.recovered(rv)
}

// recovered notes how the workload came up. It runs, whether that can be
// written or not.
func (k *keeper) recovered(rv *api.Recovery) {
	rv.At = time.Now()
	k.rec.run.Recovery = rv
	k.log.Info("recovered", "how", rv.Words)
	if err := k.putRun(); err != nil {
		k.log.Error("note the recovery", "err", err)
	}
}

// choose finds the generation that a person means.
func (k *keeper) choose(o RestoreOptions) (store.Info, error) {
	l, err := readLineage(k.v)
	if err != nil {
		return store.Info{}, err
	}
	name := k.rec.spec.Name
	hint := "`wakepoint log " + name + "` lists what can be restored"
	if o.Undo {
		for _, i := range l.infos {
			if i.Tag == tagUndo {
				return i, nil
			}
		}
		return store.Info{}, api.Errorf(api.CodeNotFound, hint, "%s has no generation tagged undo", name)
	}
	g := l.head(k.rec.run)
	if o.Generation != "" {
		if g, err = store.ParseGeneration(o.Generation); err != nil {
			return store.Info{}, api.Errorf(api.CodeUsage, hint, "%w", err)
		}
	}
	if i, ok := l.info(g); ok {
		return i, nil
	}
	for _, d := range l.damaged {
		if d == g {
			return store.Info{}, api.Errorf(api.CodeIntegrity, hint, "%v of %s is damaged", g, name)
		}
	}
	if g == 0 && len(l.damaged) > 0 {
		return store.Info{}, l.nothingLeft()
	}
	if g == 0 {
		return store.Info{}, api.Errorf(api.CodeNotFound, hint, "%s has no generation yet", name)
	}
	return store.Info{}, api.Errorf(api.CodeNotFound, hint, "%s has no generation %v", name, g)
}

// putOne restores one generation where nothing runs.
func (k *keeper) putOne(ctx context.Context, o RestoreOptions) error {
	i, err := k.choose(o)
	if err != nil {
		return err
	}
	if k.rec.run.Wanted {
		// Down, or running without a keeper: then what runs is kept first.
		if err := k.takeOver(ctx); err == nil {
			return k.replace(ctx, i, o)
		} else if !errors.Is(err, os.ErrProcessDone) {
			return err
		}
	}
	k.endIncident()
	passed, err := k.passedBy(o, i.Generation)
	if err != nil {
		return err
	}
	if err := k.restoreGeneration(ctx, i.Generation); err != nil {
		return err
	}
	k.chosen(passed)
	return nil
}

// passedBy names the generations that are newer than the newest one that a
// person asked for; none when it was named.
func (k *keeper) passedBy(o RestoreOptions, g store.Generation) ([]api.PassedOver, error) {
	if o.Undo || o.Generation != "" {
		return nil, nil
	}
	l, err := readLineage(k.v)
	if err != nil {
		return nil, err
	}
	return l.passedOver(g, g, nil), nil
}

// chosen notes a restore that a person asked for.
func (k *keeper) chosen(passed []api.PassedOver) {
	rv := k.rec.run.Recovery
	rv.PassedOver, rv.Older = passed, len(passed) > 0
	rv.Words = rv.Restored(false)
	k.recovered(rv)
}

// replace puts another generation in the place of what runs: that is
// committed while it stands still, as a generation tagged undo, and ended
// (two trees cannot listen at one port); when the other one cannot be
// restored, it comes back.
func (k *keeper) replace(ctx context.Context, i store.Info, o RestoreOptions) error {
	passed, err := k.passedBy(o, i.Generation)
	if err != nil {
		return err
	}
	if err := k.rollsBack(i.Generation); err != nil {
		return err
	}
	r, err := k.v.OpenGeneration(i.Generation) // held until it is restored
	if err != nil {
		return err
	}
	defer r.Close()
	undo, err := k.checkpoint(ctx, checkpointOptions{tag: tagUndo, hold: true, held: frozen.Kill})
	if err != nil {
		return fmt.Errorf("commit what runs first: %w", err)
	}
	k.dropTree(nil)
	k.counted(time.Now())
	k.endIncident()
	k.say("what ran is kept as " + undo.Generation.String())
	if err = k.restoreGeneration(ctx, i.Generation); err == nil {
		k.chosen(passed)
		return nil
	}
	if back := k.restoreGeneration(ctx, undo.Generation); back != nil {
		return fmt.Errorf("%w; and what ran before, %v, did not come back: %v", err, undo.Generation, back)
	}
	k.chosen(nil)
	return &keptError{err: err, undo: undo.Generation}
}

// keptError says that a restore failed and what ran before runs again.
type keptError struct {
	err  error
	undo store.Generation
}

func (e *keptError) Error() string {
	return fmt.Sprintf("%v; what ran before is back (%v)", e.err, e.undo)
}

func (e *keptError) Unwrap() error { return e.err }
