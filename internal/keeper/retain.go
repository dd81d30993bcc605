package keeper

import (
	"slices"
	"time"

	"github.com/wakepoint/wakepoint/internal/api"
	"github.com/wakepoint/wakepoint/internal/policy"
	"github.com/wakepoint/wakepoint/internal/store"
)

// dropBatch is how many generations are let go at once: it costs as much to
// remove one as several.
const dropBatch = 4

// lineage returns the generations. They are read once, and after a checkpoint
// of which it is not known what it left; the keeper is the only one who adds or
// removes any.
func (k *keeper) lineage() (lineage, error) {
	if k.known == nil {
		l, err := readLineage(k.v)
		if err != nil {
			return l, err
		}
		k.known = &l
	}
	return *k.known, nil
}

// learn notes what came of a checkpoint.
func (k *keeper) learn(i store.Info, err error) {
	if err != nil {
		k.known = nil
	} else if k.known != nil {
		k.known.infos = slices.Insert(slices.Clone(k.known.infos), 0, i)
	}
}

// steady is by which instant retention will count the age of what is taken now.
func (k *keeper) steady(now time.Time) time.Time {
	l, err := k.lineage()
	if err != nil || len(l.infos) == 0 {
		return now
	}
	return policy.Steady(steady(l.infos[0]), taken(l.infos[0]), now)
}

// held is the generations as retention sees them. While an incident is open it
// may go back to all that the present run has not made.
func held(rec records, l lineage) []policy.Held {
	head := l.head(rec.run)
	line := l.line(head)
	var out []policy.Held
	for _, i := range l.infos {
		g, verdict := i.Generation, rec.history.verdict(i.Generation)
		onLine := slices.ContainsFunc(line, func(o store.Info) bool { return o.Generation == g })
		out = append(out, policy.Held{
			Generation: policy.Generation(g),
			At:         steady(i),
			Sound:      onLine && verdict != api.Bad,
			Proven:     verdict == api.Proven,
			Pinned:     rec.pins.has(g),
			Needed: g == head || g == rec.run.From ||
				rec.history.Incident != nil && metaNumber(i, metaRun) != rec.run.Run,
			Tagged: i.Tag != "" && i.Tag != tagUndo,
			Undo:   i.Tag == tagUndo,
		})
	}
	return out
}

// retain lets go of the generations that policy does not keep.
func (k *keeper) retain() {
	l, err := k.lineage()
	if err != nil {
		return
	}
	if gone := policy.Drop(held(k.rec, l)); len(gone) >= dropBatch {
		k.drop(gone)
	}
}

// drop removes generations. What somebody reads goes another time.
func (k *keeper) drop(gens []policy.Generation) {
	removed, err := k.v.Drop(numbers(gens))
	if err != nil {
		k.known = nil
		k.log.Warn("drop", "generations", removed, "err", err)
		return
	}
	if k.known != nil {
		k.known.infos = slices.DeleteFunc(k.known.infos, func(i store.Info) bool { return slices.Contains(removed, i.Generation) })
	}
}

func numbers(gens []policy.Generation) []store.Generation {
	var out []store.Generation
	for _, g := range gens {
		out = append(out, store.Generation(g))
	}
	return out
}
