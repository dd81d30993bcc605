package keeper

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wakepoint/wakepoint/internal/api"
	"github.com/wakepoint/wakepoint/internal/store"
)

// A program that hangs is not well: it is ended, and what comes back is a
// generation that is.
func TestHealth(t *testing.T) {
	bubble(t, api.Policy{Health: "exec:is it well"}, func(r *rig) {
		var mu sync.Mutex
		ill := map[store.Generation]bool{}
		r.w.ill = func() error { // what runs is asked
			mu.Lock()
			defer mu.Unlock()
			if ill[r.records().run.From] {
				return errors.New("no answer in time")
			}
			return nil
		}
		r.begin(ActLaunch, RestoreOptions{})
		time.Sleep(5500 * time.Millisecond)
		if h := r.k.status().Health; h != "well" {
			t.Errorf("health %q", h)
		}
		mu.Lock()
		ill[0] = true // what runs, and what comes of the newest generations
		for g := store.Generation(6); g < 20; g++ {
			ill[g] = true
		}
		mu.Unlock()
		time.Sleep(3 * time.Minute)
		synctest.Wait()
		run := r.records().run
		if run.State != api.Running || run.From == 0 || ill[run.From] {
			t.Fatalf("%+v", run)
		}
		if v := r.records().history; v.Incident != nil || verdict(v, run.From) != api.Proven {
			t.Errorf("after probation: %+v", v)
		}
		why := ""
		for _, try := range r.records().history.Past[0].Tries {
			why += try.Why + "; "
		}
		if !strings.Contains(why, "failed") || !strings.Contains(why, "no answer in time") {
			t.Errorf("why: %q", why)
		}
		r.only()
	})
}
