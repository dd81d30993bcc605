package keeper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/wakepoint/wakepoint/internal/api"
	"github.com/wakepoint/wakepoint/internal/files"
	"github.com/wakepoint/wakepoint/internal/generation"
	"github.com/wakepoint/wakepoint/internal/health"
	"github.com/wakepoint/wakepoint/internal/hint"
	"github.com/wakepoint/wakepoint/internal/policy"
	"github.com/wakepoint/wakepoint/internal/rehearsal"
	"github.com/wakepoint/wakepoint/internal/store"
)

const (
	scratchName   = "rehearsal" // the directory over which a sandbox mounts
	rehearseEvery = time.Hour   // where nobody says otherwise
	rehearseFirst = 10 * time.Minute
	rehearseSoon  = 30 * time.Second // after an incident, and when the host could not afford it
)

// rehearsalArgs are those of the process that rehearses.
type rehearsalArgs struct {
	Site       Site
	Name       string
	Generation string
	For        time.Duration
}

// RehearsalMain is the process that rehearses (`wakepoint _rehearse ARGS`).
func RehearsalMain(args []string) error {
	answer := rehearsal.Answer()
	var a rehearsalArgs
	if len(args) != 1 {
		return errors.New("rehearse: one argument is wanted")
	}
	if err := json.Unmarshal([]byte(args[0]), &a); err != nil {
		return err
	}
	res, err := a.run()
	if err != nil {
		res = rehearsal.Result{Fate: policy.Refused, Why: err.Error()}
		if damaged(err) {
			res.Fate = policy.Damaged
		}
	}
	answer(res)
	return nil
}

// run reads the generation, and seals this process before anything of it runs.
func (a rehearsalArgs) run() (res rehearsal.Result, err error) {
	w, err := a.Site.workload(a.Name)
	if err != nil {
		return res, err
	}
	rec, err := recordsOf(w, a.Name)
	if err != nil {
		return res, err
	}
	l, err := readLineage(w)
	if err != nil {
		return res, err
	}
	g, err := store.ParseGeneration(a.Generation)
	if err != nil {
		return res, err
	}
	r, err := generation.Open(w, g)
	if err != nil {
		return res, err
	}
	defer r.Close()
	info, _ := l.info(g)
	check, err := health.Parse(rec.policy.Health)
	if err != nil {
		return res, err
	}
	scratch := filepath.Join(w.Dir(), scratchName)
	if err := os.Mkdir(scratch, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return res, err
	}
	free, _ := rehearsal.Means()
	return rehearsal.Run(context.Background(), rehearsal.Task{
		Source: r, Dir: w.Dir(), Home: info.Meta[metaHome], Output: api.OutputName, Scratch: scratch,
		Budget: rehearsal.Budget(free), Files: info.Sections[files.SectionName], Health: check.In(rec.spec.Dir), Checked: rec.policy.Health != "",
		For: a.For, Helper: a.Site.Program,
	}), nil
}

func (realMachine) Means() (policy.Means, error) { return rehearsal.Means() }

func (realMachine) Rehearse(ctx context.Context, s Site, name string, i store.Info, length time.Duration) policy.Rehearsal {
	r := policy.Rehearsal{Generation: policy.Generation(i.Generation), Taken: taken(i), At: time.Now(), For: length}
	s, err := s.filled()
	args, jerr := json.Marshal(rehearsalArgs{s, name, i.Generation.String(), length})
	if err = errors.Join(err, jerr); err != nil {
		r.Fate, r.Why = policy.Refused, err.Error()
		return r
	}
	res := rehearsal.Spawn(ctx, s.Program, "_rehearse", string(args))
	r.Fate, r.Lived, r.Why, r.Tied = res.Fate, res.Lived, res.Why, res.Tied
	return r
}

// Rehearse restores a generation, "" the newest, in a sandbox beside the
// workload, and returns the verdict. It lives for length; 0 is as long as it
// takes to pass the moment at which it died, if it did. What dies is rehearsed
// twice. What cannot be rehearsed here is an error.
func Rehearse(ctx context.Context, s Site, name, gen string, length time.Duration, progress Progress) (api.Rehearsal, error) {
	none := api.Rehearsal{}
	w, err := s.workload(name)
	if err != nil {
		return none, err
	}
	rec, err := recordsOf(w, name)
	if err != nil {
		return none, err
	}
	c, err := careOf(realVault{w}, &rec)
	if err != nil {
		return none, hint.Workload(name, err)
	}
	g := c.l.head(rec.run)
	if gen != "" {
		if g, err = c.named(gen); err != nil {
			return none, err
		}
	}
	i, ok := c.l.info(g)
	switch {
	case !ok && gen == "":
		return none, api.Errorf(api.CodeNotFound, "", "%s has no generation yet", name)
	case !ok:
		return none, api.Errorf(api.CodeIntegrity, "`wakepoint verify "+name+"` shows all damage", "%v of %s is damaged", g, name)
	}
	if length == 0 {
		length = rehearseFor(&rec.history, i)
	}
	for n := 1; ; n++ {
		progress.say(fmt.Sprintf("%v is restored in a sandbox, and is to live for %.0f s", g, length.Seconds()))
		r := realMachine{}.Rehearse(ctx, s, name, i, length)
		switch {
		case ctx.Err() != nil:
			return none, ctx.Err()
		case r.Fate == policy.Damaged:
			return none, api.Errorf(api.CodeIntegrity, "`wakepoint verify "+name+"` shows all damage", "%s", r.Why)
		case r.Fate == policy.Refused:
			return none, api.Errorf(api.CodeFailed, "that says nothing of "+g.String()+": its verdict stays", "%v of %s cannot be rehearsed here: %s", g, name, r.Why)
		}
		reply, err := s.tend(ctx, name, api.Request{Op: api.OpJudge, Generation: g.String(), Rehearsed: &api.Rehearsed{
			Generation: g.String(), At: r.At, For: r.For, Lived: r.Lived, Survived: r.Fate == policy.Lived, Why: r.Why, Tied: r.Tied}})
		if err != nil {
			return none, err
		}
		if r.Fate == policy.Lived || n == 2 {
			return *reply.Rehearsal, nil
		}
		progress.say(fmt.Sprintf("it %s after %.1f s: once more, to be sure", r.Why, r.Lived.Seconds()))
	}
}

// rehearseFor is how long a generation is rehearsed where nobody says otherwise.
func rehearseFor(h *policy.History, i store.Info) time.Duration {
	at, _ := h.CrashAfter(taken(i))
	return policy.RehearseFor(taken(i), at)
}

// hear notes a rehearsal that another process made.
func (c care) hear(q *api.Rehearsed) (api.Reply, error) {
	if q == nil {
		return api.Reply{}, api.Errorf(api.CodeUsage, "", "nothing to judge")
	}
	g, err := c.named(q.Generation)
	if err != nil {
		return api.Reply{}, err
	}
	i, _ := c.l.info(g)
	r := policy.Rehearsal{Generation: policy.Generation(g), Taken: taken(i), At: q.At, For: q.For, Lived: q.Lived, Fate: policy.Died, Why: q.Why, Tied: q.Tied}
	if q.Survived {
		r.Fate = policy.Lived
	}
	return c.judge(r)
}

// judge notes a rehearsal, and what all of them say now.
func (c care) judge(r policy.Rehearsal) (api.Reply, error) {
	i, ok := c.l.info(store.Generation(r.Generation))
	if !ok {
		return api.Reply{}, api.Errorf(api.CodeNotFound, "", "g%d is gone", r.Generation)
	}
	h := &c.rec.history
	h.Note(r)
	c.settle()
	if err := putRecord(c.v, recordHistory, *h); err != nil {
		return api.Reply{}, err
	}
	out := rehearsed(r, verdict(*h, i.Generation))
	return api.Reply{Rehearsal: &out}, nil
}

// rehearsed is a rehearsal as others see it.
func rehearsed(r policy.Rehearsal, verdict string) api.Rehearsal {
	return api.Rehearsal{Generation: store.Generation(r.Generation).String(), At: r.At, Verdict: verdict,
		Lived: r.Fate == policy.Lived, LivedSeconds: r.Lived.Seconds(), Why: r.Why}
}

// settle makes verdicts of what rehearsals have shown.
func (c care) settle() {
	last := time.Now()
	if r := &c.rec.run; (!r.Wanted || r.State != api.Running) && len(c.l.infos) > 0 {
		last = taken(c.l.infos[0])
	}
	c.rec.history.Settle(candidates(c.l.infos), last)
}

// rehearsing is a keeper's side of rehearsals.
type rehearsing struct {
	due   *time.Timer
	done  chan policy.Rehearsal
	going bool
	end   func() // ends the one that goes on, and waits for it; never nil
}

// rehearseEvery is how often a keeper rehearses; 0: never.
func (k *keeper) rehearseEvery() time.Duration {
	switch s := k.rec.policy.RehearseSeconds; {
	case s < 0:
		return 0
	case s > 0:
		return seconds(s)
	}
	return rehearseEvery
}

// rehearseIn sets when the next rehearsal is due: after a while, which is no
// longer than from one to the next.
func (k *keeper) rehearseIn(d time.Duration) {
	k.rehearsing.due.Stop()
	if every := k.rehearseEvery(); every > 0 {
		k.rehearsing.due.Reset(min(d, every))
	}
}

// rehearseNext begins the rehearsal that is due, if none goes on and the host
// can afford it.
func (k *keeper) rehearseNext(ctx context.Context) {
	every := k.rehearseEvery()
	if every == 0 || k.rec.history.Incident != nil {
		return
	}
	k.rehearsing.due.Reset(every)
	if k.rehearsing.going {
		return
	}
	l, err := readLineage(k.v)
	if err != nil {
		k.log.Warn("rehearse", "err", err)
		return
	}
	h := &k.rec.history
	i, ok := l.info(store.Generation(h.Rehearse(candidates(l.infos))))
	if !ok {
		return
	}
	if m, err := k.m.Means(); err != nil || !rehearsal.Affords(m, i.TotalBytes, i.Sections[files.SectionName]) {
		k.rehearsing.due.Reset(max(rehearseSoon, every/10))
		return
	}
	length := rehearseFor(h, i)
	ctx, cancel := context.WithCancel(ctx)
	over := make(chan struct{})
	k.rehearsing.going = true
	k.rehearsing.end = func() {
		cancel()
		<-over
		k.rehearsing.going, k.rehearsing.end = false, func() {}
	}
	site, name := k.site, k.rec.spec.Name
	go func() {
		defer close(over)
		limited, stop := context.WithTimeout(ctx, length+rehearsal.Slack(i.Sections[files.SectionName]))
		defer stop()
		r := k.m.Rehearse(limited, site, name, i, length)
		select {
		case k.rehearsing.done <- r:
		case <-ctx.Done():
		}
	}()
}

// rehearsed notes what came of a rehearsal.
func (k *keeper) rehearsed(r policy.Rehearsal) {
	k.rehearsing.end()
	g := store.Generation(r.Generation)
	k.log.Info("rehearsal", "generation", g.String(), "fate", r.Fate, "lived", r.Lived, "why", r.Why)
	c, err := careOf(k.v, &k.rec)
	if err == nil {
		_, err = c.judge(r)
	}
	if err != nil {
		k.log.Warn("note a rehearsal", "err", err)
	}
	if k.rec.history.Searching(candidates(c.l.infos), time.Now()) {
		k.rehearseIn(rehearseSoon)
	}
	k.publish()
}

// addRehearsals fills in what a status says of rehearsals.
func addRehearsals(v *api.Status, h policy.History) {
	if n := len(h.Rehearsals); n > 0 {
		r := h.Rehearsals[n-1]
		out := rehearsed(r, verdict(h, store.Generation(r.Generation)))
		if r.Fate == policy.Refused {
			out.Verdict = "" // it says nothing
		}
		v.Rehearsal = &out
	}
	if g := h.Offered(); g != 0 {
		v.Offered = store.Generation(g).String()
	}
}
