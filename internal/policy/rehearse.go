package policy

import (
	"cmp"
	"slices"
	"time"
)

// The limits of rehearsals.
const (
	rehearsalMax   = 10 * time.Minute // how long one may take that nobody asked for
	rehearsalsMax  = 100              // that are remembered
	offersMax      = 4                // rehearsals after one incident
	contradiction  = 1.5              // how much longer than what was rehearsed its own run must have lived, to speak against it
	contradictMore = time.Second
)

// Rehearsal is what came of restoring a generation in a sandbox.
type Rehearsal struct {
	Generation Generation    `json:"generation"`
	Taken      time.Time     `json:"taken"` // the instant that the generation shows
	At         time.Time     `json:"at"`
	For        time.Duration `json:"for"`   // how long it was to live
	Lived      time.Duration `json:"lived"` // how long it did
	Fate       Fate          `json:"fate"`  // Lived or Died; Refused says nothing of the generation
	Why        string        `json:"why,omitempty"`
	Tied       bool          `json:"tied,omitempty"` // some of its files could not be renamed or deleted
}

// Verdict is what is known of a generation.
type Verdict string

// The verdicts. Of rehearsals alone Committed means that they say nothing.
const (
	Committed Verdict = "committed"
	Proven    Verdict = "proven"   // it was restored, and lived
	Doubtful  Verdict = "doubtful" // it died in a rehearsal, and nothing agrees with that, or something speaks against it
	Bad       Verdict = "bad"      // it died, and another rehearsal or its own run did so too
)

// Judge says what the rehearsals of one generation mean. until is when the run
// that made it ended or, while it lives, now; crashed says that it crashed then.
// A death in a sandbox may be the sandbox's doing: it takes a second one that
// agrees, and where the run itself lived well past that moment of its life no
// number of them makes a generation bad. Deaths with files that could not be
// renamed or deleted there count for one together: it is the same for all.
func Judge(list []Rehearsal, until time.Time, crashed bool) Verdict {
	deaths, tied, lives, against := 0, 0, 0, false
	for _, r := range list {
		switch r.Fate {
		case Lived:
			lives++
		case Died:
			if r.Tied {
				tied = 1
			} else {
				deaths++
			}
			against = against || until.After(passed(r))
			if crashed && !until.After(passed(r)) {
				deaths++
			}
		}
	}
	deaths += tied
	switch {
	case deaths == 0 && lives == 0:
		return Committed
	case deaths == 0:
		return Proven
	case deaths < 2, lives > 0, against:
		return Doubtful
	}
	return Bad
}

// passed is the moment that a run must have outlived to speak against a death.
func passed(r Rehearsal) time.Time {
	return r.Taken.Add(time.Duration(contradiction*float64(r.Lived)) + contradictMore)
}

// RehearseFor is how long a generation is to live in a rehearsal: as long as it
// would on probation after a crash, or, when none has followed it, the least.
func RehearseFor(taken, crashed time.Time) time.Duration {
	if crashed.Before(taken) {
		return probationMin
	}
	return min(Probation(crashed, taken), rehearsalMax)
}

// Means is what a host can spare.
type Means struct {
	Memory int64   // bytes that are free
	Load   float64 // processes that want to run, for each processor
}

// Affords says whether a program of size bytes may be rehearsed now, beside the
// one that runs.
func (m Means) Affords(size int64) bool {
	const spare = 256 << 20
	return m.Load < 1 && m.Memory/2-spare > size
}

// Offer chooses what is rehearsed after an incident that ended with an older
// generation than the newest: a newer one that may live as well, so that less
// is lost. It halves what lies between what lived and what died each time. The
// candidates are those of the line that crashed. 0: nothing.
func Offer(in Incident, candidates []Candidate, bad []Generation, done []Rehearsal) Generation {
	lived := keptBy(in)
	if lived == 0 {
		return 0
	}
	made := 0
	top := time.Time{} // what is as new as this died in a rehearsal
	for _, r := range done {
		if r.At.Before(in.Crashed) {
			continue
		}
		made++
		switch {
		case r.Fate == Lived && r.Generation > lived:
			lived = r.Generation
		case r.Fate != Lived && (top.IsZero() || r.Taken.Before(top)):
			top = r.Taken
		}
	}
	list := slices.DeleteFunc(slices.Clone(candidates), func(c Candidate) bool {
		return c.Generation <= lived || c.Taken.After(in.Crashed) || slices.Contains(bad, c.Generation) ||
			!top.IsZero() && !c.Taken.Before(top)
	})
	if len(list) == 0 || made >= offersMax {
		return 0
	}
	slices.SortFunc(list, func(a, b Candidate) int { return cmp.Compare(a.Generation, b.Generation) })
	return list[len(list)/2].Generation
}

// Offered is the newest generation that has lived in a rehearsal since an
// incident that ended with an older one; 0: none.
func Offered(in Incident, bad []Generation, done []Rehearsal) Generation {
	best, lived := Generation(0), keptBy(in)
	for _, r := range done {
		if lived != 0 && r.Fate == Lived && !r.At.Before(in.Crashed) && !r.Taken.After(in.Crashed) && r.Generation > max(best, lived) && !slices.Contains(bad, r.Generation) {
			best = r.Generation
		}
	}
	return best
}

// keptBy is the generation with which an incident ended; 0: none.
func keptBy(in Incident) Generation {
	if n := len(in.Tries); n > 0 && in.Tries[n-1].Fate == Lived {
		return in.Tries[n-1].Generation
	}
	return 0
}
