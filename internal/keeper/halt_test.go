package keeper

import (
	"context"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wakepoint/wakepoint/internal/api"
)

// machineStops says that the machine goes down.
func (r *rig) machineStops(yes bool) {
	r.w.mu.Lock()
	defer r.w.mu.Unlock()
	r.w.goingDown = yes
}

// backAt boots again, and wants the program back in a state.
func (r *rig) backAt(state int) {
	r.Helper()
	r.w.vanish()
	r.machineStops(false)
	if run := r.records().run; !run.Wanted {
		r.Fatalf("it is not to come back: %+v", run)
	}
	r.begin(ActRecover, RestoreOptions{})
	if got := r.only(); got.state != state {
		r.Fatalf("it came back at %d, not %d", got.state, state)
	}
}

// What is halted with its machine is taken as it stands, and comes back there
// without anything lost; databases, too.
func TestHalt(t *testing.T) {
	for _, p := range []api.Policy{{EverySeconds: 3600}, {EverySeconds: 3600, OnCrash: api.OnFresh}} {
		bubble(t, p, func(r *rig) {
			r.begin(ActLaunch, RestoreOptions{})
			r.only().set(7)
			time.Sleep(time.Minute)
			if e := r.ask(api.Request{Op: api.OpHalt}).Error; e != nil {
				t.Fatal(e)
			}
			<-r.done
			if l := r.w.living(); len(l) != 0 {
				t.Fatal("it runs on")
			}
			r.wantState(api.Down)
			r.backAt(7)
			if v := r.k.status(); v.Incident != nil || v.Recovery.LostWorkSeconds != 0 || v.Recovery.Words != "restored from g2" {
				t.Errorf("%+v", v.Recovery)
			}
			if r.records().run.Frozen {
				t.Error("it runs, and counts as halted")
			}
		})
	}
}

// What cannot be committed runs on when its unit is stopped, and ends with the
// machine as in a power cut.
func TestHaltWithoutCheckpoint(t *testing.T) {
	for _, goingDown := range []bool{false, true} {
		bubble(t, api.Policy{EverySeconds: 3600}, func(r *rig) {
			r.begin(ActLaunch, RestoreOptions{})
			r.only().set(7)
			if e := r.ask(api.Request{Op: api.OpCheckpoint}).Error; e != nil {
				t.Fatal(e)
			}
			r.only().set(8)
			r.w.failWith(func(_ int, s string) error {
				if s == "commit" {
					return syscall.ENOSPC
				}
				return nil
			})
			if r.ask(api.Request{Op: api.OpHalt, GoingDown: goingDown}).Error == nil {
				t.Fatal("no error")
			}
			r.w.failWith(nil)
			if !goingDown {
				if got := r.only(); got.state != 8 {
					t.Fatalf("state %d", got.state)
				}
				r.wantState(api.Running)
				return
			}
			<-r.done
			if l := r.w.living(); len(l) != 0 {
				t.Fatal("it runs on")
			}
			r.backAt(7)
		})
	}
}

// A program that ends because its machine goes down has not finished, whatever
// it ends with and whoever sees it.
func TestEndsWithMachine(t *testing.T) {
	for _, wait := range []uint32{0, uint32(syscall.SIGTERM), uint32(syscall.SIGKILL), 143 << 8} {
		bubble(t, api.Policy{EverySeconds: 3600}, func(r *rig) {
			r.begin(ActLaunch, RestoreOptions{})
			r.only().set(7)
			if e := r.ask(api.Request{Op: api.OpCheckpoint}).Error; e != nil {
				t.Fatal(e)
			}
			r.machineStops(true)
			r.only().exit(wait)
			<-r.done
			if l := r.w.living(); len(l) != 0 {
				t.Fatalf("%#x: it was brought back on a machine that goes down", wait)
			}
			r.backAt(7)
		})
	}
}

// So has what a daemon left behind, whose command ended cleanly long ago.
func TestDaemonEndsWithMachine(t *testing.T) {
	bubble(t, api.Policy{EverySeconds: 3600}, func(r *rig) {
		r.begin(ActLaunch, RestoreOptions{})
		tree := r.only()
		tree.set(7)
		r.w.mu.Lock()
		tree.commandEnd(0)
		r.w.mu.Unlock()
		time.Sleep(time.Second)
		if e := r.ask(api.Request{Op: api.OpCheckpoint}).Error; e != nil {
			t.Fatal(e)
		}
		r.machineStops(true)
		tree.exit(0)
		<-r.done
		r.backAt(7)
	})
}

// A keeper that is told to leave by a machine that goes down halts; by
// anybody else, it leaves the program running.
func TestToldToLeave(t *testing.T) {
	for _, goingDown := range []bool{false, true} {
		bubble(t, api.Policy{EverySeconds: 3600}, func(r *rig) {
			r.begin(ActLaunch, RestoreOptions{})
			r.only().set(7)
			r.machineStops(goingDown)
			r.cancel()
			<-r.done
			if runs := len(r.w.living()) == 1; runs == goingDown {
				t.Fatalf("going down %v, runs %v", goingDown, runs)
			}
			if goingDown {
				r.backAt(7)
			}
		})
	}
}

// A halt that was cut short leaves a program that runs, and is taken over as
// one that nobody halted.
func TestHaltCutShort(t *testing.T) {
	bubble(t, api.Policy{EverySeconds: 3600}, func(r *rig) {
		r.begin(ActLaunch, RestoreOptions{})
		r.only().set(7)
		run := r.records().run
		r.kill()
		run.State, run.Frozen = api.Down, true
		if err := putRecord(r.w, recordRun, run); err != nil {
			t.Fatal(err)
		}
		r.begin(ActRecover, RestoreOptions{})
		if got := r.only(); got.state != 7 {
			t.Errorf("state %d", got.state)
		}
		if run := r.records().run; run.Frozen || run.State != api.Running {
			t.Errorf("%+v", run)
		}
	})
}

// Halting what is being brought back leaves it to be brought back.
func TestHaltBetweenTries(t *testing.T) {
	bubble(t, api.Policy{EverySeconds: 3600}, func(r *rig) {
		r.begin(ActLaunch, RestoreOptions{})
		r.only().set(7)
		if e := r.ask(api.Request{Op: api.OpCheckpoint}).Error; e != nil {
			t.Fatal(e)
		}
		r.w.failWith(func(_ int, s string) error {
			if s == "restore" {
				return syscall.EADDRINUSE
			}
			return nil
		})
		r.only().exit(uint32(syscall.SIGSEGV))
		synctest.Wait()
		if e := r.ask(api.Request{Op: api.OpHalt}).Error; e != nil {
			t.Fatal(e)
		}
		if err := <-r.done; err != nil && err != errLeave && err != context.Canceled {
			t.Error(err)
		}
		r.w.failWith(nil)
		r.backAt(7)
	})
}
