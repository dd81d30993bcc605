package keeper

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wakepoint/wakepoint/internal/api"
)

// A scrub that finds nothing changes nothing. One that finds damage in the
// newest generation has the next one store everything anew, once, and says so.
func TestScrub(t *testing.T) {
	bubble(t, api.Policy{EverySeconds: 60}, func(r *rig) {
		r.begin(ActLaunch, RestoreOptions{})
		time.Sleep(scrubFirst + time.Minute)
		synctest.Wait()
		r.w.mu.Lock()
		scrubs, whole := r.w.scrubs, r.w.whole
		r.w.mu.Unlock()
		if scrubs != 1 || whole != 1 {
			t.Fatalf("%d scrubs, %d generations stored whole", scrubs, whole)
		}
		time.Sleep(scrubEvery - 2*time.Minute)
		synctest.Wait()
		r.w.mu.Lock()
		r.w.damage[r.k.parent] = true
		r.w.mu.Unlock()
		r.k.due.Reset(time.Hour) // the scrub comes before the next generation
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		r.w.mu.Lock()
		clear(r.w.damage)
		r.w.mu.Unlock()
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		r.w.mu.Lock()
		scrubs, whole = r.w.scrubs, r.w.whole
		r.w.mu.Unlock()
		if scrubs != 2 || whole != 2 {
			t.Errorf("%d scrubs, %d generations stored whole", scrubs, whole)
		}
		if notes := r.k.status().Notes; len(notes) != 1 || !strings.Contains(notes[0], "damage was found") {
			t.Errorf("notes %q", notes)
		}
	})
}

// A scrub that goes on ends before the keeper lets go of the workload: it holds
// generations, which could not be removed.
func TestScrubEnds(t *testing.T) {
	bubble(t, api.Policy{EverySeconds: 60}, func(r *rig) {
		r.w.lasting = true
		r.begin(ActLaunch, RestoreOptions{})
		time.Sleep(scrubFirst + time.Minute)
		synctest.Wait()
		if e := r.ask(api.Request{Op: api.OpStop}).Error; e != nil {
			t.Fatal(e)
		}
		r.w.mu.Lock()
		defer r.w.mu.Unlock()
		if !r.w.ended {
			t.Error("it goes on")
		}
	})
}
