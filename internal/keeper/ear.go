package keeper

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/wakepoint/wakepoint/internal/api"
	"github.com/wakepoint/wakepoint/internal/notify"
	"github.com/wakepoint/wakepoint/internal/policy"
	"github.com/wakepoint/wakepoint/internal/store"
)

// spoken is what the program has said on its socket since it runs, and what
// follows from it.
type spoken struct {
	ear      ear // nil: it has none
	dog      policy.Watchdog
	well     bool // it has said so
	stopping bool // it ends: code 0 is then an end
	hold     policy.Hold
	waits    bool // a checkpoint is due that it holds
	asked    bool // it wants one
}

// listen opens the socket on which the program speaks. It comes before the
// program, which may be connected to it. One that cannot speak runs all the same.
func (k *keeper) listen() {
	if k.rec.spec.Notify == "" || k.rec.spec.Adopt != 0 {
		return
	}
	path := notify.Path(k.rec.spec.Notify, k.v.Dir())
	if path == "" {
		return
	}
	e, err := k.m.Listen(path, k.log)
	if err != nil {
		k.log.Error("the program cannot speak", "err", err)
		k.mu.Lock()
		defer k.mu.Unlock()
		k.notes = append(k.notes, "what it says is not heard: "+err.Error())
		return
	}
	if err := notify.Link(k.v.Dir(), path); err != nil {
		k.log.Warn("note where the notify socket is", "err", err)
	}
	k.spoken.ear = e
	k.mu.Lock()
	defer k.mu.Unlock()
	k.view.Notify = path
}

// deafen ends that. What will not run again needs no socket.
func (k *keeper) deafen() {
	if e := k.spoken.ear; e != nil {
		k.spoken.ear = nil
		if err := e.Close(!k.rec.run.Wanted); err != nil {
			k.log.Warn("end the notify socket", "err", err)
		}
	}
}

// environment is the command's.
func (k *keeper) environment() []string {
	if k.spoken.ear == nil {
		return k.rec.spec.Env
	}
	return notify.Environ(k.rec.spec.Env, k.spoken.ear.Path(), seconds(k.rec.policy.WatchdogSeconds))
}

// listenTo makes the words of a tree's processes count; nil is nobody's. It is
// waited for at once where it had said by from that it speaks, and is heard: not
// so where it is taken over and connected to the socket of the keeper before.
func (k *keeper) listenTo(t tree, from store.Generation, over bool) {
	e := k.spoken.ear
	k.spoken = spoken{ear: e}
	if e == nil {
		return
	}
	if t == nil {
		e.Of(nil, false)
		k.silent.Stop()
		return
	}
	e.Of(k.ours(t), over)
	known := !over || e.Resumed()
	k.spoken.dog.Limit = seconds(k.rec.policy.WatchdogSeconds)
	if known && k.spoken.dog.Limit > 0 {
		k.spoken.dog = k.spoken.dog.Heard(time.Now())
	}
	if l, err := k.lineage(); known && from != 0 && err == nil {
		i, _ := l.info(from)
		if d, err := time.ParseDuration(i.Meta[metaWatchdog]); err == nil {
			k.spoken.dog.Limit = d
			k.spoken.dog = k.spoken.dog.Heard(time.Now())
		}
	}
	k.watchful()
}

// lastWordsMax is how long after the command's end its number cannot be
// another's yet.
const lastWordsMax = time.Second

// ours says whose words count while a tree runs. The command's last ones are
// read when it cannot be looked at any more.
func (k *keeper) ours(t tree) func(pid int) bool {
	h, done, ended := t.Handle(), t.CommandDone(), time.Time{}
	return func(pid int) bool {
		if pid != int(h.Command) {
			return k.m.Belongs(h, pid)
		}
		select {
		case <-done:
			if ended.IsZero() {
				ended = time.Now()
			}
			return time.Since(ended) < lastWordsMax || k.m.Belongs(h, pid)
		default:
			return true
		}
	}
}

// watchful sets when it is looked whether the program is silent, and what
// status says of all this.
func (k *keeper) watchful() {
	k.silent.Stop()
	due := k.spoken.dog.Due()
	if !due.IsZero() {
		k.silent.Reset(time.Until(due))
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	v := &k.view
	v.HeldSince, v.WatchdogSeconds = nil, 0
	if !due.IsZero() {
		v.WatchdogSeconds = k.spoken.dog.Limit.Seconds()
	}
	if since := k.spoken.hold.Since; !k.spoken.hold.Until(time.Now()).IsZero() {
		v.HeldSince = &since
	}
}

// words is what there is to hear; nil blocks.
func (k *keeper) words() <-chan struct{} {
	if k.spoken.ear == nil {
		return nil
	}
	return k.spoken.ear.Heard()
}

// heard does what the program wants.
func (k *keeper) heard(ctx context.Context) error {
	w := k.spoken.ear.Take()
	s := &k.spoken
	k.mu.Lock()
	k.view.Ready = k.view.Ready || w.Ready
	if w.Told {
		k.view.Says = w.Status
	}
	k.mu.Unlock()
	s.stopping = s.stopping || w.Stopping
	if w.Watchdog > 0 {
		s.dog.Limit = w.Watchdog
	}
	if w.Well {
		s.dog, s.well = s.dog.Heard(w.At), true
	}
	if w.Deaf.After(s.dog.Since) && s.dog.Armed {
		s.dog = s.dog.Heard(w.Deaf)
	}
	k.obey(w)
	k.watchful()
	if w.Durable && !k.rec.policy.Durable {
		if err := k.insist(ctx, k.keepsItsOwn); err != nil {
			return err
		}
	}
	if w.Ill {
		return k.unwell(ctx, "said that it is not well (WATCHDOG=trigger)")
	}
	return nil
}

// obey takes or puts off checkpoints. One that the program asks for comes no
// sooner than half of the time is left to other things and more may be written.
func (k *keeper) obey(w notify.Words) {
	s, now := &k.spoken, time.Now()
	switch w.Hold {
	case notify.Wait:
		s.hold = s.hold.Wait(now)
	case notify.Go:
		s.hold = policy.Hold{}
		if s.waits {
			k.due.Reset(0)
		}
	}
	if w.Checkpoint && !s.asked {
		s.asked = true
		k.due.Reset(max(time.Until(k.last.end.Add(k.last.end.Sub(k.last.start))), k.meter.Wait(now, k.writeLimit())))
	}
}

// held says whether the program wants no checkpoint now, and looks again when
// it has wanted that for long enough.
func (k *keeper) held() bool {
	s := &k.spoken
	if end := s.hold.Until(time.Now()); !end.IsZero() && !s.asked {
		s.waits = true
		k.due.Reset(time.Until(end))
		return true
	}
	s.waits, s.asked, s.hold = false, false, policy.Hold{}
	k.watchful()
	return false
}

// keepsItsOwn notes that the program keeps its own state.
func (k *keeper) keepsItsOwn() error {
	p := k.rec.policy
	p.Durable = true
	if err := putRecord(k.v, recordPolicy, p); err != nil {
		return fmt.Errorf("note that it keeps its own state: %w", err)
	}
	k.rec.policy = p
	k.log.Info("it keeps its own state")
	k.publish()
	return nil
}

// keepsFiles says that no restore rolls the workload's files back.
func keepsFiles(p api.Policy) bool { return p.Files == api.FilesKeep || p.Durable }

// lastWords hears what the program said before it died.
func (k *keeper) lastWords(ctx context.Context) {
	if k.spoken.ear == nil {
		return
	}
	k.spoken.ear.Settle()
	w := k.spoken.ear.Take()
	k.spoken.stopping = k.spoken.stopping || w.Stopping
	if w.Durable && !k.rec.policy.Durable {
		if err := k.insist(ctx, k.keepsItsOwn); err != nil {
			k.log.Error("note what it said last", "err", err)
		}
	}
}

// looked sees whether the program is silent. What it has said in this very
// moment counts.
func (k *keeper) looked(ctx context.Context) error {
	if err := k.heard(ctx); err != nil || k.tree == nil {
		return err
	}
	var silent bool
	if k.spoken.dog, silent = k.spoken.dog.Look(time.Now()); silent {
		return k.unwell(ctx, fmt.Sprintf("was silent for %v (watchdog)", k.spoken.dog.Limit))
	}
	k.watchful()
	return nil
}

// unwell ends a program that is not well, and recovers it.
func (k *keeper) unwell(ctx context.Context, why string) error {
	k.rec.run.Ended = false
	return k.crashed(ctx, policy.End{Known: true, Code: 1}, time.Now(), why)
}

// errDurable is why files are not put back.
var errDurable = errors.New("it was made before the program said that it keeps its own state: its files would be rolled back, and what it had acknowledged would be lost")

// rollsBack refuses to roll back the files of a program that keeps its own
// state: that no generation since has any is the promise, not that none had.
func (k *keeper) rollsBack(g store.Generation) error {
	l, err := readLineage(k.v)
	if err != nil {
		return err
	}
	if i, _ := l.info(g); !k.rec.policy.Durable || i.Meta[metaKeeps] != "" {
		return nil
	}
	return api.Errorf(api.CodeFailed, "`wakepoint set "+k.rec.spec.Name+" --files rollback` allows it", "%v: %w", g, errDurable)
}
