package keeper

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wakepoint/wakepoint/internal/api"
	"github.com/wakepoint/wakepoint/internal/policy"
	"github.com/wakepoint/wakepoint/internal/store"
)

func (w *world) Means() (policy.Means, error) { return policy.Means{Memory: 1 << 40}, nil }

func (w *world) rehearsals() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rehearsed
}

// Rehearse lets what is poisoned die after a second.
func (w *world) Rehearse(ctx context.Context, _ Site, _ string, i store.Info, length time.Duration) policy.Rehearsal {
	r := policy.Rehearsal{Generation: policy.Generation(i.Generation), Taken: taken(i), At: time.Now(), For: length, Lived: length, Fate: policy.Lived}
	w.mu.Lock()
	w.rehearsed++
	if w.onStage++; w.onStage > 1 {
		w.crowded = true
	}
	if w.poison[i.Generation] {
		r.Lived, r.Fate, r.Why = time.Second, policy.Died, "ended with SIGSEGV"
	}
	w.mu.Unlock()
	select {
	case <-time.After(r.Lived):
	case <-ctx.Done():
		r.Fate = policy.Refused
	}
	w.mu.Lock()
	w.onStage--
	w.mu.Unlock()
	return r
}

// What the search leapt over is rehearsed beside what lived, and the newest
// that lives is offered; what dies there is doubtful at most, since its own run
// may have lived on.
func TestOffersWhatLives(t *testing.T) {
	bubble(t, api.Policy{RehearseSeconds: 3600}, func(r *rig) {
		r.begin(ActLaunch, RestoreOptions{})
		time.Sleep(7500 * time.Millisecond) // g1 .. g8
		for g := store.Generation(5); g <= 8; g++ {
			r.w.poison[g] = true
		}
		r.only().exit(11)
		time.Sleep(5 * time.Minute) // g1 lives, and is kept
		if v := r.k.status(); v.RestoredFrom != "g1" || v.Offered != "g4" {
			t.Errorf("restored from %s, offered %q", v.RestoredFrom, v.Offered)
		}
		h := r.records().history
		if v := verdict(h, 4); v != api.Proven {
			t.Errorf("g4 is %s", v)
		}
		for _, g := range []store.Generation{5, 7} {
			if v := verdict(h, g); v == api.Proven {
				t.Errorf("%v is %s", g, v)
			}
		}
		if len(h.Rehearsals) == 0 || r.only().state != 0 && r.records().run.From != 1 {
			t.Errorf("%+v", h.Rehearsals)
		}
	})
}

// A keeper rehearses its newest generation now and then, unless it may not.
func TestRehearsesNowAndThen(t *testing.T) {
	for every, want := range map[float64][2]int{3600: {1, 1}, -1: {0, 0}, 60: {31, 31}, 1: {150, 186}} {
		bubble(t, api.Policy{RehearseSeconds: every}, func(r *rig) {
			r.begin(ActLaunch, RestoreOptions{})
			time.Sleep(31 * time.Minute)
			synctest.Wait()
			if n := r.w.rehearsals(); n < want[0] || n > want[1] {
				t.Errorf("every %v s: %d rehearsals in half an hour, not %v", every, n, want)
			}
			if r.w.crowded {
				t.Errorf("every %v s: two rehearsals at once", every)
			}
		})
	}
}
