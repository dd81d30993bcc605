package keeper

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wakepoint/wakepoint/internal/api"
	"github.com/wakepoint/wakepoint/internal/policy"
	"github.com/wakepoint/wakepoint/internal/store"
)

// witness sees every step of a recovery, and lets the keeper die at one.
type witness struct {
	r     *rig
	dies  int // at this step from now on; -1: never
	dead  bool
	noted bool // the history was written since the last try
	tries map[policy.Generation]int
	wrong []string
}

func (s *witness) see(_ int, step string) error {
	if s.dies--; s.dies == -1 {
		s.dead = true
		s.r.cancel()
	}
	if s.dead {
		return errFake
	}
	switch step {
	case "record history":
		s.noted = true
	case "restore", "start":
		var h policy.History
		if err := json.Unmarshal(s.r.w.records[recordHistory], &h); err != nil || h.Incident == nil || len(h.Incident.Tries) == 0 {
			s.wrong = append(s.wrong, step+" without a try")
			return nil
		}
		try := h.Incident.Tries[len(h.Incident.Tries)-1]
		if slices.Contains(h.Proven, try.Generation) {
			s.tries[try.Generation] = 0 // it lived; this is another crash
		}
		if s.tries[try.Generation]++; !s.noted || try.Fate != policy.Pending {
			s.wrong = append(s.wrong, fmt.Sprintf("%s that was not counted before: %+v", step, try))
		}
		if s.noted = false; slices.Contains(h.Bad, try.Generation) && step == "restore" {
			s.wrong = append(s.wrong, fmt.Sprintf("g%d is known to be bad", try.Generation))
		}
	}
	return nil
}

// Whatever is bad and wherever the keeper dies, alone or with everything, each
// try is counted before it is made, none is of what is known to be bad, no
// generation is tried more than thrice unless it lived, and recovery ends.
func TestRecoveryEnds(t *testing.T) {
	const histories = 60
	failed := 0
	for seed := range uint64(histories) {
		bubble(t, api.Policy{GiveUp: []string{api.GiveUpStop, api.OnFresh}[seed%2]}, func(r *rig) {
			rnd := rand.New(rand.NewPCG(seed, 7))
			s := &witness{r: r, dies: -1, tries: map[policy.Generation]int{}}
			r.begin(ActLaunch, RestoreOptions{})
			time.Sleep(time.Duration(rnd.IntN(20000)) * time.Millisecond)
			synctest.Wait()
			gens := r.w.generations()
			spoilt := gens[rnd.IntN(len(gens))]
			for g := store.Generation(1); g < 2000; g++ {
				r.w.poison[g] = g >= spoilt || rnd.IntN(8) == 0 // what comes later, too
			}
			r.w.damage[gens[rnd.IntN(len(gens))]] = rnd.IntN(2) == 0
			deaths := rnd.IntN(10)
			for n := range deaths + 1 {
				if s.dead, s.dies = false, rnd.IntN(40); n == deaths {
					s.dies = -1
				}
				r.w.failWith(s.see)
				if n == 0 {
					r.only().exit(11)
				} else {
					r.begin(ActRecover, RestoreOptions{})
				}
				time.Sleep(time.Duration(rnd.IntN(60)) * time.Second)
				synctest.Wait()
				if n < deaths {
					s.dies = 0
					r.kill()
					r.w.failWith(nil)
					if rnd.IntN(3) > 0 {
						r.w.vanish()
					}
				}
			}
			time.Sleep(20 * time.Minute)
			synctest.Wait()
			rec := r.records()
			switch {
			case rec.run.State == api.Failed && len(r.w.living()) == 0:
				failed++
			case rec.run.State == api.Running && rec.history.Incident == nil:
				r.only()
			default:
				t.Errorf("history %d: no end: %+v %+v", seed, rec.run, rec.history.Incident)
			}
			for g, n := range s.tries {
				if n > 3 && g != 0 {
					t.Errorf("history %d: g%d was tried %d times", seed, g, n)
				}
			}
			for _, w := range s.wrong {
				t.Errorf("history %d: %s", seed, w)
			}
		})
		if t.Failed() {
			return
		}
	}
	if failed == 0 || failed > histories/2 {
		t.Errorf("%d of %d gave up", failed, histories)
	}
}
