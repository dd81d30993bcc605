package keeper

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/wakepoint/wakepoint/internal/api"
	"github.com/wakepoint/wakepoint/internal/policy"
	"github.com/wakepoint/wakepoint/internal/store"
)

// What a keeper notes in a generation.
const (
	metaTaken    = "taken"    // the instant that it shows, RFC 3339
	metaSteady   = "steady"   // the same by policy.Steady, which retention goes by
	metaRun      = "run"      // number of the run that made it
	metaFrom     = "from"     // the generation that this run was restored from, "0": none
	metaStreamed = "streamed" // its memory was larger than the buffer
	metaHome     = "home"     // the workload's directory when it was made
	metaChosen   = "chosen"   // the interval that was in force, and what a checkpoint cost: policy.Chosen
	metaKeeps    = "keeps"    // its files stay as they are
	metaWatchdog = "watchdog" // how long the program might be silent, if it had ever spoken
	metaImported = "imported" // the number that it had elsewhere, before it was imported
)

// tagUndo marks what ran before a restore.
const tagUndo = "undo"

// taken returns the instant that a generation shows.
func taken(i store.Info) time.Time {
	if t, err := time.Parse(time.RFC3339Nano, i.Meta[metaTaken]); err == nil {
		return t
	}
	return i.CommittedAt
}

// steady returns the instant by which retention counts a generation's age.
func steady(i store.Info) time.Time {
	if t, err := time.Parse(time.RFC3339Nano, i.Meta[metaSteady]); err == nil {
		return t
	}
	return taken(i)
}

func metaNumber(i store.Info, name string) uint64 {
	n, _ := strconv.ParseUint(i.Meta[name], 10, 64)
	return n
}

// lineage is the generations of a workload as recovery sees them.
type lineage struct {
	infos   []store.Info // newest first
	damaged []store.Generation
	why     map[store.Generation]string // of damaged ones
}

func readLineage(v interface {
	Generations() ([]store.Info, []store.Damage, error)
}) (lineage, error) {
	infos, damage, err := v.Generations()
	if err != nil {
		return lineage{}, err
	}
	l := lineage{infos: infos, why: map[store.Generation]string{}}
	for _, d := range damage {
		l.damaged = append(l.damaged, d.Generations...)
		for _, g := range d.Generations {
			l.why[g] = d.Error()
		}
	}
	slices.SortFunc(l.infos, func(a, b store.Info) int { return cmp.Compare(b.Generation, a.Generation) })
	return l, nil
}

// info returns one generation's description.
func (l lineage) info(g store.Generation) (store.Info, bool) {
	for _, i := range l.infos {
		if i.Generation == g {
			return i, true
		}
	}
	return store.Info{}, false
}

// head returns the generation that a workload stands on: the newest that its
// run has made, else what the run record says. 0 when there is none.
func (l lineage) head(r runRecord) store.Generation {
	for _, i := range l.infos {
		if metaNumber(i, metaRun) == r.Run {
			return i.Generation
		}
	}
	if r.Head == headUnknown && len(l.infos) > 0 {
		return l.infos[0].Generation
	}
	return r.Head
}

// line returns the generations behind head, newest first: its parents, and
// where one is missing the next older one that led to it.
func (l lineage) line(head store.Generation) []store.Info {
	var out []store.Info
	for _, i := range l.infos {
		if n := len(out); i.Generation <= head && (n == 0 || ledTo(i, out[n-1])) {
			out = append(out, i)
		}
	}
	return out
}

// ledTo says that a generation, or one that is gone and was taken right after
// it, may be the parent of a later one: it was taken by the same run, or lies
// behind what that run was restored from. What other runs took meanwhile was
// abandoned.
func ledTo(i, later store.Info) bool {
	if later.Meta[metaRun] != "" && i.Generation != later.Parent && metaNumber(i, metaRun) != metaNumber(later, metaRun) &&
		uint64(i.Generation) > metaNumber(later, metaFrom) {
		return false
	}
	return i.Generation <= later.Parent
}

// lost returns the damaged generations that lie on the line between g and
// head, or may be newer than both.
func (l lineage) lost(g, head store.Generation) []store.Generation {
	var out []store.Generation
	next := head
	between := func(low, high store.Generation) {
		for _, d := range l.damaged {
			if d > low && d <= high {
				out = append(out, d)
			}
		}
	}
	between(l.top(head), headUnknown)
	for _, i := range l.infos {
		if i.Generation > next {
			continue
		}
		between(max(i.Generation, g), next) // one that is missing on the line
		if i.Generation <= g || i.Parent == 0 {
			break
		}
		next = i.Parent
	}
	return out
}

// passedOver names the generations that are newer than g on the line of head,
// newest first, and says why each was not taken: the damaged ones by what was
// found, others by why, which may be nil when there are none.
func (l lineage) passedOver(g, head store.Generation, why func(store.Generation) string) []api.PassedOver {
	words := map[store.Generation]string{}
	for _, d := range l.lost(g, head) {
		words[d] = l.why[d]
	}
	for _, i := range l.line(head) {
		if i.Generation > g && why != nil {
			words[i.Generation] = why(i.Generation)
		}
	}
	var out []api.PassedOver
	for _, n := range slices.Backward(slices.Sorted(maps.Keys(words))) {
		out = append(out, api.PassedOver{Generation: n.String(), Why: words[n]})
	}
	return out
}

// nothingLeft is the error of a line on which nothing can be restored.
func (l lineage) nothingLeft() error {
	if len(l.damaged) > 0 {
		return api.Errorf(api.CodeIntegrity, "`wakepoint verify` shows all damage", "no generation of it is whole: %s", l.why[l.damaged[0]])
	}
	return api.Errorf(api.CodeNotFound, "put its directory back from a copy of the store; or delete it with `wakepoint rm NAME` and run the program anew", "no generation of it is left")
}

// candidates is a line as policy sees it.
func candidates(line []store.Info) []policy.Candidate {
	out := make([]policy.Candidate, 0, len(line))
	for _, i := range line {
		out = append(out, policy.Candidate{
			Generation: policy.Generation(i.Generation),
			Taken:      taken(i),
			From:       policy.Generation(metaNumber(i, metaFrom)),
		})
	}
	return out
}

// older says that g is not the newest state on its line: one that was
// committed later by the same history is passed over or damaged.
func (l lineage) older(g, head store.Generation) bool {
	if head != g {
		return true
	}
	for _, d := range l.damaged {
		if d > l.top(head) {
			return true
		}
	}
	return false
}

// top is the newest number of which it is known what it is: what is damaged
// and newer may have been made by the run that head is of.
func (l lineage) top(head store.Generation) store.Generation {
	if len(l.infos) > 0 {
		return max(head, l.infos[0].Generation)
	}
	return head
}
