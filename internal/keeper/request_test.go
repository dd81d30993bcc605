package keeper

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wakepoint/wakepoint/internal/api"
	"github.com/wakepoint/wakepoint/internal/engine"
)

func TestStopAndStart(t *testing.T) {
	bubble(t, api.Policy{}, func(r *rig) {
		r.begin(ActLaunch, RestoreOptions{})
		r.only().set(3)
		if e := r.ask(api.Request{Op: api.OpStop}).Error; e != nil {
			t.Fatal(e)
		}
		if err := <-r.done; err != nil {
			t.Fatal(err)
		}
		r.wantState(api.Stopped)
		if l := r.w.living(); len(l) != 0 {
			t.Fatalf("%d trees live", len(l))
		}
		r.begin(ActStart, RestoreOptions{})
		if got := r.only(); got.state != 3 {
			t.Errorf("state %d", got.state)
		}
		r.wantState(api.Running)
	})
}

func TestStopBySignal(t *testing.T) {
	for _, obeys := range []bool{true, false} {
		bubble(t, api.Policy{}, func(r *rig) {
			r.begin(ActLaunch, RestoreOptions{})
			tr := r.only()
			tr.set(3)
			r.w.mu.Lock()
			tr.onTerm = obeys
			r.w.mu.Unlock()
			if e := r.ask(api.Request{Op: api.OpStop, Signal: 15, TimeoutSeconds: 5}).Error; e != nil {
				t.Fatal(e)
			}
			<-r.done
			r.wantState(api.Stopped)
			r.begin(ActStart, RestoreOptions{})
			want := 3
			if obeys {
				want = 0 // it had ended by itself
			}
			if got := r.only(); got.state != want {
				t.Errorf("state %d, want %d", got.state, want)
			}
		})
	}
}

// A stop that cannot commit leaves the program running.
func TestStopThatCannotCommit(t *testing.T) {
	for _, step := range []string{"freeze", "dump", "commit", "committed", "record run", "kill", "begin", "section", "blob files"} {
		bubble(t, api.Policy{EverySeconds: 1000}, func(r *rig) {
			r.begin(ActLaunch, RestoreOptions{})
			r.w.failWith(func(_ int, s string) error {
				if s == step {
					return errFake
				}
				return nil
			})
			e := r.ask(api.Request{Op: api.OpStop}).Error
			if e == nil || !strings.Contains(e.Message, "injected") {
				t.Fatalf("%s: error %v", step, e)
			}
			r.w.failWith(nil)
			r.only()
			if v := r.k.status(); v.State != api.Running {
				t.Errorf("%s: state %v", step, v.State)
			}
			if e := r.ask(api.Request{Op: api.OpCheckpoint}).Error; e != nil {
				t.Errorf("%s: next checkpoint: %v", step, e)
			}
			if !r.records().run.Wanted {
				t.Errorf("%s: it would not be recovered", step)
			}
		})
	}
}

func TestRestoreAndUndo(t *testing.T) {
	bubble(t, api.Policy{}, func(r *rig) {
		r.begin(ActLaunch, RestoreOptions{})
		for i := range 4 {
			r.only().set(i + 1)
			time.Sleep(time.Second)
		}
		synctest.Wait()
		r.only().set(99)
		if e := r.ask(api.Request{Op: api.OpRestore, Generation: "g3"}).Error; e != nil {
			t.Fatal(e)
		}
		if got := r.only(); got.state != 2 {
			t.Errorf("state %d", got.state)
		}
		time.Sleep(1500 * time.Millisecond)
		gens := r.w.generations()
		last := r.w.gens[gens[len(gens)-1]].info
		if last.Parent != 3 {
			t.Errorf("parent of %v is %v", last.Generation, last.Parent)
		}
		if e := r.ask(api.Request{Op: api.OpRestore, Undo: true}).Error; e != nil {
			t.Fatal(e)
		}
		if got := r.only(); got.state != 99 {
			t.Errorf("state %d", got.state)
		}
		if e := r.ask(api.Request{Op: api.OpRestore, Generation: "g999"}).Error; e == nil || e.Code != api.CodeNotFound {
			t.Errorf("no such generation: %v", e)
		}
	})
}

// A restore that fails brings back what ran before.
func TestRestoreThatFails(t *testing.T) {
	bubble(t, api.Policy{}, func(r *rig) {
		r.begin(ActLaunch, RestoreOptions{})
		time.Sleep(1500 * time.Millisecond)
		r.only().set(99)
		r.w.refuse[1] = errors.New("port taken")
		e := r.ask(api.Request{Op: api.OpRestore, Generation: "g1"}).Error
		if e == nil || !strings.Contains(e.Message, "port taken") || !strings.Contains(e.Message, "is back") {
			t.Fatalf("error %v", e)
		}
		if got := r.only(); got.state != 99 {
			t.Errorf("state %d", got.state)
		}
		r.wantState(api.Running)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		r.only()
	})
}

// A generation that is damaged is passed over, and that is said.
func TestRecoverPastDamage(t *testing.T) {
	bubble(t, api.Policy{}, func(r *rig) {
		r.begin(ActLaunch, RestoreOptions{})
		time.Sleep(3500 * time.Millisecond)
		r.kill()
		r.w.vanish()
		r.w.damage[4] = true
		r.begin(ActRecover, RestoreOptions{})
		if run := r.records().run; run.From != 3 || !run.Recovery.Older {
			t.Errorf("%+v %+v", run, run.Recovery)
		}
	})
}

// What this host refuses now leaves the workload down, to be tried again.
func TestRecoverRefused(t *testing.T) {
	bubble(t, api.Policy{}, func(r *rig) {
		r.begin(ActLaunch, RestoreOptions{})
		time.Sleep(3500 * time.Millisecond)
		r.kill()
		r.w.vanish()
		r.w.refuse[4] = errors.New("port taken")
		r.begin(ActRecover, RestoreOptions{})
		<-r.done
		r.wantState(api.Down)
		if run := r.records().run; !run.Wanted || run.Error == nil {
			t.Errorf("%+v", run)
		}
		delete(r.w.refuse, 4)
		r.begin(ActRecover, RestoreOptions{})
		if run := r.records().run; run.From != 4 || run.Recovery.Older {
			t.Errorf("%+v", run)
		}
		r.only()
	})
}

func TestMissingCommand(t *testing.T) {
	bubble(t, api.Policy{}, func(r *rig) {
		if err := putRecord(r.w, recordSpec, api.Spec{Name: "web", Argv: []string{"/missing"}}); err != nil {
			t.Fatal(err)
		}
		r.begin(ActLaunch, RestoreOptions{})
		<-r.done
		if l := r.w.living(); len(l) != 0 {
			t.Errorf("%d trees", len(l))
		}
	})
}

// Whatever single step fails, nothing stands still, no two trees run, and the
// next checkpoint works.
func TestEveryStepFails(t *testing.T) {
	scenario := func(r *rig) {
		r.begin(ActLaunch, RestoreOptions{})
		time.Sleep(2500 * time.Millisecond)
		if l := r.w.living(); len(l) == 1 {
			l[0].exit(11)
		}
		time.Sleep(20 * time.Second)
		select {
		case <-r.k.released:
			return
		default:
		}
		r.ask(api.Request{Op: api.OpCheckpoint})
		select {
		case <-r.k.released:
		default:
			r.ask(api.Request{Op: api.OpRestore})
		}
		time.Sleep(5 * time.Second)
	}
	steps := 0
	bubble(t, api.Policy{}, func(r *rig) { scenario(r); steps = len(r.w.trace("")) })
	if steps < 60 {
		t.Fatalf("only %d steps", steps)
	}
	for n := range steps {
		name := ""
		bubble(t, api.Policy{}, func(r *rig) {
			base := len(r.w.trace(""))
			r.w.failWith(func(i int, s string) error {
				if i == base+n {
					name = s
					return fmt.Errorf("step %d %s: %w", n, s, errFake)
				}
				return nil
			})
			scenario(r)
			synctest.Wait()
			r.w.failWith(nil)
			l := r.w.living()
			if len(l) > 1 {
				t.Errorf("step %d (%s): %d trees", n, name, len(l))
			}
			for _, tr := range l {
				if tr.frozen || !tr.isRun {
					t.Errorf("step %d (%s): a tree stands still", n, name)
				}
			}
			if len(l) == 0 {
				if run := r.records().run; run.State == api.Running {
					t.Errorf("step %d (%s): nothing runs, and the record says %+v", n, name, run)
				}
			}
			select {
			case <-r.k.released:
				return
			default:
			}
			if e := r.ask(api.Request{Op: api.OpCheckpoint}).Error; e != nil {
				t.Errorf("step %d (%s): the next checkpoint: %v", n, name, e)
			}
		})
	}
}

func TestRefusedCheckpoint(t *testing.T) {
	bubble(t, api.Policy{}, func(r *rig) {
		r.w.failWith(func(_ int, s string) error {
			if s == "freeze" {
				return &engine.RefusedError{Obstacles: []engine.Obstacle{{PID: 7, What: "io_uring fd 7 cannot be saved", Hint: "do without"}}}
			}
			return nil
		})
		r.begin(ActLaunch, RestoreOptions{})
		v := r.k.status()
		if v.State != api.Running || v.LastError == nil || v.LastError.Code != api.CodeRefused || v.LastError.Hint != "do without" {
			t.Errorf("%+v", v)
		}
		r.only()
		r.w.failWith(nil)
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if v := r.k.status(); v.Generation == "" || v.LastError != nil {
			t.Errorf("%+v", v)
		}
	})
}
