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
