package keeper

import (
	"time"

	"github.com/wakepoint/wakepoint/internal/api"
	"github.com/wakepoint/wakepoint/internal/engine"
	"github.com/wakepoint/wakepoint/internal/files"
	"github.com/wakepoint/wakepoint/internal/policy"
)

// pauseBudget is how long a program may stand still for its files.
func pauseBudget(p api.Policy) time.Duration {
	if p.PauseBudgetSeconds == 0 {
		return policy.PauseBudget
	}
	return seconds(p.PauseBudgetSeconds)
}

// paused notes how long the program stands still for its files, and for which
// when that is too long.
func (k *keeper) paused(whole time.Duration, most []files.Cost) {
	k.stood = policy.Pause{Spent: whole, Budget: pauseBudget(k.rec.policy)}
	var slow []api.SlowFile
	if k.stood.Spent > k.stood.Budget {
		for _, c := range most {
			slow = append(slow, api.SlowFile{Path: c.Path, SizeBytes: c.Size, Files: c.Files, Seconds: c.Spent.Seconds()})
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.view.FilesPauseSeconds, k.view.SlowFiles = whole.Seconds(), slow
}

// SlowFiles names the files of a running tree that would be read while it
// stands still whenever they have changed. It says nothing as long as that takes
// no longer than a program may stand still where nobody says otherwise.
func SlowFiles(h engine.Handle) ([]api.SlowFile, error) {
	list, err := written(h)
	if err != nil {
		return nil, err
	}
	defer files.CloseAll(list)
	var slow []api.SlowFile
	whole := time.Duration(0)
	for _, c := range files.Slow(list) {
		slow = append(slow, api.SlowFile{Path: c.Path, SizeBytes: c.Size, Seconds: c.Spent.Seconds()})
		whole += c.Spent
	}
	if whole <= policy.PauseBudget {
		return nil, nil
	}
	return slow[:min(len(slow), slowMax)], nil
}

// slowMax bounds the files that are named.
const slowMax = 5
