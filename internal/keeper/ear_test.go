package keeper

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wakepoint/wakepoint/internal/api"
)

// says has the program speak, and the keeper hear it.
func (r *rig) says(lines string) {
	r.w.says(lines)
	synctest.Wait()
}

func (r *rig) committed() int { return len(r.w.trace("committed")) }

// A program that has spoken of its health once, and then is silent, has
// crashed; the time in which it stood still or said it is not counted.
func TestWatchdog(t *testing.T) {
	bubble(t, api.Policy{EverySeconds: 3600}, func(r *rig) {
		r.begin(ActLaunch, RestoreOptions{})
		time.Sleep(time.Hour)
		synctest.Wait()
		if len(r.w.trace("restore")) != 0 || r.k.status().WatchdogSeconds != 0 {
			t.Fatal("it was waited for before it spoke")
		}
		r.says("READY=1\nSTATUS=at work\nWATCHDOG_USEC=10000000\nWATCHDOG=1")
		if v := r.k.status(); !v.Ready || v.Says != "at work" || v.WatchdogSeconds != 10 {
			t.Errorf("%+v", v)
		}
		r.granted(api.Request{Op: api.OpCheckpoint})
		for range 20 {
			time.Sleep(9 * time.Second)
			r.says("WATCHDOG=1")
		}
		if n := len(r.w.trace("restore")); n != 0 {
			t.Fatalf("%d restores", n)
		}
		r.w.slow.Store(int64(15 * time.Second)) // commits beside it; it speaks on meanwhile
		r.w.says("WAKEPOINT=checkpoint")
		for range 5 {
			time.Sleep(5 * time.Second)
			r.w.says("WATCHDOG=1")
		}
		synctest.Wait()
		r.w.slow.Store(0)
		if n := len(r.w.trace("restore")); n != 0 {
			t.Fatalf("%d restores, though it spoke while its keeper was busy", n)
		}
		time.Sleep(9500 * time.Millisecond)
		synctest.Wait()
		if n := len(r.w.trace("restore")); n != 0 {
			t.Fatal("too soon")
		}
		time.Sleep(time.Second)
		synctest.Wait()
		run := r.records().run
		if n := len(r.w.trace("restore")); n != 1 || run.From == 0 || run.State != api.Running {
			t.Fatalf("%d restores, %+v", n, run)
		}
		// What comes back had spoken: it is waited for, and its probation too.
		time.Sleep(9 * time.Second)
		r.says("WATCHDOG=1")
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if n := len(r.w.trace("restore")); n < 2 {
			t.Errorf("%d restores: it was not waited for", n)
		}
	})
}

// With --watchdog it is waited for from the beginning; the next keeper waits
// only once it has heard something, since the program may be connected to the
// socket of the one before.
func TestWatchdogAsked(t *testing.T) {
	bubble(t, api.Policy{WatchdogSeconds: 30}, func(r *rig) {
		r.begin(ActLaunch, RestoreOptions{})
		if !slices.Contains(r.w.env, "WATCHDOG_USEC=30000000") || !slices.Contains(r.w.env, "NOTIFY_SOCKET=/run/wakepoint/web.notify") || !slices.Contains(r.w.env, "WAKEPOINT_SOCKET=/run/wakepoint/web.notify") {
			t.Errorf("environment: %q", r.w.env)
		}
		time.Sleep(20 * time.Second)
		r.kill()
		r.begin(ActRecover, RestoreOptions{})
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := len(r.w.trace("restore")); n != 0 {
			t.Fatal("the next keeper waits for a program that it never heard")
		}
		r.says("WATCHDOG=1")
		time.Sleep(31 * time.Second)
		synctest.Wait()
		if n := len(r.w.trace("restore")); n != 1 {
			t.Errorf("%d restores", n)
		}
		none := 0.0
		r.granted(api.Request{Op: api.OpSet, Change: &api.PolicyChange{WatchdogSeconds: &none}})
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if n := len(r.w.trace("restore")); n != 1 {
			t.Errorf("%d restores, and nobody asks any more", n)
		}
	})
}

// A keeper that goes on with the socket of the one before hears what is
// connected to it: it waits for it from the beginning, and as long as it said
// by the newest generation.
func TestWatchdogHandedOver(t *testing.T) {
	bubble(t, api.Policy{EverySeconds: 5}, func(r *rig) {
		r.begin(ActLaunch, RestoreOptions{})
		r.says("WATCHDOG_USEC=60000000\nWATCHDOG=1")
		time.Sleep(20 * time.Second)
		r.kill()
		r.w.resumes = true
		r.begin(ActRecover, RestoreOptions{})
		time.Sleep(55 * time.Second)
		synctest.Wait()
		if n := len(r.w.trace("restore")); n != 0 {
			t.Fatal("the next keeper does not wait as long as it may be silent")
		}
		time.Sleep(6 * time.Second)
		synctest.Wait()
		if n := len(r.w.trace("restore")); n != 1 {
			t.Errorf("%d restores", n)
		}
	})
}

// A restored program that speaks of its health outlives its probation only
// when it has done so.
func TestWellByItsOwnWord(t *testing.T) {
	bubble(t, api.Policy{}, func(r *rig) {
		r.begin(ActLaunch, RestoreOptions{})
		r.says("WATCHDOG_USEC=60000000\nWATCHDOG=1")
		time.Sleep(5 * time.Second)
		r.says("WATCHDOG=trigger")
		if run := r.records().run; run.From == 0 {
			t.Fatalf("%+v", run)
		}
		time.Sleep(30 * time.Second)
		synctest.Wait()
		if r.records().history.Incident == nil {
			t.Error("it lived, and never said that it is well")
		}
		r.says("WATCHDOG=1")
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if in := r.records().history.Incident; in != nil {
			t.Errorf("%+v", in)
		}
	})
}

// A checkpoint is taken when the program wants one, and none by the clock while
// it holds, for a minute.
func TestHold(t *testing.T) {
	bubble(t, api.Policy{}, func(r *rig) {
		r.begin(ActLaunch, RestoreOptions{})
		time.Sleep(2500 * time.Millisecond)
		r.says("WAKEPOINT=hold")
		n := r.committed()
		time.Sleep(30 * time.Second)
		r.says("WAKEPOINT=hold") // makes it no longer
		if r.committed() != n || r.k.status().HeldSince == nil {
			t.Errorf("%d were taken", r.committed()-n)
		}
		r.granted(api.Request{Op: api.OpCheckpoint}) // a person's word counts more
		r.says("WAKEPOINT=checkpoint")               // and its own
		time.Sleep(10 * time.Millisecond)
		synctest.Wait()
		if got := r.committed() - n; got != 2 {
			t.Errorf("%d were taken that were asked for", got)
		}
		r.says("WAKEPOINT=hold")
		n = r.committed()
		time.Sleep(58 * time.Second)
		if r.committed() != n {
			t.Errorf("%d were taken", r.committed()-n)
		}
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if got := r.committed() - n; got < 1 || got > 3 || r.k.status().HeldSince != nil {
			t.Errorf("%d after a minute", got)
		}
		r.says("WAKEPOINT=hold")
		n = r.committed()
		time.Sleep(5 * time.Second)
		r.says("WAKEPOINT=go")
		if r.committed() != n+1 {
			t.Error("it goes, and none is taken")
		}
	})
}

// It may ask as often as it likes: half of the time is its own.
func TestAskedAllTheTime(t *testing.T) {
	bubble(t, api.Policy{EverySeconds: 3600}, func(r *rig) {
		r.w.slow.Store(int64(100 * time.Millisecond))
		r.begin(ActLaunch, RestoreOptions{})
		n := r.committed()
		for range 10000 {
			r.w.says("WAKEPOINT=checkpoint")
			time.Sleep(time.Millisecond)
		}
		synctest.Wait()
		if got := r.committed() - n; got < 45 || got > 51 {
			t.Errorf("%d in ten seconds, each of which takes 0.1 s", got)
		}
		time.Sleep(time.Second) // nothing is under way at the end
	})
}

// A program that says that it ends, and does so with code 0, has ended, whatever
// its end means otherwise.
func TestStopping(t *testing.T) {
	for _, says := range []string{"", "STOPPING=1"} {
		bubble(t, api.Policy{OnExit: api.OnRestore}, func(r *rig) {
			r.begin(ActLaunch, RestoreOptions{})
			time.Sleep(1500 * time.Millisecond)
			r.w.says(says) // its last words: nobody has heard them yet
			r.only().exit(0)
			synctest.Wait()
			if want := map[string]api.State{"": api.Running, "STOPPING=1": api.Finished}[says]; r.records().run.State != want {
				t.Errorf("after %q: %s", says, r.records().run.State)
			}
		})
	}
	bubble(t, api.Policy{}, func(r *rig) {
		r.begin(ActLaunch, RestoreOptions{})
		r.says("STOPPING=1")
		r.only().exit(1 << 8)
		synctest.Wait()
		r.wantState(api.Running)
	})
}

// A program that keeps its own state is never rolled back from then on, also
// when that was its last word, and by no keeper and after no power cut.
func TestDurable(t *testing.T) {
	bubble(t, api.Policy{}, func(r *rig) {
		r.begin(ActLaunch, RestoreOptions{})
		time.Sleep(2500 * time.Millisecond)
		r.w.says("WAKEPOINT=durable")
		r.only().exit(11)
		synctest.Wait()
		if rec := r.records(); !rec.policy.Durable || rec.run.From != 0 || rec.run.State != api.Running || rec.run.Recovery.Words != "started afresh" {
			t.Errorf("%+v", rec.run)
		}
		time.Sleep(2500 * time.Millisecond)
		r.kill()
		r.w.vanish()
		r.begin(ActRecover, RestoreOptions{})
		r.only()
		time.Sleep(2500 * time.Millisecond)
		if n := len(r.w.trace("restore")); n != 0 {
			t.Errorf("%d restores", n)
		}
		// One that has its files is not put back; one that was made since is.
		if e := r.ask(api.Request{Op: api.OpRestore, Generation: "g1"}).Error; e == nil || !strings.Contains(e.Message, "keeps its own state") || !strings.Contains(e.Hint, "--files rollback") {
			t.Errorf("g1: %v", e)
		}
		r.only()
		newest := slices.Max(r.w.generations())
		r.granted(api.Request{Op: api.OpRestore, Generation: newest.String()})
		if run := r.records().run; run.From != newest {
			t.Errorf("%+v", run)
		}
		rollback := api.FilesRollback
		r.granted(api.Request{Op: api.OpSet, Change: &api.PolicyChange{Files: &rollback}})
		r.granted(api.Request{Op: api.OpRestore, Generation: "g1"})
		if r.records().policy.Durable {
			t.Error("a person has said otherwise")
		}
	})
}

// The address of another supervisor does not reach the program.
func TestEnvironment(t *testing.T) {
	k := &keeper{spoken: spoken{ear: &fakeEar{}}}
	k.rec.spec.Env = []string{"A=1", "NOTIFY_SOCKET=/run/systemd/notify", "WATCHDOG_USEC=1", "WATCHDOG_PID=1", "WAKEPOINT_SOCKET=", "NOTIFY_SOCKETS=x"}
	want := []string{"A=1", "NOTIFY_SOCKETS=x", "NOTIFY_SOCKET=/run/wakepoint/web.notify", "WAKEPOINT_SOCKET=/run/wakepoint/web.notify"}
	if got := k.environment(); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if len(k.rec.spec.Env) != 6 {
		t.Error("the spec has changed")
	}
}

// The command's last words count, and soon after nobody's who has its number.
func TestOurs(t *testing.T) {
	bubble(t, api.Policy{}, func(r *rig) {
		r.begin(ActLaunch, RestoreOptions{})
		tr, ours := r.only(), r.w.ear.ours
		command := int(tr.handle.Command)
		if !ours(command) || !ours(childPID) || ours(command+1) || ours(0) {
			t.Error("while it runs")
		}
		r.w.mu.Lock()
		tr.commandEnd(0) // what it leaves behind goes on
		r.w.mu.Unlock()
		if !ours(command) {
			t.Error("its last words are not heard")
		}
		time.Sleep(2 * time.Second)
		if ours(command) || !ours(childPID) {
			t.Error("later")
		}
		tr.exit(0)
		synctest.Wait()
		if r.w.ear.ours != nil {
			t.Error("somebody counts when nothing runs")
		}
	})
}
