package keeper

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/wakepoint/wakepoint/internal/api"
	"github.com/wakepoint/wakepoint/internal/engine"
	"github.com/wakepoint/wakepoint/internal/generation"
	"github.com/wakepoint/wakepoint/internal/policy"
	"github.com/wakepoint/wakepoint/internal/store"
)

const (
	// statusWait is how long the init may take to record the command's end.
	statusWait = 2 * time.Second
	// killGrace is how long a keeper waits after a death by SIGKILL before it
	// acts: whoever kills everything should not meet a keeper that brings it
	// back in between.
	killGrace = 250 * time.Millisecond
)

// wait returns how the command ended, once its init has said so: in the file
// that we gave it, or where there is none as the engine knows it.
func (k *keeper) wait() (wait uint32, known bool) {
	for end := time.Now().Add(statusWait); ; time.Sleep(2 * time.Millisecond) {
		if k.record != nil {
			if st, err := engine.ReadRecord(k.record); err == nil && st.Ended {
				return st.Wait, true
			}
		}
		st, err := k.tree.Status()
		if err == nil && st.Ended {
			return st.Wait, true
		}
		if err != nil && k.record == nil || time.Now().After(end) {
			return 0, false
		}
	}
}

// commandEnded decides what the end of the command means.
func (k *keeper) commandEnded(ctx context.Context) error {
	if err := k.endsWithMachine(ctx); err != nil {
		return err
	}
	wait, known := k.wait()
	k.lastWords(ctx)
	end := policy.EndOf(known, wait)
	k.rec.run.Ended, k.rec.run.Wait = known, wait
	if !end.Clean() {
		return k.crashed(ctx, end, time.Now(), "ended with "+describeEnd(known, wait))
	}
	// What it leaves behind goes on as the workload: a daemon's own start.
	select {
	case <-k.tree.Done():
		return k.treeEnded(ctx)
	case <-time.After(10 * time.Millisecond):
		k.quiet, k.rec.run.Daemon = true, true
		return k.putRun()
	}
}

// treeEnded: no process is left.
func (k *keeper) treeEnded(ctx context.Context) error {
	if err := k.endsWithMachine(ctx); err != nil {
		return err
	}
	wait, known := k.wait()
	k.lastWords(ctx)
	k.rec.run.Ended, k.rec.run.Wait = known, wait
	end := policy.EndOf(known, wait)
	ends := k.spoken.stopping && known && end == policy.End{Known: true}
	if !end.Clean() || known && k.rec.policy.OnExit == api.OnRestore && !ends {
		return k.crashed(ctx, end, time.Now(), "ended with "+describeEnd(known, wait))
	}
	return k.finish(api.Finished, nil)
}

// finish ends the workload for good.
func (k *keeper) finish(s api.State, why *api.Error) error {
	wait := k.rec.run.Wait
	if k.rec.run.Ended {
		k.dropTree(&wait)
	} else {
		k.dropTree(nil)
	}
	r := &k.rec.run
	r.Wanted, r.State, r.Error = false, s, why
	if s == api.Failed && why == nil {
		r.Error = &api.Error{Code: api.CodeFailed, Message: "it ended with " + describeEnd(r.Ended, r.Wait)}
	}
	k.counted(time.Now())
	k.endIncident()
	return k.putRun()
}

// describeEnd says how a command ended.
func describeEnd(known bool, wait uint32) string {
	e := policy.EndOf(known, wait)
	switch {
	case !known:
		return "an end that nobody saw"
	case e.Signal != 0:
		return signalName(e.Signal)
	default:
		return fmt.Sprintf("exit code %d", e.Code)
	}
}

// crashed ends what is left of the tree and recovers. at is when it crashed, why
// says what it did.
func (k *keeper) crashed(ctx context.Context, end policy.End, at time.Time, why string) error {
	k.log.Warn("crash", "it", why)
	if end.Outside() {
		select {
		case <-ctx.Done():
			return k.leave()
		case <-time.After(killGrace):
		}
	}
	if err := k.tree.Kill(ctx); err != nil {
		return fmt.Errorf("end what is left of it: %w", err)
	}
	k.dropTree(nil) // viewers may come again: it has not ended for good
	err := k.insist(ctx, func() error { return k.noteDeath(end, at, why) })
	if err == nil {
		err = k.recover(ctx, false)
	}
	if errors.Is(err, errGivenUp) {
		return nil // it is noted
	}
	return err
}

// noteDeath opens an incident or, in one, records what became of the try.
func (k *keeper) noteDeath(end policy.End, at time.Time, why string) error {
	h := &k.rec.history
	k.counted(at)
	if h.Incident == nil || len(h.Incident.Tries) == 0 {
		h.Crashes++
		h.Incident = &policy.Incident{Crashed: at}
		if c, err := careOf(k.v, &k.rec); err == nil {
			c.settle() // a crash may agree with a rehearsal
		}
		return k.putHistory()
	}
	t := &h.Incident.Tries[len(h.Incident.Tries)-1]
	if t.Fate == policy.Pending {
		fate := policy.Died
		if end.Outside() {
			fate = policy.Interrupted
		} else if t.Generation != 0 {
			if err := k.condemn(t.Generation); err != nil {
				return err
			}
		}
		t.Fate, t.Why = fate, why+" after it was restored"
	}
	return k.putHistory()
}

// condemn makes a generation bad, with all that was taken by runs restored
// from it.
func (k *keeper) condemn(g policy.Generation) error {
	l, err := readLineage(k.v)
	if err != nil {
		return err
	}
	h := &k.rec.history
	h.Bad = policy.Descendants(append(h.Bad, g), candidates(l.infos))
	h.Proven = slices.DeleteFunc(h.Proven, func(p policy.Generation) bool { return slices.Contains(h.Bad, p) })
	return nil
}

// errGivenUp says that nothing is left to try; the records say why.
var errGivenUp = errors.New("nothing is left to be tried")

// recover tries what policy says until something runs (nil), nothing is left
// (errGivenUp), or a request ended the workload (errGivenUp too). With once a
// generation that this host refuses ends it at once with that error, for a
// person who waits.
func (k *keeper) recover(ctx context.Context, once bool) error {
	for {
		in := k.rec.history.Incident
		l, err := readLineage(k.v)
		if err != nil {
			return err
		}
		head := l.head(k.rec.run)
		line := l.line(head)
		whole := k.rec.run.PutBack == 0 || k.rec.policy.Durable // its files are those of one instant
		rules := policy.Rules{
			Fresh:       (k.rec.policy.OnCrash == api.OnFresh || k.rec.policy.Durable) && whole,
			GiveUpFresh: k.rec.policy.GiveUp == api.OnFresh && whole,
			Every:       k.every(),
		}
		d := policy.Next(rules, *in, candidates(line), k.rec.history.Bad)
		if d.Do == policy.Stop {
			return k.giveUp(len(line), in)
		}
		if err := k.pause(ctx, d.Wait); err != nil {
			return err
		}
		info, _ := l.info(store.Generation(d.Generation))
		if err := k.await(ctx, cmp.Or(info.Generation, head)); err != nil {
			return err
		}
		in.Tries = append(in.Tries, policy.Try{Generation: d.Generation, Taken: taken(info), At: time.Now(), Fate: policy.Pending})
		if err := k.insist(ctx, k.putHistory); err != nil {
			return err
		}
		err = k.try(ctx, d, info, l, head)
		if err == nil {
			return nil
		}
		fate := policy.Refused
		if damaged(err) {
			fate = policy.Damaged
		}
		in.Tries[len(in.Tries)-1].Fate, in.Tries[len(in.Tries)-1].Why = fate, err.Error()
		k.log.Warn("try", "generation", store.Generation(d.Generation).String(), "fate", fate, "err", err)
		k.rec.run.Error = k.explain(err)
		if perr := k.insist(ctx, k.putHistory); perr != nil {
			return perr
		}
		if ctx.Err() != nil || once && fate == policy.Refused {
			return err
		}
		k.say(err.Error())
	}
}

// try makes one try, and begins its probation.
func (k *keeper) try(ctx context.Context, d policy.Decision, info store.Info, l lineage, head store.Generation) error {
	in := k.rec.history.Incident
	probation := policy.Probation(in.Crashed, in.Crashed)
	if d.Do == policy.Fresh {
		if err := k.startFresh(ctx); err != nil {
			return err
		}
		k.recovered(&api.Recovery{Words: "started afresh", CrashedAt: &in.Crashed, Tries: len(in.Tries)})
	} else {
		g := info.Generation
		if err := k.restoreGeneration(ctx, g); err != nil {
			return err
		}
		rv := k.rec.run.Recovery
		rv.Older, rv.CrashedAt, rv.Tries = l.older(g, head), &in.Crashed, len(in.Tries)
		rv.PassedOver = l.passedOver(g, head, k.whyNot)
		rv.LostWorkSeconds = max(0, in.Crashed.Sub(taken(info)).Seconds())
		rv.Words = rv.Restored(true)
		k.recovered(rv)
		probation = policy.Probation(in.Crashed, taken(info))
		every, _ := k.interval(time.Now())
		k.due.Reset(every)
	}
	k.probation.Reset(probation)
	return nil
}

// whyNot says why recovery did not take a generation.
func (k *keeper) whyNot(g store.Generation) string {
	for _, t := range slices.Backward(k.rec.history.Incident.Tries) {
		if t.Generation == policy.Generation(g) && t.Why != "" {
			return t.Why
		}
	}
	if k.verdict(g) == api.Bad {
		return "comes of one that died"
	}
	return "is too near to one that died"
}

// giveUp notes that nothing is left.
func (k *keeper) giveUp(generations int, in *policy.Incident) error {
	var why *api.Error
	switch {
	case generations == 0 && len(in.Tries) == 0 && k.rec.run.Ended:
		why = &api.Error{Code: api.CodeFailed, Message: "it ended with " + describeEnd(true, k.rec.run.Wait) + " before its first generation"}
	case generations == 0 && len(in.Tries) == 0:
		why = &api.Error{Code: api.CodeNotFound, Message: "no generation of it was ever committed", Hint: "`wakepoint start " + k.rec.spec.Name + "` starts the command afresh"}
	default:
		last := k.rec.run.Error
		why = &api.Error{Code: api.CodeFailed, Message: fmt.Sprintf("none of %d tries lived", len(in.Tries)), Hint: "`wakepoint log " + k.rec.spec.Name + "` shows the generations that are left"}
		if last != nil {
			why.Message += "; the last one: " + last.Message
			if n := len(in.Tries); n > 0 && in.Tries[n-1].Fate == policy.Damaged {
				why.Code = api.CodeIntegrity
			}
		}
	}
	if err := k.finish(api.Failed, why); err != nil {
		return err
	}
	return errGivenUp
}

// insist repeats what must be written before recovery may go on, for a while:
// a disk that is full now may have room in a moment.
func (k *keeper) insist(ctx context.Context, f func() error) error {
	err := f()
	for rest := time.Second; err != nil && rest < time.Minute; rest *= 2 {
		k.log.Error("write, and try again", "err", err)
		if perr := k.pause(ctx, rest); perr != nil {
			return errors.Join(err, perr)
		}
		err = f()
	}
	return err
}

// pause waits between two tries; a request may end the workload meanwhile.
func (k *keeper) pause(ctx context.Context, d time.Duration) error {
	if d == 0 {
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
			return nil
		case r := <-k.requests:
			if err := k.serveDown(r); err != nil {
				return err
			}
		}
	}
}

// await waits until the host has what generation g stands on. Whoever waits for
// the workload is told that it does, and goes.
func (k *keeper) await(ctx context.Context, g store.Generation) error {
	for {
		words, err := k.lacking(g)
		if err != nil || len(words) == 0 {
			return err
		}
		why := &api.Error{Code: api.CodeFailed, Message: strings.Join(words, "; "),
			Hint: "it comes back by itself as soon as that is there; `wakepoint stop " + k.rec.spec.Name + "` ends the wait"}
		if r := &k.rec.run; r.State != api.Waiting || r.Error == nil || r.Error.Message != why.Message {
			k.log.Warn("wait", "for", why.Message)
			r.State, r.Error = api.Waiting, why
			if err := k.putRun(); err != nil {
				return err
			}
		}
		k.waits(Outcome{Name: k.rec.spec.Name, Status: k.status(), Words: "waits: " + why.Message})
		if err := k.pause(ctx, time.Second); err != nil {
			return err
		}
	}
}

// lacking names what the host does not have of what g stands on.
func (k *keeper) lacking(g store.Generation) ([]string, error) {
	r, err := k.v.OpenGeneration(g)
	if err != nil {
		return nil, nil // the try will say it
	}
	defer r.Close()
	return generation.Missing(r)
}
