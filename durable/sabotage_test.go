//go:build sabotage

package durable_test

import (
	"fmt"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/wakepoint/wakepoint/durable"
	"github.com/wakepoint/wakepoint/durable/durabletest"
	"github.com/wakepoint/wakepoint/internal/disk"
)

// site is a place in the code that makes something durable, or compares a
// checksum: what is done, where, and for which function of the database.
func site(verb string) string {
	pcs := make([]uintptr, 64)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(3, pcs)])
	at := ""
	for {
		f, more := frames.Next()
		_, name, ok := strings.Cut(f.Function, "github.com/wakepoint/wakepoint/")
		name = strings.NewReplacer("(*", "", ")", "", ".func1", "", "[...]", "").Replace(path.Base(name))
		own := strings.HasPrefix(name, "durable.") || strings.HasPrefix(name, "redo.")
		switch {
		case !ok || strings.HasSuffix(f.File, "_test.go") || strings.Contains(name, ".watched") || name == "durable.equal":
		case at == "":
			if at = fmt.Sprintf("%-8s %s:%d %s", verb, path.Base(f.File), f.Line, name); own && verb != "checksum" {
				return at
			}
		case own:
			return at + " for " + name
		}
		if !more {
			return at
		}
	}
}

// spared are the sites without which nothing breaks, by what is done and the
// innermost function.
var spared = map[string]string{
	"syncdir disk.MkdirAll for durable.openDir":                "syncAbove fsyncs it again, before there is anything to lose",
	"checksum durable.readGeneration for durable.DB.rebuild":   "it takes a second damage; the checksum of an extent has its place in it, and first keys do not matter here",
	"checksum durable.readGeneration for durable.saved.others": "copies compares both indexes again",
	"checksum durable.readGeneration for durable.saved.verify": "copies compares both indexes again",
	"checksum durable.saved.copies for durable.saved.others":   "one copy is enough for all that flips ask for; TestSpoiledCopies looks at both",
	"checksum durable.saved.copies for durable.saved.verify":   "one copy is enough for all that flips ask for; TestSpoiledCopies looks at both",
}

// quiet is a test that may fail.
type quiet struct {
	testing.TB
	why []string
}

func (q *quiet) Errorf(format string, args ...any) {
	q.why = append(q.why, fmt.Sprintf(format, args...))
}
func (q *quiet) Logf(string, ...any) {}

// census gathers the sites that it meets.
type census struct {
	mu    sync.Mutex // guards sites
	sites map[string]bool
}

func (c *census) note(site string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sites[site] = true
}

func (c *census) all() []string {
	var all []string
	for s := range c.sites {
		all = append(all, s)
	}
	slices.Sort(all)
	return all
}

func makesDurable(op disk.Op) bool {
	return op.Verb == "sync" || op.Verb == "syncdir" || op.Verb == "rename"
}

// TestSabotage takes out each fsync and each rename of the library in turn, the
// log's as well. The crash suite must notice.
func TestSabotage(t *testing.T) {
	c := &census{sites: map[string]bool{}}
	whole := tryAll(t, 500, func(op disk.Op) disk.Verdict {
		if makesDurable(op) {
			c.note(site(op.Verb))
		}
		return disk.Do
	})
	if whole != "" {
		t.Fatal(whole)
	}
	for _, s := range c.all() {
		judge(t, s, tryAll(t, 4000, func(op disk.Op) disk.Verdict {
			if makesDurable(op) && site(op.Verb) == s {
				return disk.Drop
			}
			return disk.Do
		}))
	}
}

func judge(t *testing.T, s, why string) {
	w := strings.Fields(s)
	spare := spared[w[0]+" "+strings.Join(w[2:], " ")]
	switch {
	case why != "":
		if _, more, ok := strings.Cut(why, "it is not as promised: "); ok {
			why, _, _ = strings.Cut(more, "\n")
		}
		t.Logf("red    without %s: %.120s", s, why)
	case spare != "":
		t.Logf("spare  without %s: %s", s, spare)
	default:
		t.Errorf("GREEN  without %s", s)
	}
}

// tryAll is the crash suite with a disk that asks what becomes of a call. It
// returns what broke first.
func tryAll(t *testing.T, cuts int, ask func(disk.Op) disk.Verdict) (why string) {
	hook := func(d durable.FS) durable.FS { return disk.Watch(d, ask) }
	for _, m := range []manner{{hook: hook}, {hook: hook, slow: true}, {hook: hook, fault: syscall.EIO}, {hook: hook, fault: syscall.ENOSPC}} {
		synctest.Test(t, func(t *testing.T) {
			q := &quiet{TB: t}
			if suite(q, durabletest.Options{Seed: 1, Cuts: cuts}, m); len(q.why) > 0 {
				why = q.why[0]
			} else {
				why = killedFirst(q, hook)
			}
		})
		if why != "" {
			break
		}
	}
	return why
}

// TestBlind leaves out each comparison of a checksum in turn. Flipped bits must
// show.
func TestBlind(t *testing.T) {
	defer func() { durable.Blind = nil }()
	c := &census{sites: map[string]bool{}}
	durable.Blind = func() bool {
		c.note(site("checksum"))
		return false
	}
	if why := flipped(t, 500); why != "" {
		t.Fatal(why)
	}
	for _, s := range c.all() {
		durable.Blind = func() bool { return site("checksum") == s }
		judge(t, s, flipped(t, 8000))
	}
}

// flipped flips bits and returns what was wrong first.
func flipped(t *testing.T, n int) (why string) {
	synctest.Test(t, func(t *testing.T) {
		defer func() {
			if p := recover(); p != nil {
				why = fmt.Sprint("panic: ", p)
			}
		}()
		f := newFlips(&quiet{TB: t}, 1)
		for range n {
			if f.once(); len(f.why) > 0 {
				why = f.why[0]
				return
			}
		}
		why = f.indexes(100)
	})
	return why
}
