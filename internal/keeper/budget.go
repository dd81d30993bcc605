package keeper

import (
	"cmp"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

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

// slowMax bounds the files that are named.
const slowMax = 5

// readRate is how long it takes to read a byte, in seconds: 0.2 s for a GiB.
const readRate = 0.2 / (1 << 30)

// SlowFiles names the files of a running tree that would be read while it
// stands still whenever they have changed: those that are open for writing where
// they cannot be cloned. It says nothing as long as that takes no longer than a
// program may stand still where nobody says otherwise.
func SlowFiles(h engine.Handle) ([]api.SlowFile, error) {
	list, err := written(h)
	if err != nil {
		return nil, err
	}
	defer files.CloseAll(list)
	rewritten := map[[2]uint64]bool{} // to others is only appended
	for _, o := range list {
		if id, _ := idOf(o.File); o.Mapped || !o.Append {
			rewritten[id] = true
		}
	}
	var slow []api.SlowFile
	whole := 0.0
	for _, o := range list {
		id, size := idOf(o.File)
		took := float64(size) * readRate
		if !rewritten[id] || size == 0 || files.Clones(o.Path) {
			continue
		}
		delete(rewritten, id)
		slow = append(slow, api.SlowFile{Path: o.Path, SizeBytes: size, Seconds: took})
		whole += took
	}
	if whole <= policy.PauseBudget.Seconds() {
		return nil, nil
	}
	slices.SortFunc(slow, func(a, b api.SlowFile) int { return cmp.Compare(b.SizeBytes, a.SizeBytes) })
	return slow[:min(len(slow), slowMax)], nil
}

// idOf is what tells files apart, and a file's size.
func idOf(f *os.File) (id [2]uint64, size int64) {
	var st unix.Stat_t
	if unix.Fstat(int(f.Fd()), &st) != nil {
		return id, 0
	}
	return [2]uint64{uint64(st.Dev), st.Ino}, st.Size
}
