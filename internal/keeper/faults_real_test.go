package keeper

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/wakepoint/wakepoint/internal/api"
	"github.com/wakepoint/wakepoint/internal/policy"
)

// TestFaultsReal injects short faults in real time, under keepers that are
// processes of their own: what is simulated in TestFaults is so. With more than
// one fault for each server, every server has one here.
func TestFaultsReal(t *testing.T) {
	for i, b := range breeds {
		if *faultsN == 1 && b.name != "c" || *faultsOnly != "" && *faultsOnly != b.name {
			continue
		}
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			injectReal(t, b, 300*time.Millisecond*time.Duration(i+1))
		})
	}
}

// injectReal is the life of one server with a fault of a latency.
func injectReal(t *testing.T, b breed, latency time.Duration) {
	s := site(t)
	ctx, top := context.Background(), t.TempDir()
	work, port := filepath.Join(top, "work"), freePort(t)
	err := errors.Join(os.Chmod(top, 0o755), os.Chmod(filepath.Dir(top), 0o755), os.Mkdir(work, 0o755))
	if err != nil {
		t.Fatal(err)
	}
	p := b.prepare(t, work, port)
	launch(t, s, p.spec("victim", work), api.Policy{EverySeconds: 1, OnCrash: api.OnRestore, Health: p.health, Data: p.data})
	if err := listens(port); err != nil {
		t.Fatal(err)
	}
	spoil, done, spoilt := make(chan bool), make(chan bool), make(chan [2]time.Time)
	defer func() { close(spoil); <-done }()
	go func() { defer close(done); drive(p.client, spoil, spoilt, latency) }()
	time.Sleep(5 * time.Second) // some generations
	spoil <- true
	during := <-spoilt
	w, err := s.workload("victim")
	if err != nil {
		t.Fatal(err)
	}
	var list []policy.Candidate
	var in *policy.Incident
	for end := time.Now().Add(5 * time.Minute); in == nil; time.Sleep(50 * time.Millisecond) {
		rec, err := readRecords(w)
		if err == nil && rec.history.Incident != nil && list == nil {
			if l, err := readLineage(w); err == nil {
				list = candidates(l.infos)
			}
		}
		if err == nil && rec.history.Incident == nil && len(rec.history.Past) > 0 {
			in = &rec.history.Past[0]
		}
		if time.Now().After(end) {
			v, err := StatusOf(ctx, s, "victim")
			t.Fatalf("no end of the incident: %+v %v, %v", v, err, rec.history.Incident)
		}
	}
	checkReal(t, b, *in, list, during)
}

// drive has a server's clock keep up with the real one, whatever becomes of the
// server. On spoil it is spoilt; spoilt gets the instants before and after.
func drive(c victim, spoil <-chan bool, spoilt chan<- [2]time.Time, latency time.Duration) {
	last := time.Now()
	for {
		select {
		case _, ok := <-spoil:
			if !ok {
				c.hangUp()
				return
			}
			before := time.Now()
			for c.spoil(latency) != nil {
				c.hangUp()
				before = time.Now()
			}
			spoilt <- [2]time.Time{before, time.Now()}
		case <-time.After(20 * time.Millisecond):
		}
		now := time.Now()
		if _, err := c.tick(now.Sub(last).Truncate(time.Microsecond)); err != nil && !errors.Is(err, errSilent) {
			c.hangUp()
		}
		last = now
	}
}

// checkReal compares an incident with what was foretold. A generation that was
// taken in the very instant of the fault may be spoilt or not.
func checkReal(t *testing.T, b breed, in policy.Incident, list []policy.Candidate, during [2]time.Time) {
	t.Helper()
	list = slices.DeleteFunc(list, func(c policy.Candidate) bool { return c.Taken.After(in.Crashed) })
	var tries []policy.Generation
	for _, try := range in.Tries {
		tries = append(tries, try.Generation)
	}
	last := in.Tries[len(in.Tries)-1]
	t.Logf("%s: age %v, %d tries, lost %v", b.name, in.Crashed.Sub(during[0]), len(tries), in.Crashed.Sub(last.Taken))
	if last.Fate != policy.Lived || len(tries) > attemptsMax {
		t.Errorf("%s: %+v", b.name, in)
	}
	for _, at := range during {
		if slices.Equal(tries, foretell(list, in.Crashed, at, time.Second)) {
			return
		}
	}
	t.Errorf("%s: spoilt at %v, crashed at %v: tried %v, foretold %v of %v", b.name, during, in.Crashed, tries, foretell(list, in.Crashed, during[0], time.Second), list)
}
