package keeper

import (
	"fmt"
	"slices"
	"syscall"
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
		k.known, k.size = nil, -1
		return
	}
	if k.known != nil {
		k.known.infos = slices.Insert(slices.Clone(k.known.infos), 0, i)
	}
	if k.size >= 0 {
		k.size += i.NewBytes
	}
	k.meter = k.meter.Add(time.Now(), i.NewBytes, k.writeLimit())
}

// remember makes the meter show what was written before this keeper came, as
// far as the generations that are left tell.
func (k *keeper) remember() {
	l, err := k.lineage()
	if err != nil {
		return
	}
	for _, i := range slices.Backward(l.infos) {
		k.meter = k.meter.Add(i.CommittedAt, i.NewBytes, k.writeLimit())
	}
	if len(l.infos) > 0 {
		k.choice = policy.ParseChosen(l.infos[0].Meta[metaChosen])
	}
	k.measure()
	k.mu.Lock()
	defer k.mu.Unlock()
	k.view.EverySeconds = k.every().Seconds()
	k.view.WrittenDayBytes = k.meter.Day(time.Now())
}

// writeLimit is how much may be written a second; 0 is no limit.
func (k *keeper) writeLimit() int64 {
	return limitOf(k.rec.policy.WriteLimitBytes, policy.WriteMax)
}

// limitOf is a limit of a policy, where 0 is the usual one and -1 none; 0 is
// none here.
func limitOf(n, usual int64) int64 {
	if n == 0 {
		return usual
	}
	return max(0, n)
}

// firstEvery is the interval at most while there is nothing to go back to: a
// first checkpoint that failed is not tried again only in an hour.
const firstEvery = time.Second

// pace sets the time of the next checkpoint after one from start to end.
func (k *keeper) pace(start, end time.Time) {
	every, since := k.interval(end)
	if k.failures > 0 && k.parent == 0 {
		every = min(every, firstEvery)
	}
	due, why := policy.Pace(start, end, every, k.failures, k.meter.Wait(end, k.writeLimit()), k.stood)
	k.due.Reset(time.Until(due))
	k.mu.Lock()
	defer k.mu.Unlock()
	v := &k.view
	v.EverySeconds, v.Auto = k.every().Seconds(), k.auto(end)
	v.IntervalSeconds, v.Stretched = due.Sub(start).Seconds(), string(why)
	v.AfterCrashSeconds = 0
	if why == policy.AsAsked && v.IntervalSeconds < v.EverySeconds {
		v.AfterCrashSeconds = since.Seconds()
	}
	v.WrittenDayBytes = k.meter.Day(end)
	if k.size >= 0 {
		v.SizeBytes = k.size
	}
}

// auto is by what the interval is chosen; nil: it was asked for.
func (k *keeper) auto(now time.Time) *api.Auto {
	if !k.rec.policy.EveryAuto {
		return nil
	}
	return &api.Auto{CheckpointSeconds: k.choice.Cost.Seconds(), CrashSeconds: k.between(now).Seconds()}
}

// between is the mean time between the workload's crashes.
func (k *keeper) between(now time.Time) time.Duration {
	h := &k.rec.history
	lived := seconds(h.LivedSeconds)
	if h.Counted != k.rec.run.Run {
		lived += max(0, now.Sub(k.rec.run.Started))
	}
	return policy.Between(lived, h.Crashes)
}

// counted adds what a run has lived, once, in the history that is written next.
func (k *keeper) counted(end time.Time) {
	h, r := &k.rec.history, &k.rec.run
	if h.Counted == r.Run || r.Started.IsZero() {
		return
	}
	h.LivedSeconds += max(0, end.Sub(r.Started).Seconds())
	h.Counted = r.Run
}

// room refuses a checkpoint that would take what is to be left of the disk.
// What runs may need that all the same: a state in which it is ended is
// committed wherever it fits.
func (k *keeper) room(o checkpointOptions) error {
	free, total, err := k.v.Space()
	if err != nil || o.hold || policy.Room(free, total) {
		return nil
	}
	mib := func(n int64) float64 { return float64(n) / (1 << 20) }
	return fmt.Errorf("%.1f of %.1f MiB of the store's disk are free, and 5 %% of it stay free: %w", mib(free), mib(total), syscall.ENOSPC)
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
// may go back to all that the present run has not made; after it some of that is
// rehearsed.
func held(rec records, l lineage) []policy.Held {
	open := rec.history.Incident != nil || rec.policy.RehearseSeconds >= 0 && rec.history.Searching(candidates(l.infos), time.Now())
	head := l.head(rec.run)
	line := l.line(head)
	var out []policy.Held
	for _, i := range l.infos {
		g, verdict := i.Generation, verdict(rec.history, i.Generation)
		onLine := slices.ContainsFunc(line, func(o store.Info) bool { return o.Generation == g })
		out = append(out, policy.Held{
			Generation: policy.Generation(g),
			At:         steady(i),
			Sound:      onLine && verdict != api.Bad,
			Proven:     verdict == api.Proven,
			Pinned:     rec.pins.has(g),
			Needed:     g == head || open && metaNumber(i, metaRun) != rec.run.Run,
			Tagged:     i.Tag != "" && i.Tag != tagUndo,
			Undo:       i.Tag == tagUndo,
		})
	}
	return out
}

// retain lets go of the generations that policy does not keep, and where they
// take too much room of others.
func (k *keeper) retain() {
	l, err := k.lineage()
	if err != nil {
		return
	}
	if gone := policy.Drop(held(k.rec, l)); len(gone) >= dropBatch {
		k.drop(gone)
	}
	for k.measure(); tooLarge(k.rec.policy, k.size); {
		if l, err = k.lineage(); err != nil {
			return
		}
		next, ok := policy.Shrink(held(k.rec, l))
		if !ok || k.drop([]policy.Generation{next}) == 0 {
			return
		}
		k.measure()
	}
}

// tooLarge says that the generations take more of the disk than they may.
func tooLarge(p api.Policy, size int64) bool {
	limit := limitOf(p.KeepSizeBytes, policy.SizeMax)
	return limit > 0 && size > limit
}

// measure measures the generations on the disk, if their size is not known.
func (k *keeper) measure() {
	if k.size >= 0 {
		return
	}
	size, err := k.v.Size()
	if err != nil {
		k.log.Warn("measure", "err", err)
		return
	}
	k.size = size
	k.mu.Lock()
	defer k.mu.Unlock()
	k.view.SizeBytes = size
}

// drop removes generations, and says how many are gone. What somebody reads
// goes another time.
func (k *keeper) drop(gens []policy.Generation) int {
	removed, err := k.v.Drop(numbers(gens))
	k.size = -1
	if err != nil {
		k.known = nil
		k.log.Warn("drop", "generations", removed, "err", err)
	} else if k.known != nil {
		k.known.infos = slices.DeleteFunc(k.known.infos, func(i store.Info) bool { return slices.Contains(removed, i.Generation) })
	}
	return len(removed)
}

func numbers(gens []policy.Generation) []store.Generation {
	var out []store.Generation
	for _, g := range gens {
		out = append(out, store.Generation(g))
	}
	return out
}
