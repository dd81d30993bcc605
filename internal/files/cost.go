package files

import (
	"cmp"
	"path/filepath"
	"slices"
	"time"
)

// costsMax bounds the costs that are told.
const costsMax = 5

// costMin is the least that is told of.
const costMin = time.Millisecond

// Cost is what a file has taken of a freeze, because it was read or cloned, or
// a tree, because its names were looked at.
type Cost struct {
	Path  string
	Size  int64 // of a file, bytes
	Files int   // of a tree, names; 0: it is a file
	Spent time.Duration
}

// Costs is how long Take took, and what most of that was spent on, the largest
// first.
func (c *Capture) Costs() (whole time.Duration, most []Cost) {
	slices.SortFunc(c.costs, func(a, b Cost) int { return cmp.Compare(b.Spent, a.Spent) })
	return c.spent, c.costs[:min(len(c.costs), costsMax)]
}

// cost notes what has been spent on something since.
func (c *Capture) cost(k Cost, since time.Time) {
	k.Spent += time.Since(since)
	if k.Files == 0 {
		c.reading += k.Spent
	}
	if k.Spent >= costMin {
		c.costs = append(c.costs, k)
	}
}

// Clones says whether the file system of a file has reflinks, so that its
// contents need not be read in a freeze.
func Clones(path string) bool {
	f, err := open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	k := cloned(f, filepath.Dir(path))
	if k != nil {
		k.Close()
	}
	return k != nil
}
