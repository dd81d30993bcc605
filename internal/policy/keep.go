package policy

import (
	"cmp"
	"slices"
	"time"
)

// Generations are kept at distances that grow with their age. The promise is
// the one that recovery needs, whose every try is twice as old as the last:
//
//	for every age up to 30 days at which there was a generation to go back
//	to, one is left that is at least as old, and at most twice as old or a
//	second older
//
// A generation is therefore let go when its neighbours would do: the older one
// is no farther from the younger one than that is old, so that the distances
// at age a lie between a/2 and a. Of three neighbours in a row the eldest is so
// always more than twice as old as the youngest, whatever came when, and no
// more than two are left for each doubling of the age:
//
//	2 + 2 (1 + log2(30 days / 1 s)) = 46
//
// at the very most; 37 of a month at one a second. What was let go is never missed
// later: ages only grow, and with them the distances that are allowed.
const (
	nearest   = time.Second         // distances need not be smaller
	horizon   = 30 * 24 * time.Hour // what is older than the first one beyond may go
	keepLeast = 40                  // unless there are fewer than this
	undoStay  = 7 * 24 * time.Hour  // how long the newest undo stays in any case
	pauseMax  = 24 * time.Hour      // a longer pause between two generations counts as this
)

// Held is a generation of which it is decided whether it stays.
type Held struct {
	Generation Generation
	At         time.Time // by Steady
	Sound      bool      // recovery can go back to it: it is on the line of what runs, and not bad
	Proven     bool      // restored once, and lived
	Pinned     bool
	Needed     bool // what runs came from it, or an open incident may go back to it
	Tagged     bool // by hand
	Undo       bool // what ran before a restore
}

// Steady is the instant at which a generation counts as taken: it never goes
// back when the clock does, and a pause in which nothing was taken, which
// makes nothing older that there is, counts as a day at most. last is that of
// the generation before, whose clock said lastTaken; zero when there is none.
func Steady(last, lastTaken, taken time.Time) time.Time {
	if last.IsZero() {
		return taken
	}
	return last.Add(min(max(0, taken.Sub(lastTaken)), pauseMax))
}

// Protected returns those that nothing but a person's own word removes: the
// newest, the newest to which recovery can go back, the newest that is proven,
// what is pinned and what is needed.
func Protected(held []Held) []Generation {
	var out []Generation
	sound, proven := false, false
	for i, h := range newestFirst(held) {
		if i == 0 || h.Pinned || h.Needed || h.Sound && !sound || h.Sound && h.Proven && !proven {
			out = append(out, h.Generation)
		}
		sound, proven = sound || h.Sound, proven || h.Sound && h.Proven
	}
	return out
}

// Drop returns the generations that their distance lets go, the oldest first.
// Neither those that are protected nor those that were tagged by hand are
// among them, nor the newest undo for some days. What recovery cannot go back
// to holds no place of what it can, but may stay where there is room.
func Drop(held []Held) []Generation {
	if len(held) == 0 {
		return nil
	}
	list := newestFirst(held)
	now := list[0].At
	stay := Protected(held)
	undo := false
	for _, h := range list {
		if h.Tagged || h.Undo && !undo && now.Sub(h.At) <= undoStay {
			stay = append(stay, h.Generation)
		}
		undo = undo || h.Undo
	}
	sound := slices.DeleteFunc(slices.Clone(list), func(h Held) bool { return !h.Sound })
	drop := thin(sound, stay, now)
	for _, h := range sound {
		if !slices.Contains(drop, h.Generation) {
			stay = append(stay, h.Generation)
		}
	}
	list = slices.DeleteFunc(list, func(h Held) bool { return slices.Contains(drop, h.Generation) })
	drop = append(drop, thin(list, stay, now)...)
	slices.Sort(drop)
	return drop
}

// thin returns what may go of a list, newest first, without those that stay.
func thin(list []Held, stay []Generation, now time.Time) (drop []Generation) {
	kept, beyond := 0, false // those that stay, and one of them is beyond the horizon
	var young Held           // the last one that stays
	age := func(h Held) time.Duration { return now.Sub(h.At) }
	for i, h := range list {
		near := i > 0 && i+1 < len(list) && young.At.Sub(list[i+1].At) <= max(age(young), nearest)
		if !slices.Contains(stay, h.Generation) && (near || beyond && kept >= keepLeast) {
			drop = append(drop, h.Generation)
			continue
		}
		young, kept, beyond = h, kept+1, beyond || age(h) >= horizon
	}
	return drop
}

// Shrink returns what goes next when generations take too much room: the
// oldest of those to which recovery cannot go back, then the oldest of the
// others, what a person tagged last. false when all that is left is protected.
func Shrink(held []Held) (Generation, bool) {
	stay := Protected(held)
	var found *Held
	rank := func(h *Held) int {
		switch {
		case h.Tagged:
			return 2
		case h.Sound || h.Undo:
			return 1
		}
		return 0
	}
	for _, h := range newestFirst(held) {
		if !slices.Contains(stay, h.Generation) && (found == nil || rank(&h) <= rank(found)) {
			found = &h
		}
	}
	if found == nil {
		return 0, false
	}
	return found.Generation, true
}

func newestFirst(held []Held) []Held {
	list := slices.Clone(held)
	slices.SortFunc(list, func(a, b Held) int { return cmp.Compare(b.Generation, a.Generation) })
	return list
}
