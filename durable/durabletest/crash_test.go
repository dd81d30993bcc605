package durabletest_test

import (
	"fmt"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wakepoint/wakepoint/durable/durabletest"
)

// quiet is a test that may fail.
type quiet struct {
	testing.TB
	errors []string
}

func (q *quiet) Errorf(format string, args ...any) {
	q.errors = append(q.errors, fmt.Sprintf(format, args...))
}
func (q *quiet) Logf(string, ...any) {}

func TestCrash(t *testing.T) {
	r := durabletest.Crash(t, durabletest.Options{Seed: 1}, counting(""))
	if r.Points != r.Of || r.Of < 15 || r.Kills < r.Of || r.Cuts < 6*r.Of {
		t.Errorf("%+v", r)
	}
	r = durabletest.Crash(t, durabletest.Options{Seed: 2, Cuts: 2000}, counting(""))
	if r.Cuts < 2000 || r.Cuts > 2010 {
		t.Errorf("%+v", r)
	}
	durabletest.Fail(t, durabletest.Options{Seed: 1}, syscall.EIO, counting(""))
}

// TestTeeth: a program that breaks a promise fails, and what is reported fails
// again when it is repeated.
func TestTeeth(t *testing.T) {
	crash := func(q durabletest.TB, o durabletest.Options, broken string) {
		if broken == "one sync" {
			durabletest.Fail(q, o, syscall.EIO, counting(broken))
		} else {
			durabletest.Crash(q, o, counting(broken))
		}
	}
	for _, broken := range []string{"sync", "rename", "syncdir", "sync at open", "one sync"} {
		q, again, whole := &quiet{TB: t}, &quiet{TB: t}, &quiet{TB: t}
		crash(q, durabletest.Options{Seed: 1}, broken)
		if len(q.errors) == 0 {
			t.Errorf("without %s: nobody noticed", broken)
			continue
		}
		t.Logf("without %s: %s", broken, q.errors[0])
		o := durabletest.Options{Only: regexp.MustCompile(`Only: "(.*)"`).FindStringSubmatch(q.errors[0])[1]}
		crash(again, o, broken)
		if len(again.errors) != 1 || again.errors[0] != q.errors[0] {
			t.Errorf("%s\nrepeated: %q", q.errors[0], again.errors)
		}
		if crash(whole, o, ""); len(whole.errors) > 0 {
			t.Errorf("with %s: %s", broken, whole.errors[0])
		}
	}
}

// TestOnly: what is no try is refused.
func TestOnly(t *testing.T) {
	for _, only := range []string{"x", "run 1", "run 0 kill", "run 1 cut", "run 1 cut x", "walk 1 kill", "run 1 kill, ", "run 1 fail"} {
		q := &quiet{TB: t}
		durabletest.Crash(q, durabletest.Options{Only: only}, counting(""))
		if len(q.errors) != 1 || !strings.Contains(q.errors[0], "no such try") {
			t.Errorf("%q: %q", only, q.errors)
		}
	}
}

// TestBubble: a slow disk takes no time in a bubble, and a timeout of the
// program is met.
func TestBubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := func() *durabletest.Disk {
			d := durabletest.NewDisk()
			d.SetDelay(time.Hour)
			return d
		}
		begin := time.Now()
		durabletest.Crash(t, durabletest.Options{Disk: slow}, counting(""))
		if d := time.Since(begin); d < 1000*time.Hour || d%time.Hour != 0 {
			t.Errorf("it took %v", d)
		}
		d := slow()
		c, err := openCounter(d, "")
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- c.add() }()
		select {
		case <-done:
			t.Error("it was quick")
		case <-time.After(90 * time.Minute): // in its second fsync
		}
		after := d.Cut(durabletest.LoseAll)
		if err := <-done; err == nil {
			t.Error("acknowledged without power")
		}
		if c, err := openCounter(after, ""); err != nil || c.n != 0 {
			t.Errorf("%d, %v", c.n, err)
		}
	})
}
