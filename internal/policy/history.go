package policy

import (
	"slices"
	"time"
)

// History is what recovery must know of the past. It is kept as JSON.
type History struct {
	Bad      []Generation `json:"bad,omitempty"`
	Proven   []Generation `json:"proven,omitempty"`   // they were restored, and lived
	Sound    []Generation `json:"sound,omitempty"`    // they lived in rehearsals
	Doubtful []Generation `json:"doubtful,omitempty"` // they died in a rehearsal, and nothing agrees with that
	Incident *Incident    `json:"incident,omitempty"` // the open one
	Past     []Incident   `json:"past,omitempty"`     // closed ones, oldest first

	Rehearsals []Rehearsal `json:"rehearsals,omitempty"` // oldest first

	// How often it crashed, how long it lived, and the last run of which that
	// was counted.
	Crashes      int     `json:"crashes,omitempty"`
	LivedSeconds float64 `json:"lived_seconds,omitempty"`
	Counted      uint64  `json:"counted,omitempty"`
}

// Verdict says what is known of a generation.
func (h *History) Verdict(g Generation) Verdict {
	switch {
	case slices.Contains(h.Bad, g):
		return Bad
	case slices.Contains(h.Proven, g), slices.Contains(h.Sound, g):
		return Proven
	case slices.Contains(h.Doubtful, g):
		return Doubtful
	}
	return Committed
}

// CrashAfter is the first crash after an instant.
func (h *History) CrashAfter(taken time.Time) (at time.Time, crashed bool) {
	all := h.Past
	if h.Incident != nil {
		all = append(slices.Clip(all), *h.Incident)
	}
	for _, in := range all {
		if !in.Crashed.Before(taken) && (!crashed || in.Crashed.Before(at)) {
			at, crashed = in.Crashed, true
		}
	}
	return at, crashed
}

// Note adds a rehearsal. Only the last hundred are remembered.
func (h *History) Note(r Rehearsal) {
	h.Rehearsals = append(h.Rehearsals, r)
	if n := len(h.Rehearsals) - rehearsalsMax; n > 0 {
		h.Rehearsals = slices.Clone(h.Rehearsals[n:])
	}
}

// rehearsed are the rehearsals of a generation.
func (h *History) rehearsed(g Generation) []Rehearsal {
	return slices.DeleteFunc(slices.Clone(h.Rehearsals), func(r Rehearsal) bool { return r.Generation != g })
}

// Settle makes verdicts of what rehearsals have shown. last is when what was
// not followed by a crash was last seen alive. What a live restore has proven
// stays.
func (h *History) Settle(all []Candidate, last time.Time) {
	h.Doubtful, h.Sound = nil, nil
	for _, c := range all {
		until, crashed := h.CrashAfter(c.Taken)
		if !crashed {
			until = last
		}
		verdict := Judge(h.rehearsed(c.Generation), until, crashed)
		switch {
		case slices.Contains(h.Bad, c.Generation), slices.Contains(h.Proven, c.Generation):
		case verdict == Proven:
			h.Sound = append(h.Sound, c.Generation)
		case verdict == Doubtful:
			h.Doubtful = append(h.Doubtful, c.Generation)
		case verdict == Bad:
			h.Bad = Descendants(append(h.Bad, c.Generation), all)
		}
	}
	h.Proven = slices.DeleteFunc(h.Proven, func(g Generation) bool { return slices.Contains(h.Bad, g) })
}

// Rehearse chooses what is rehearsed next: after a recovery what would have
// lost less, then what died once, then the newest. 0: nothing.
func (h *History) Rehearse(all []Candidate) Generation {
	if g := h.offer(all); g != 0 {
		return g
	}
	newest := Generation(0)
	for _, c := range all {
		newest = max(newest, c.Generation)
		if slices.Contains(h.Doubtful, c.Generation) && len(h.rehearsed(c.Generation)) == 1 {
			return c.Generation
		}
	}
	if newest == 0 || h.Verdict(newest) != Committed {
		return 0
	}
	return newest
}

// offer chooses what may be offered after the last incident; 0: nothing.
func (h *History) offer(all []Candidate) Generation {
	if n := len(h.Past); n > 0 {
		return Offer(h.Past[n-1], all, h.Bad, h.Rehearsals)
	}
	return 0
}

// searchFor is how long what was leapt over stays for rehearsals.
const searchFor = time.Hour

// Searching says that there is more to be looked for after the last incident.
// What is older than it stays as long.
func (h *History) Searching(all []Candidate, now time.Time) bool {
	return h.offer(all) != 0 && now.Sub(h.Past[len(h.Past)-1].Crashed) < searchFor
}

// Offered is a newer generation than that with which the last incident ended,
// which has lived in a rehearsal since; 0: none.
func (h *History) Offered() Generation {
	if n := len(h.Past); n > 0 {
		return Offered(h.Past[n-1], h.Bad, h.Rehearsals)
	}
	return 0
}
