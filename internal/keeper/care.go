package keeper

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/wakepoint/wakepoint/internal/api"
	"github.com/wakepoint/wakepoint/internal/hint"
	"github.com/wakepoint/wakepoint/internal/policy"
	"github.com/wakepoint/wakepoint/internal/store"
)

// pinsRecord is the generations that a person pinned: nothing removes them
// until they are let go by name.
type pinsRecord struct {
	Pinned []policy.Generation `json:"pinned"`
	lost   bool                // the record cannot be read: each may be pinned
}

func readPins(r recorder) pinsRecord {
	var p pinsRecord
	if err := getRecord(r, recordPins, &p); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return pinsRecord{lost: true}
	}
	return p
}

// has says whether a generation is pinned, or may be.
func (p pinsRecord) has(g store.Generation) bool {
	return p.lost || slices.Contains(p.Pinned, policy.Generation(g))
}

// care looks after the generations of one workload, for its keeper or, where
// it has none, for whoever holds its lock.
type care struct {
	v   vault
	rec *records
	l   lineage
}

// careOf reads the generations of a workload.
func careOf(v vault, rec *records) (care, error) {
	l, err := readLineage(v)
	return care{v, rec, l}, err
}

// do answers a request.
func (c care) do(q api.Request) (api.Reply, error) {
	switch q.Op {
	case api.OpCollect:
		return c.collect(q.DryRun)
	case api.OpJudge:
		return c.hear(q.Rehearsed)
	}
	g, err := c.named(q.Generation)
	switch {
	case err != nil:
		return api.Reply{}, err
	case q.Op == api.OpForget:
		return c.forget(g, q.DryRun)
	default:
		return api.Reply{}, c.pin(g, q.Remove)
	}
}

// named finds the generation that a person names, whole or damaged.
func (c care) named(text string) (store.Generation, error) {
	name := c.rec.spec.Name
	hint := "`wakepoint log " + name + "` lists its generations"
	g, err := store.ParseGeneration(text)
	if err != nil {
		return 0, api.Errorf(api.CodeUsage, hint, "%w", err)
	}
	if _, ok := c.l.info(g); ok || slices.Contains(c.l.damaged, g) {
		return g, nil
	}
	return 0, api.Errorf(api.CodeNotFound, hint, "%s has no generation %v", name, g)
}

// pin pins a generation, or lets it go. A list that was lost is begun anew.
func (c care) pin(g store.Generation, remove bool) error {
	p := pinsRecord{}
	for _, o := range c.rec.pins.Pinned { // those that are gone are not pinned any more
		_, ok := c.l.info(store.Generation(o))
		if (ok || slices.Contains(c.l.damaged, store.Generation(o))) && store.Generation(o) != g {
			p.Pinned = append(p.Pinned, o)
		}
	}
	if !remove {
		p.Pinned = append(p.Pinned, policy.Generation(g))
	}
	slices.Sort(p.Pinned)
	if err := putRecord(c.v, recordPins, p); err != nil {
		return fmt.Errorf("note the pins: %w", err)
	}
	c.rec.pins = p
	return nil
}

// forget removes one generation, unless something needs it. One that is damaged
// is needed by nothing.
func (c care) forget(g store.Generation, dry bool) (api.Reply, error) {
	if err := c.needed(g); err != nil {
		return api.Reply{}, err
	}
	return c.remove([]store.Generation{g}, dry)
}

// needed says for what a generation cannot be spared; nil when it can.
func (c care) needed(g store.Generation) error {
	name := c.rec.spec.Name
	if c.rec.pins.lost {
		return api.Errorf(api.CodeIntegrity, "`wakepoint pin "+name+"@GEN` makes a new list", "the list of what is pinned is damaged: %v may be", g)
	}
	if c.rec.pins.has(g) {
		return api.Errorf(api.CodeFailed, "`wakepoint pin --remove "+name+"@"+g.String()+"` lets it go", "%v of %s is pinned", g, name)
	}
	list := held(*c.rec, c.l)
	if !slices.Contains(policy.Protected(list), policy.Generation(g)) {
		return nil
	}
	i := slices.IndexFunc(list, func(h policy.Held) bool { return h.Generation == policy.Generation(g) })
	switch h := list[i]; {
	case i == 0 || c.l.head(c.rec.run) == g:
		return api.Errorf(api.CodeFailed, "`wakepoint checkpoint "+name+"` takes a newer one; `wakepoint rm "+name+"` deletes it all", "%v is the newest of %s", g, name)
	case c.rec.history.Incident != nil:
		return api.Errorf(api.CodeFailed, "`wakepoint status "+name+"` shows when that is over", "%v may be needed: %s has crashed, and what was restored has not yet outlived it", g, name)
	case h.Proven:
		return api.Errorf(api.CodeFailed, "it goes by itself after a newer one was restored and lived", "%v is the newest of %s that is proven to live", g, name)
	}
	return api.Errorf(api.CodeFailed, "`wakepoint checkpoint "+name+"` takes a newer one", "%v is the newest of %s that recovery can go back to", g, name)
}

// collect removes what policy lets go, then what is too much for the limit of
// size, and packs to which nothing refers.
func (c care) collect(dry bool) (api.Reply, error) {
	r, err := c.remove(numbers(policy.Drop(held(*c.rec, c.l))), dry)
	for err == nil && !dry {
		size, serr := c.v.Size()
		c.l, err = readLineage(c.v)
		next, ok := policy.Shrink(held(*c.rec, c.l))
		if serr != nil || err != nil || !ok || !tooLarge(c.rec.policy, size) {
			return r, errors.Join(serr, err)
		}
		var more api.Reply
		if more, err = c.remove(numbers([]policy.Generation{next}), false); len(more.Dropped) == 0 {
			return r, err // somebody reads it
		}
		r.Dropped, r.FreedBytes = append(r.Dropped, more.Dropped...), r.FreedBytes+more.FreedBytes
	}
	return r, err
}

func (c care) remove(gens []store.Generation, dry bool) (r api.Reply, err error) {
	if !dry {
		before, err := c.v.Size()
		if err != nil {
			return r, err
		}
		if gens, err = c.v.Drop(gens); err != nil {
			return r, err
		}
		after, err := c.v.Size()
		if err != nil {
			return r, err
		}
		r.FreedBytes = max(0, before-after)
	}
	for _, g := range gens {
		r.Dropped = append(r.Dropped, g.String())
	}
	return r, nil
}

// tend asks the keeper of a workload to look after its generations, or does so
// where it has none.
func (s Site) tend(ctx context.Context, name string, q api.Request) (api.Reply, error) {
	r, w, err := s.call(ctx, name, q, nil)
	if !errors.Is(err, api.ErrNoKeeper) {
		return r, err
	}
	v := realVault{w}
	l, err := lockOf(ctx, v)
	if err != nil {
		return r, hint.Workload(name, err)
	}
	defer l.Close()
	rec, err := recordsOf(w, name)
	if err != nil {
		return r, err
	}
	c, err := careOf(v, &rec)
	if err == nil {
		r, err = c.do(q)
	}
	return r, explainNil(name, err)
}

// Pin pins a generation: nothing removes it until it is let go, with remove.
func Pin(ctx context.Context, s Site, name, generation string, remove bool) error {
	_, err := s.tend(ctx, name, api.Request{Op: api.OpPin, Generation: generation, Remove: remove})
	return err
}

// Forget removes one generation that nothing needs. With dry it only says
// whether it would.
func Forget(ctx context.Context, s Site, name, generation string, dry bool) (freed int64, err error) {
	r, err := s.tend(ctx, name, api.Request{Op: api.OpForget, Generation: generation, DryRun: dry})
	if err == nil && len(r.Dropped) == 0 {
		err = api.Errorf(api.CodeLocked, "try again when that has ended", "%s@%s is being read", name, generation)
	}
	return r.FreedBytes, err
}

// Collect removes what retention lets go, and what nothing refers to. With dry
// it only says which generations would go.
func Collect(ctx context.Context, s Site, name string, dry bool) (dropped []string, freed int64, err error) {
	r, err := s.tend(ctx, name, api.Request{Op: api.OpCollect, DryRun: dry})
	return r.Dropped, r.FreedBytes, err
}
