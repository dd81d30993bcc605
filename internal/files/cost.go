package files

import (
	"cmp"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
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

// readRate is how long it takes to read a GiB.
const readRate = 200 * time.Millisecond

// Slow names those of the files of a running tree that would be read in a
// freeze whenever they have changed, the largest first, and how long that takes:
// what is open for writing, or mapped, where it cannot be cloned. To others is
// only appended.
func Slow(list []Open) []Cost {
	rewritten := map[[2]uint64]bool{}
	for _, o := range list {
		if id, _ := sizeOf(o.File); o.Mapped || !o.Append {
			rewritten[id] = true
		}
	}
	var slow []Cost
	for _, o := range list {
		id, size := sizeOf(o.File)
		if !rewritten[id] || size == 0 || Clones(o.Path) {
			continue
		}
		delete(rewritten, id)
		slow = append(slow, Cost{Path: o.Path, Size: size, Spent: time.Duration(float64(size) / (1 << 30) * float64(readRate))})
	}
	slices.SortFunc(slow, func(a, b Cost) int { return cmp.Compare(b.Size, a.Size) })
	return slow
}

// sizeOf is what tells files apart, and a file's size.
func sizeOf(f *os.File) (id [2]uint64, size int64) {
	var st unix.Stat_t
	if unix.Fstat(int(f.Fd()), &st) != nil {
		return id, 0
	}
	return [2]uint64{uint64(st.Dev), st.Ino}, st.Size
}
