package keeper

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/wakepoint/wakepoint/internal/store"
)

// A scrub reads the whole store of a workload while its program lives, so
// that damage is found as long as there is something to mend it with.
const (
	scrubFirst = 10 * time.Minute
	scrubEvery = 24 * time.Hour
	scrubRate  = 16 << 20 // bytes a second
)

// scrub begins a scrub by the side of the loop, which hears of what it finds.
// It ends with the tree at the latest: what it reads nobody can remove.
func (k *keeper) scrub(ctx context.Context) {
	k.scrubDue.Reset(scrubEvery)
	k.endScrub()
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	k.endScrub = func() { cancel(); <-done }
	go func() {
		defer close(done)
		found, err := k.v.Scrub(ctx, func(bytes int64) {
			select {
			case <-ctx.Done():
			case <-time.After(time.Duration(bytes) * time.Second / scrubRate):
			}
		})
		if err != nil {
			if ctx.Err() == nil {
				k.log.Warn("scrub", "err", err)
			}
			return
		}
		select {
		case k.scrubbed <- found:
		case <-ctx.Done():
		}
	}()
}

// mend has the next checkpoint read everything again when a scrub has found
// damage in the newest generation: what is damaged is then stored anew.
func (k *keeper) mend(found []store.Damage) {
	touched := false
	for _, d := range found {
		k.log.Error("the scrub found damage", "file", d.Pack, "at", d.Offset, "what", d.What, "generations", d.Generations)
		touched = touched || slices.Contains(d.Generations, k.parent)
	}
	if len(found) == 0 {
		return
	}
	note := fmt.Sprintf("damage was found in the store at %s; `wakepoint verify %s` shows it", time.Now().Format(time.DateTime), k.rec.spec.Name)
	if touched {
		k.anew()
		note += "; the next generation stores everything anew that is damaged"
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.notes = append(slices.Clip(k.notes), note)
	k.view.Notes = k.allNotes()
}
