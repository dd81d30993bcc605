package keeper

import (
	"context"
	"fmt"
	"time"

	"github.com/wakepoint/wakepoint/internal/health"
	"github.com/wakepoint/wakepoint/internal/policy"
)

const (
	checkEvery = 2 * time.Second // from an answer to the next question
	checkTime  = 2 * time.Second // in which it must be answered
)

// answer is what a health check said.
type answer struct {
	at  time.Time
	err error // nil: well
}

// startChecks begins to ask whether the program is well, if its policy says
// how.
func (k *keeper) startChecks() {
	k.endChecks()
	k.pulse = policy.Pulse{Since: time.Now(), Fresh: k.rec.run.From == 0}
	k.setHealth("")
	c, err := health.Parse(k.rec.policy.Health)
	if err != nil || k.rec.policy.Health == "" || k.tree == nil {
		return
	}
	k.setHealth("not well yet")
	ctx, cancel := context.WithCancel(context.Background())
	done, dir := make(chan struct{}), k.rec.spec.Dir
	k.endChecks = func() { cancel(); <-done }
	go func() {
		defer close(done)
		for {
			select {
			case <-ctx.Done():
				return
			case <-time.After(checkEvery):
			}
			bounded, end := context.WithTimeout(ctx, checkTime)
			err := k.m.Ask(bounded, c.In(dir))
			end()
			select {
			case <-ctx.Done():
				return
			case k.answers <- answer{time.Now(), err}:
			}
		}
	}()
}

// checked says whether health checks are made.
func (k *keeper) checked() bool { return k.rec.policy.Health != "" }

func (k *keeper) setHealth(words string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.view.Health = words
}

// answered notes an answer. A program that is ill has crashed.
func (k *keeper) answered(ctx context.Context, a answer) error {
	var ill bool
	k.pulse, ill = k.pulse.Answer(a.at, a.err == nil)
	switch {
	case a.err == nil:
		k.setHealth("well")
	case k.pulse.Well || ill:
		k.setHealth(a.err.Error())
	default:
		k.setHealth("not well yet: " + a.err.Error())
	}
	if !ill {
		return nil
	}
	k.rec.run.Ended = false
	return k.crashed(ctx, policy.End{Known: true, Code: 1}, time.Now(), fmt.Sprintf("failed %d health checks: %v", k.pulse.Failed, a.err))
}
