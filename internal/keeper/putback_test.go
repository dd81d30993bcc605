package keeper

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/wakepoint/wakepoint/internal/api"
	"github.com/wakepoint/wakepoint/internal/store"
)

// What was cut while files were put back is put back again before anything
// runs, also where the policy is to start afresh: half of the files are of
// another instant.
func TestCutWhilePuttingBack(t *testing.T) {
	for _, half := range []store.Generation{0, 2} {
		bubble(t, api.Policy{OnCrash: api.OnFresh, GiveUp: api.OnFresh}, func(r *rig) {
			r.begin(ActLaunch, RestoreOptions{})
			time.Sleep(2500 * time.Millisecond) // g1 .. g3
			r.only().exit(0)
			synctest.Wait()
			if err := <-r.done; err != nil {
				t.Fatal(err)
			}
			run := r.records().run
			run.Wanted, run.State, run.PutBack = true, api.Restoring, half
			if err := putRecord(r.w, recordRun, run); err != nil {
				t.Fatal(err)
			}
			r.begin(ActRecover, RestoreOptions{})
			time.Sleep(100 * time.Millisecond)
			run = r.records().run
			if restored := run.From != 0; run.State != api.Running || restored != (half != 0) || run.PutBack != 0 {
				t.Errorf("half put back %v: %+v", half, run)
			}
		})
	}
}

// What a person puts back ends the incident for good: after a power cut the tries
// that were made before it do not count.
func TestRestoreEndsTheIncident(t *testing.T) {
	for _, runs := range []bool{true, false} {
		bubble(t, api.Policy{EverySeconds: 1}, func(r *rig) {
			r.begin(ActLaunch, RestoreOptions{})
			time.Sleep(2500 * time.Millisecond) // g1 .. g3
			r.only().exit(3 << 8)
			time.Sleep(500 * time.Millisecond)
			if r.records().history.Incident == nil {
				t.Fatal("a crash is no incident")
			}
			if runs {
				if e := r.ask(api.Request{Op: api.OpRestore, Generation: "g2"}).Error; e != nil {
					t.Fatal(e)
				}
			} else {
				r.kill()
				r.only().exit(9)
				r.begin(ActRestore, RestoreOptions{Generation: "g2"})
				time.Sleep(100 * time.Millisecond)
			}
			r.kill()
			if in := r.records().history.Incident; in != nil {
				t.Errorf("runs %v: %+v", runs, in)
			}
		})
	}
}

// What a command that died leaves behind is no state of it: a checkpoint that
// comes between its death and the news of it is none.
func TestDiedUnheard(t *testing.T) {
	bubble(t, api.Policy{}, func(r *rig) {
		r.begin(ActLaunch, RestoreOptions{})
		time.Sleep(2500 * time.Millisecond)
		died, before := r.only(), r.committed()
		r.w.failWith(func(_ int, step string) error {
			if step == "freeze" {
				died.commandEnd(11)
			}
			return nil
		})
		time.Sleep(700 * time.Millisecond)
		synctest.Wait()
		if from := r.records().run.From; len(r.w.trace("restore")) != 1 || int(from) != before {
			t.Errorf("brought back from %v of %d: %v", from, before, r.w.trace("restore"))
		}
	})
}
