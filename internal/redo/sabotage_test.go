//go:build sabotage

package redo_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/wakepoint/wakepoint/durable/durabletest"
	"github.com/wakepoint/wakepoint/internal/disk"
	"github.com/wakepoint/wakepoint/internal/redo"
)

// site is a place in the code that makes something durable, or compares a
// checksum: what is done, where, and for which function.
func site(verb string) string {
	pcs := make([]uintptr, 64)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(3, pcs)])
	at := ""
	for {
		f, more := frames.Next()
		_, name, ok := strings.Cut(f.Function, "internal/redo.")
		name = strings.NewReplacer("(*", "", ")", "", ".func1", "").Replace(name)
		switch {
		case !ok || strings.HasSuffix(f.File, "_test.go") || name == "same":
		case at == "":
			at = fmt.Sprintf("%-8s %s:%d %s", verb, path.Base(f.File), f.Line, name)
		case verb == "checksum":
			return at + " for " + name
		}
		if !more {
			return at
		}
	}
}

// spared are the sites without which nothing breaks.
var spared = map[string]string{}

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

// TestSabotage takes out each fsync and each rename in turn. The crash suite
// must notice.
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
		why := tryAll(t, 5000, func(op disk.Op) disk.Verdict {
			if makesDurable(op) && site(op.Verb) == s {
				return disk.Drop
			}
			return disk.Do
		})
		judge(t, s, why)
	}
}

func judge(t *testing.T, s, why string) {
	w := strings.Fields(s)
	spare := spared[w[0]+" "+w[2]]
	switch {
	case why != "":
		if _, more, ok := strings.Cut(why, "it is not as promised: "); ok {
			why, _, _ = strings.Cut(more, "\n")
		}
		t.Logf("red    without %s: %s", s, why)
	case spare != "":
		t.Logf("spare  without %s: %s", s, spare)
	default:
		t.Errorf("GREEN  without %s", s)
	}
}

// tryAll is the crash suite with a disk that asks what becomes of a call. It
// returns what broke first.
func tryAll(t *testing.T, cuts int, ask func(disk.Op) disk.Verdict) (why string) {
	hook := func(d disk.FS) disk.FS { return disk.Watch(d, ask) }
	for _, m := range []manner{{hook: hook}, {hook: hook, full: true}, {hook: hook, fault: syscall.EIO}, {hook: hook, fault: syscall.ENOSPC}} {
		synctest.Test(t, func(t *testing.T) {
			q := &quiet{TB: t}
			if suite(q, durabletest.Options{Seed: 1, Cuts: cuts}, m); len(q.why) > 0 {
				why = q.why[0]
			}
		})
		if why != "" {
			return why
		}
	}
	return fullTail(t, hook)
}

// TestBlind leaves out each comparison of a checksum in turn. Flipped bits must
// show.
func TestBlind(t *testing.T) {
	defer func() { redo.Blind = nil }()
	c := &census{sites: map[string]bool{}}
	redo.Blind = func() bool {
		c.note(site("checksum"))
		return false
	}
	if why := flipped(t, 500) + forged(t); why != "" {
		t.Fatal(why)
	}
	for _, s := range c.all() {
		redo.Blind = func() bool { return site("checksum") == s }
		judge(t, s, flipped(t, 5000)+forged(t))
	}
}

// flipped flips a bit of a log that was closed, n times, and returns what was
// read wrongly or lost without a word.
func flipped(t *testing.T, n int) (why string) {
	synctest.Test(t, func(t *testing.T) {
		whole, c := durabletest.NewDisk(), &client{}
		if err := errors.Join(disk.MkdirAll(whole, "/log"), c.run(whole), c.run(whole)); err != nil {
			t.Fatal(err)
		}
		files, err := whole.ReadDir("/log")
		if err != nil {
			t.Fatal(err)
		}
		r := rand.New(rand.NewPCG(1, 1))
		for range n {
			d, own := whole.Kill(), *c
			f := files[r.IntN(len(files))]
			bit := []int64{r.Int64N(64 * 8), 4096*8 + r.Int64N(4096*8), r.Int64N(8 * 4096 * 3)}[r.IntN(3)]
			if err := d.Flip("/log/"+f.Name(), bit); err != nil {
				t.Fatal(err)
			}
			l, err := own.open(d)
			if w := new(wrong); errors.As(err, &w) {
				why = fmt.Sprintf("it is not as promised: bit %d of %s flipped: %v", bit, f.Name(), err)
				return
			}
			if err == nil {
				l.Close()
			}
		}
	})
	return why
}
