package policy

import (
	"cmp"
	"slices"
	"time"
)

// Candidate is a generation that could be restored.
type Candidate struct {
	Generation Generation
	Taken      time.Time  // the instant that it shows
	From       Generation // the run that made it was restored from this one; 0: started afresh
}

// Fate is what came of a try.
type Fate string

// The fates of a try. A try is Pending from before it is made.
const (
	Pending     Fate = "pending"
	Lived       Fate = "lived"       // outlived its probation
	Died        Fate = "died"        // died in its probation, by its own doing
	Interrupted Fate = "interrupted" // cut short from outside: power, SIGKILL
	Refused     Fate = "refused"     // could not be restored on this host now
	Damaged     Fate = "damaged"     // cannot be read
)

// Try is one attempt to bring a workload back.
type Try struct {
	Generation Generation `json:"generation"` // 0: started afresh
	Taken      time.Time  `json:"taken"`      // the instant that the generation shows
	At         time.Time  `json:"at"`
	Fate       Fate       `json:"fate"`
	Why        string     `json:"why,omitempty"` // of a fate that is no good one, for a person
}

// Incident is a crash and what was tried since.
type Incident struct {
	Crashed time.Time `json:"crashed"`
	Tries   []Try     `json:"tries"`
}

// Rules is what the workload's owner wants.
type Rules struct {
	Fresh       bool          // after a crash start the command afresh, never go back
	GiveUpFresh bool          // when no generation is left start afresh instead of stopping
	Every       time.Duration // between checkpoints
}

// Do is what to do next.
type Do int

// The decisions.
const (
	Stop    Do = iota // give up
	Restore           // restore Decision.Generation
	Fresh             // start the command afresh
)

// Decision is what to do next in an incident.
type Decision struct {
	Do         Do
	Generation Generation
	Wait       time.Duration // before it is done
}

// Next decides what is tried next in an incident: the newest candidate that
// is not known to be bad. Once a try has died, it is at least twice as old as
// that one was, and older as far as that costs little: what died of age a shows
// that at least a was spoilt, and up to strides times as much may be lost, and two
// intervals. Where none is so old, it is the oldest that is left, as long as it is
// older than what died. A candidate that is interrupted or refused is tried
// again, a few times. Candidates may come in any order; bad is closed over descent
// by Descendants. The tries of in are finite in number for any finite set of
// candidates, so that recovery never loops.
func Next(r Rules, in Incident, candidates []Candidate, bad []Generation) Decision {
	if r.Fresh {
		return fresh(in)
	}
	list := slices.Clone(candidates)
	slices.SortFunc(list, func(a, b Candidate) int {
		return cmp.Compare(b.Generation, a.Generation)
	})
	list = slices.DeleteFunc(list, func(c Candidate) bool {
		_, spent := attempts(in, c.Generation)
		return spent || slices.Contains(bad, c.Generation)
	})
	if c, ok := leap(in, list, 2*r.Every); ok {
		return again(in, c)
	}
	if c, ok := oldest(in, list); ok {
		return again(in, c)
	}
	if r.GiveUpFresh {
		return fresh(in)
	}
	return Decision{Do: Stop}
}

// again decides on a try of c, after a rest when it is not the first.
func again(in Incident, c Candidate) Decision {
	n, _ := attempts(in, c.Generation)
	return Decision{Do: Restore, Generation: c.Generation, Wait: rest(n)}
}

// oldest returns the candidate of the greatest age, unless something as old
// has died: what is younger than that most likely dies too.
func oldest(in Incident, list []Candidate) (Candidate, bool) {
	if len(list) == 0 {
		return Candidate{}, false
	}
	c := slices.MinFunc(list, func(a, b Candidate) int {
		return cmp.Or(a.Taken.Compare(b.Taken), cmp.Compare(a.Generation, b.Generation))
	})
	for _, t := range in.Tries {
		if t.Generation != 0 && t.Fate == Died && !c.Taken.Before(t.Taken) {
			return Candidate{}, false
		}
	}
	return c, true
}

// leap returns the candidate to which the search leaps from what died or was
// tried too often: newest first in list, slack is what may be lost besides.
func leap(in Incident, list []Candidate, slack time.Duration) (found Candidate, ok bool) {
	age, deaths := time.Duration(-1<<62), 0
	for _, t := range in.Tries {
		n, _ := attempts(in, t.Generation)
		if t.Generation != 0 && (t.Fate == Died || n >= interruptsMax) {
			age = max(age, in.Crashed.Sub(t.Taken))
			deaths++
		}
	}
	far := slack
	if age > 0 {
		far += time.Duration(strides[min(deaths, len(strides))-1] * float64(age))
	}
	for _, c := range list {
		a := in.Crashed.Sub(c.Taken)
		if ok && (a > far || deaths == 0) {
			break
		}
		if a >= 2*age {
			found, ok = c, true
		}
	}
	return found, ok
}

// attempts counts the tries of g that may be made again, and says whether g
// is not to be tried any more.
func attempts(in Incident, g Generation) (n int, spent bool) {
	for _, t := range in.Tries {
		if t.Generation != g {
			continue
		}
		switch t.Fate {
		case Died, Damaged:
			spent = true
		case Pending, Interrupted, Refused:
			n++
		}
	}
	return n, spent || n >= interruptsMax
}

// fresh decides on another fresh start. A start that was cut short from
// outside says nothing about the next one, which begins from the program's own
// state all the same: it neither counts nor makes the next one wait.
func fresh(in Incident) Decision {
	n := 0
	for _, t := range in.Tries {
		if t.Generation == 0 && t.Fate != Lived && t.Fate != Interrupted {
			n++
		}
	}
	if n >= freshMax {
		return Decision{Do: Stop}
	}
	return Decision{Do: Fresh, Wait: rest(n)}
}

// rest is how long to wait before the n-th repetition: nothing before the
// first try, then 1 s, 2 s, 4 s ...
func rest(n int) time.Duration {
	if n == 0 {
		return 0
	}
	return min(time.Second<<(min(n, 10)-1), freshRest)
}

// Descendants returns those candidates that bad makes bad: themselves, and
// whatever was taken by runs that were restored from one.
func Descendants(bad []Generation, candidates []Candidate) []Generation {
	out := slices.Clone(bad)
	for grown := true; grown; {
		grown = false
		for _, c := range candidates {
			if c.From != 0 && slices.Contains(out, c.From) && !slices.Contains(out, c.Generation) {
				out = append(out, c.Generation)
				grown = true
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Reopen returns the incident with which recovery goes on after everything
// was lost at crashed (a power cut, a killed keeper) while last was open, or
// nil was. What was pending was interrupted. Only tries that were interrupted
// since the last one that lived are kept: they count against their
// generations, but a power cut says nothing about a program's state.
func Reopen(last *Incident, crashed time.Time) Incident {
	in := Incident{Crashed: crashed}
	if last == nil {
		return in
	}
	for _, t := range last.Tries {
		if t.Fate == Pending {
			t.Fate = Interrupted
		}
		if t.Fate == Interrupted {
			in.Tries = append(in.Tries, t)
		}
	}
	return in
}
