//go:build sabotage

package store

import (
	"fmt"
	"path"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/wakepoint/wakepoint/internal/disk"
	"github.com/wakepoint/wakepoint/internal/disk/crashfs"
	"github.com/wakepoint/wakepoint/internal/seal"
)

// site is a place in the code that makes something durable, or compares a
// seal: what is done, to what kind of file, and by which functions.
type site struct{ verb, kind, by string }

func (s site) String() string { return fmt.Sprintf("%-8s %-32s %s", s.verb, s.kind, s.by) }

var numbers = regexp.MustCompile(`g[0-9]+(\.c?)?[0-9]*`)

// siteOf finds the site that is at work.
func siteOf(op disk.Op) site {
	kind := strings.TrimPrefix(numbers.ReplaceAllString(op.Name, "gN$1"), crashStore)
	kind = strings.Replace(strings.TrimPrefix(kind, "/workloads/"), "v", "w", 1)
	if path.Dir(op.Name) == crashHeads {
		kind = "heads/" + map[bool]string{true: ".tmp-", false: ""}[disk.IsTemp(path.Base(op.Name))]
	}
	return site{op.Verb, kind, callers(2)}
}

// callers names the outermost and the innermost functions of the store that
// are at work, n of the latter.
func callers(n int) string {
	pcs := make([]uintptr, 64)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(3, pcs)])
	var all []string
	for {
		f, more := frames.Next()
		if _, name, ok := strings.Cut(f.Function, "internal/store."); ok && !strings.HasSuffix(f.File, "_test.go") {
			all = append(all, strings.NewReplacer("(*", "", ")", "").Replace(name))
		}
		if !more {
			break
		}
	}
	if len(all) > n {
		all = append(all[:n:n], all[len(all)-1])
	}
	slices.Reverse(all)
	return strings.Join(all, " > ")
}

// coming is a workload that comes in.
const coming = disk.TempPrefix + disk.TempPrefix + "w"

// inPlace reports whether a site gives a file its name.
func (s site) inPlace() bool {
	return s.verb == "rename" && strings.Contains(s.kind, "/"+disk.TempPrefix)
}

// spare says why nothing breaks without a site; "" where something must.
func spare(s site, late bool) string {
	if late && strings.HasPrefix(s.kind, "w/packs/") {
		return "no manifest refers to a pack before both are done; one that is torn is swept"
	}
	if strings.HasPrefix(s.kind, coming) && late {
		return "nobody sees it before Admit, and by then both are done"
	}
	if strings.HasPrefix(s.kind, coming) && strings.HasPrefix(s.by, "Draft.") && strings.Contains(s.by, "writeState") {
		return "what fails to come in is turned away"
	}
	if s.verb == "syncdir" {
		switch {
		case (s.kind == "w" || s.kind == coming) && strings.HasSuffix(s.by, "Record > Workload.withRecords"):
			return "the writer's Lock has made the directory"
		case s.kind == "" && s.by == "Store.Create > Store.mark > writeRecord":
			return "the workload that is made fsyncs it again"
		case s.kind == "/workloads" && s.by == "Store.Create > openWorkload > claim":
			return "syncAbove, right behind it, fsyncs it again"
		case s.kind == "w" && s.by == "Workload.Lock > Workload.takeOver":
			return "the state that is written next fsyncs it again"
		case s.kind == "/workloads" && strings.HasSuffix(s.by, "withRecords"):
			return "what could not be looked at is not made: takeOver has fsynced it"
		case s.by == "Store.TurnAway > Store.sweep":
			return "the sweep of Incoming has gone before; what comes in nobody sees"
		case s.by == "Store.Create > Store.making" || s.by == "Store.Incoming > Store.making":
			return "the workload that is made fsyncs it again"
		case s.kind == "/workloads" && strings.HasPrefix(s.by, "Store.Incoming"):
			return "Admit fsyncs it, and before that there is nothing to see"
		case s.kind == coming && strings.HasPrefix(s.by, "Store.Incoming") && !strings.HasSuffix(s.by, "withRecords"):
			return "nobody sees it before Admit, and the making of its records fsyncs it again"
		case s.kind == "/" && strings.HasSuffix(s.by, " > claim > syncAbove") && s.by != "Open > claim > syncAbove":
			return "Open has fsynced it"
		case s.kind == "/workloads" && s.by == "Store.Create > claim > syncAbove":
			return "whoever locks the workload fsyncs it again"
		}
	}
	for part, why := range map[string]string{
		"heads/":   "a head is a witness: its loss harms nothing",
		"noteHead": "a head is a witness: its loss harms nothing",
		"syncdir                                   Open > Store.mark": "the first workload fsyncs it again, and without one there is nothing to lose",
		"syncdir  /                                Open > claim":      "the first workload fsyncs it again",
		"checkPackHead": "a wrong header gives a wrong key, with which no seal in the pack is whole",
	} {
		if strings.Contains(s.String(), part) {
			return why
		}
	}
	return ""
}

// census gathers the sites that the crash suite meets, and the scenes in which
// it meets them.
type census struct {
	mu    sync.Mutex // guards sites
	sites map[site]bool
}

func (c *census) note(_ *crashfs.FS, op disk.Op) disk.Verdict {
	if op.Verb == "sync" || op.Verb == "syncdir" || op.Verb == "rename" {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.sites[siteOf(op)] = true
	}
	return disk.Do
}

// TestSabotage takes out each fsync and each rename in turn, and does each
// rename before its fsync. The crash suite must notice.
func TestSabotage(t *testing.T) {
	where, behind := map[site][]*stage{}, map[site][]*stage{}
	all := &census{sites: map[site]bool{}}
	for _, s := range scenes {
		base := s.base
		s.base = func(x *world) error {
			x.ledger.headless = true // heads hold numbers, and would stand in for the state
			return base(x)
		}
		st := newStage(t, s)
		own := &census{sites: map[site]bool{}} // what the scene itself does
		r := &rig{name: s.name, sabotage: own.note}
		x, err := st.play(t, r)
		must(t, err)
		x.release()
		whole := newTrial(t, 1)
		more := &census{sites: map[site]bool{}} // what comes with its faults
		whole.sabotage = more.note
		whole.everyFault(st, r.changes, 8)
		whole.report()
		for s := range own.sites {
			where[s] = append(where[s], st)
			all.sites[s] = true
		}
		for s := range more.sites {
			if !own.sites[s] {
				behind[s] = append(behind[s], st)
				all.sites[s] = true
			}
		}
	}
	for s, stages := range behind {
		where[s] = append(where[s], stages...)
	}
	var sites []site
	for s := range all.sites {
		sites = append(sites, s)
	}
	slices.SortFunc(sites, func(a, b site) int { return strings.Compare(a.String(), b.String()) })
	t.Logf("%d sites", len(sites))
	green := 0
	for _, s := range sites {
		for _, late := range []bool{false, true} {
			if late && !s.inPlace() {
				continue
			}
			what := "without  "
			if late {
				what = "too early"
			}
			if why := spare(s, late); why != "" {
				t.Logf("spare  %s %v: %s", what, s, why)
			} else if by := sabotaged(t, where[s], s, late); by != "" {
				t.Logf("red    %s %v: %s", what, s, by)
			} else {
				green++
				t.Errorf("GREEN  %s %v", what, s)
			}
		}
	}
	t.Logf("%d sites, %d green", len(sites), green)
}

// sabotaged runs the suite without a site and returns the promise that broke.
func sabotaged(t *testing.T, stages []*stage, s site, late bool) (promise string) {
	trial := newTrial(t, 1)
	trial.sabotage = takeOut(s, late)
	defer func() {
		if r := recover(); r != nil {
			promise = fmt.Sprint("panic: ", r)
		}
	}()
	broken := func() bool { return len(trial.broken) > 0 }
	some := stages[:min(len(stages), 3)]
	for _, st := range some {
		r := trial.everyCut(st, 6)
		if trial.everyFault(st, r.changes, 1); broken() {
			return trial.broken[0].promise
		}
	}
	img := image{crashfs.New(), ledger{books: map[string]*book{}, headless: true}, "an empty disk"}
	for n := range 600 {
		if img = trial.session(n, img); broken() {
			return trial.broken[0].promise
		}
	}
	trial.every = true
	for _, st := range stages {
		r := newTrial(t, 1).everyCut(st, 0)
		if trial.everyFault(st, r.changes, 1); broken() {
			return trial.broken[0].promise
		}
	}
	return ""
}

// takeOut is a disk on which a site does nothing, or does its rename before
// the fsync of the file.
func takeOut(s site, late bool) func(*crashfs.FS, disk.Op) disk.Verdict {
	var mu sync.Mutex
	var behind []string
	return func(d *crashfs.FS, op disk.Op) disk.Verdict {
		mu.Lock()
		defer mu.Unlock()
		for _, name := range behind {
			_ = d.Flush(name) // gone again: nothing to do
		}
		behind = nil
		if !late {
			if op.Verb == s.verb && siteOf(op) == s {
				return disk.Drop
			}
			return disk.Do
		}
		at := siteOf(op)
		if at.verb == "sync" && at.kind == s.kind {
			return disk.Drop
		}
		if at == s {
			behind = append(behind, op.To)
		}
		return disk.Do
	}
}

// TestBlind leaves out each comparison of a seal in turn. TestFlips must
// notice.
func TestBlind(t *testing.T) {
	defer func() { seal.Blind = nil }()
	var mu sync.Mutex
	met := map[string]bool{}
	f := newFlips(t)
	seal.Blind = func() bool {
		mu.Lock()
		defer mu.Unlock()
		if by := callers(3); strings.Contains(by, " > ") { // else the test has called it, to forge
			met[by] = true
		}
		return false
	}
	base := newTrial(t, 1)
	for range 600 {
		f.once(base)
	}
	base.report()
	var sites []string
	for s := range met {
		sites = append(sites, s)
	}
	slices.Sort(sites)
	for _, s := range sites {
		seal.Blind = nil
		f := newFlips(t)
		seal.Blind = func() bool { return callers(3) == s }
		if by := blind(t, f); by != "" {
			t.Logf("red    seal not compared  %s: %s", s, by)
		} else if why := spare(site{by: s}, false); why != "" {
			t.Logf("spare  seal not compared  %s: %s", s, why)
		} else {
			t.Errorf("GREEN  seal not compared  %s", s)
		}
	}
}

func blind(t *testing.T, f *flips) (promise string) {
	trial := newTrial(t, 1)
	defer func() {
		if r := recover(); r != nil {
			promise = fmt.Sprint("panic: ", r)
		}
	}()
	for range 1500 {
		if f.once(trial); len(trial.broken) > 0 {
			return trial.broken[0].promise
		}
	}
	return ""
}
