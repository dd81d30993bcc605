package keeper

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/wakepoint/wakepoint/internal/api"
	"github.com/wakepoint/wakepoint/internal/files"
	"github.com/wakepoint/wakepoint/internal/store"
)

// rig runs one keeper at a time on a world, in a bubble of fake time.
type rig struct {
	*testing.T
	w      *world
	k      *keeper
	cancel context.CancelFunc
	done   chan error
}

// Write takes the keeper's reports.
func (r *rig) Write(p []byte) (int, error) { return len(p), nil }
func (r *rig) Close() error                { return nil }

func newRig(t *testing.T, p api.Policy) *rig {
	t.Helper()
	if p.RehearseSeconds == 0 {
		p.RehearseSeconds = -1 // verdicts that nobody asked for
	}
	p, _, err := preparePolicy(p, api.Spec{Argv: []string{"prog"}, Dir: "/"})
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{T: t, w: newWorld(t.TempDir())}
	spec := api.Spec{Name: "web", Argv: []string{"prog"}, Dir: "/", Notify: "web"}
	err = errors.Join(putRecord(r.w, recordSpec, spec), putRecord(r.w, recordPolicy, p), putRecord(r.w, recordRun, runRecord{Wanted: true, State: api.Starting}))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// begin starts a keeper with an action and lets it come to rest.
func (r *rig) begin(a Action, o RestoreOptions) {
	r.Helper()
	r.k = newKeeper(r.w, r.w, Site{}, slog.New(slog.DiscardHandler))
	if err := r.k.load(); err != nil {
		r.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel, r.done = cancel, make(chan error, 1)
	k := r.k
	go func() {
		err := k.work(ctx, Options{Name: "web", Action: a, RestoreOptions: o}, newReporter(nil))
		close(k.released)
		r.done <- err
	}()
	synctest.Wait()
}

// kill ends the keeper as SIGKILL would: nothing is written any more.
func (r *rig) kill() {
	r.Helper()
	r.cancel()
	<-r.done
}

// ask sends a request and waits for the answer.
func (r *rig) ask(q api.Request) api.Reply {
	r.Helper()
	rq := &request{Request: q, reply: make(chan api.Reply, 1), progress: func(string) {}}
	select {
	case r.k.requests <- rq:
	case <-r.k.released:
		r.Fatalf("%s: the keeper has ended", q.Op)
	}
	return <-rq.reply
}

func (r *rig) records() records {
	r.Helper()
	rec, err := readRecords(r.w)
	if err != nil {
		r.Fatal(err)
	}
	return rec
}

// only returns the one tree that lives.
func (r *rig) only() *fakeTree {
	r.Helper()
	synctest.Wait()
	l := r.w.living()
	if len(l) != 1 {
		r.Fatalf("%d trees live", len(l))
	}
	r.w.mu.Lock()
	defer r.w.mu.Unlock()
	if l[0].frozen || !l[0].isRun {
		r.Fatal("the tree stands still")
	}
	return l[0]
}

func (r *rig) wantState(s api.State) {
	r.Helper()
	if got := r.records().run; got.State != s {
		r.Fatalf("state %q, want %q (%+v)", got.State, s, got.Error)
	}
}

// bubble runs a scenario in fake time.
func bubble(t *testing.T, p api.Policy, f func(r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, p)
		defer func() {
			if r.cancel != nil {
				r.cancel()
				synctest.Wait()
			}
		}()
		f(r)
	})
}

func TestCheckpointsAtIntervals(t *testing.T) {
	bubble(t, api.Policy{}, func(r *rig) {
		r.begin(ActLaunch, RestoreOptions{})
		time.Sleep(3500 * time.Millisecond)
		synctest.Wait()
		if d := cmp.Diff([]store.Generation{1, 2, 3, 4}, r.w.generations()); d != "" {
			t.Error(d)
		}
		if v := r.k.status(); v.Generation != "g4" || v.State != api.Running || v.LostWorkSeconds < 0.4 || v.LostWorkSeconds > 0.6 {
			t.Errorf("%+v", v.Row)
		}
		want := []string{"begin", "freeze", "dump", "thaw", "commit", "committed"}
		if d := cmp.Diff(want, r.w.trace("begin", "freeze", "dump", "thaw", "commit")[:6]); d != "" {
			t.Error(d)
		}
	})
}

// A first checkpoint that fails is tried again soon, however long the interval.
func TestFirstCheckpointIsTriedAgain(t *testing.T) {
	bubble(t, api.Policy{EverySeconds: 3600}, func(r *rig) {
		failed := false
		r.w.failWith(func(_ int, s string) error {
			if s == "freeze" && !failed {
				failed = true
				return errFake
			}
			return nil
		})
		r.begin(ActLaunch, RestoreOptions{})
		time.Sleep(time.Minute)
		synctest.Wait()
		if g := r.w.generations(); !failed || len(g) != 1 {
			t.Errorf("generations %v", g)
		}
	})
}

func TestCleanEndsFinish(t *testing.T) {
	for _, wait := range []uint32{0, 15, 2} {
		bubble(t, api.Policy{}, func(r *rig) {
			r.begin(ActLaunch, RestoreOptions{})
			r.only().exit(wait)
			if err := <-r.done; err != nil {
				t.Fatal(err)
			}
			r.wantState(api.Finished)
			if run := r.records().run; run.Wanted || !run.Ended || run.Wait != wait {
				t.Errorf("%+v", run)
			}
		})
	}
}

func TestEndBeforeTheFirstGeneration(t *testing.T) {
	bubble(t, api.Policy{}, func(r *rig) {
		r.w.failWith(func(_ int, s string) error {
			if s == "freeze" {
				return errFake
			}
			return nil
		})
		r.begin(ActLaunch, RestoreOptions{})
		r.only().exit(3 << 8)
		if err := <-r.done; err != nil {
			t.Fatal(err)
		}
		r.wantState(api.Failed)
		if v := r.k.status(); v.ExitCode != 3 || !v.Ended {
			t.Errorf("exit code %d", v.ExitCode)
		}
	})
}

func TestCrashRestoresTheNewest(t *testing.T) {
	bubble(t, api.Policy{}, func(r *rig) {
		r.begin(ActLaunch, RestoreOptions{})
		r.only().set(7)
		time.Sleep(2500 * time.Millisecond)
		r.only().exit(11)
		synctest.Wait()
		if got := r.only(); got.state != 7 {
			t.Errorf("state %d", got.state)
		}
		run := r.records().run
		if run.From != 3 || run.Recovery.Words != "restored from g3, lost at most 0.5 s" {
			t.Errorf("%+v %+v", run, run.Recovery)
		}
		if in := r.records().history.Incident; in == nil || len(in.Tries) != 1 {
			t.Fatalf("incident %+v", in)
		}
		time.Sleep(11 * time.Second)
		synctest.Wait()
		h := r.records().history
		if h.Incident != nil || verdict(h, 3) != api.Proven {
			t.Errorf("after probation: %+v", h)
		}
		out, err := os.ReadFile(r.w.dir + "/" + api.OutputName)
		if err != nil || string(out) != "wakepoint: restored from g3\n" {
			t.Errorf("output %q %v", out, err)
		}
	})
}

// A state that dies in its probation is bad with all its descendants, and the
// search gallops back to one that lives.
func TestGallopBack(t *testing.T) {
	bubble(t, api.Policy{}, func(r *rig) {
		r.begin(ActLaunch, RestoreOptions{})
		time.Sleep(7500 * time.Millisecond) // g1 .. g8
		for g := store.Generation(5); g <= 8; g++ {
			r.w.poison[g] = true
		}
		r.only().exit(11)
		synctest.Wait()
		time.Sleep(time.Second)
		run := r.records().run
		// g8 is 0.5 s old, g6 2.5 s, at most 2.5 times and 2 s more; then 7.5 s: g1.
		if run.State != api.Running || run.From != 1 || !run.Recovery.Older {
			t.Fatalf("%+v", run)
		}
		var tried []int
		for _, try := range r.records().history.Incident.Tries {
			tried = append(tried, int(try.Generation))
		}
		if d := cmp.Diff([]int{8, 6, 1}, tried); d != "" {
			t.Error(d)
		}
		if v := verdict(r.records().history, 8); v != api.Bad {
			t.Errorf("verdict %q", v)
		}
		r.only()
	})
}

func TestGivingUp(t *testing.T) {
	for _, giveUp := range []string{api.GiveUpStop, api.OnFresh} {
		bubble(t, api.Policy{GiveUp: giveUp}, func(r *rig) {
			r.begin(ActLaunch, RestoreOptions{})
			time.Sleep(2500 * time.Millisecond)
			for g := store.Generation(1); g <= 8; g++ {
				r.w.poison[g] = true
			}
			r.only().exit(11)
			synctest.Wait()
			if giveUp == api.OnFresh {
				if run := r.records().run; run.State != api.Running || run.From != 0 || r.only().state != 0 {
					t.Errorf("%+v", run)
				}
				return
			}
			if err := <-r.done; err != nil {
				t.Fatal(err)
			}
			r.wantState(api.Failed)
			if v := r.k.status(); v.ExitCode != 128+11 {
				t.Errorf("exit code %d", v.ExitCode)
			}
		})
	}
}

func TestOnCrashFresh(t *testing.T) {
	bubble(t, api.Policy{OnCrash: api.OnFresh}, func(r *rig) {
		r.begin(ActLaunch, RestoreOptions{})
		r.only().set(5)
		time.Sleep(2 * time.Second)
		for range 20 { // never a loop without an end
			l := r.w.living()
			if len(l) == 0 {
				break
			}
			l[0].exit(6)
			time.Sleep(70 * time.Second / 20)
			synctest.Wait()
		}
		if n := len(r.w.trace("restore")); n != 0 {
			t.Errorf("%d restores", n)
		}
	})
}

// Everything is killed, and comes back with the next keeper.
func TestPowerCut(t *testing.T) {
	bubble(t, api.Policy{}, func(r *rig) {
		r.begin(ActLaunch, RestoreOptions{})
		for i := range 12 {
			r.only().set(i + 1)
			time.Sleep(2500 * time.Millisecond)
			r.kill()
			r.w.vanish()
			r.begin(ActRecover, RestoreOptions{})
			if got := r.only(); got.state != i+1 {
				t.Fatalf("cut %d: state %d", i, got.state)
			}
			run := r.records().run
			gens := r.w.generations()
			if run.From != gens[len(gens)-1] || run.Recovery.Older {
				t.Fatalf("cut %d: from %v of %v", i, run.From, gens)
			}
		}
	})
}

// A keeper that dies leaves a tree that runs on; the next one takes it over.
func TestTakeOver(t *testing.T) {
	bubble(t, api.Policy{}, func(r *rig) {
		r.begin(ActLaunch, RestoreOptions{})
		time.Sleep(1500 * time.Millisecond)
		tr := r.only()
		r.kill()
		r.begin(ActRecover, RestoreOptions{})
		if r.only() != tr {
			t.Error("another tree")
		}
		time.Sleep(1500 * time.Millisecond)
		gens := r.w.generations()
		last := r.w.gens[gens[len(gens)-1]].info
		if len(gens) < 3 || last.Parent != last.Generation-1 {
			t.Errorf("%v, the last one's parent is %v", gens, last.Parent)
		}
	})
}

// What ended while nobody looked is judged by what its init recorded.
func TestEndWithoutAKeeper(t *testing.T) {
	for _, c := range []struct {
		wait uint32
		want api.State
	}{{0, api.Finished}, {1 << 8, api.Running}, {11, api.Running}, {9, api.Running}} {
		bubble(t, api.Policy{}, func(r *rig) {
			r.begin(ActLaunch, RestoreOptions{})
			time.Sleep(1500 * time.Millisecond)
			r.kill()
			r.only().exit(c.wait)
			r.begin(ActRecover, RestoreOptions{})
			r.wantState(c.want)
			if bad := r.records().history.Bad; len(bad) != 0 {
				t.Errorf("bad: %v", bad)
			}
		})
	}
}

// What is large is copied before the tree stands still.
func TestLargeFilesAreCopiedBeforeTheFreeze(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	const size = 8 << 20
	contents := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{}).Read(contents) // no two pieces are alike
	if err := os.WriteFile(dir+"/large", contents, 0o600); err != nil {
		t.Fatal(err)
	}
	past := time.Now().Add(-time.Hour)
	if err := os.Chtimes(dir+"/large", past, past); err != nil {
		t.Fatal(err)
	}
	bubble(t, api.Policy{EverySeconds: 1, Data: []string{dir}}, func(r *rig) {
		before := -1
		r.w.failWith(func(_ int, step string) error {
			if step == "freeze" && before < 0 {
				before = len(r.w.draft.g.pages[files.SectionName])
			}
			return nil
		})
		r.begin(ActLaunch, RestoreOptions{})
		r.only()
		if before < size/4096 {
			t.Errorf("%d pages were copied before the freeze, of %d", before, size/4096)
		}
	})
}
