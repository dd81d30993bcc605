package crashfs

import (
	"maps"
	"math/rand/v2"
	"slices"
)

// What a cut leaves of that which was not synced:
//
//   - of the sectors of a file, each one as it was or as it is to be; of a
//     file that has grown, any size up to the new one, and zeros;
//   - of the changes of names, any set that a journal may have written:
//     none without an earlier one of the same name, no rename without
//     an earlier one in its directory, no removal of a directory without the
//     changes in it.
//
// A seed says which. The first ones are the extremes, in which most mistakes
// show; the others are drawn.
const (
	LoseAll   = 0 // nothing that was not synced
	KeepAll   = 1 // everything
	KeepNames = 2 // all names, and no contents
	KeepBytes = 3 // all contents, and no names
	KeepSizes = 4 // all names and sizes, and zeros
	Drawn     = 5 // from here on
)

// cut decides what survives.
type cut struct {
	*rand.Rand
	names, bytes, sizes share
}

// share is how much of something survives.
type share int

const (
	none share = iota
	all
	prefix
	some
)

func newCut(seed uint64) *cut {
	c := &cut{Rand: rand.New(rand.NewPCG(seed, 0x6372617368))}
	switch seed {
	case LoseAll:
	case KeepAll:
		c.names, c.bytes, c.sizes = all, all, all
	case KeepNames:
		c.names = all
	case KeepBytes:
		c.bytes, c.sizes = all, all
	case KeepSizes:
		c.names, c.sizes = all, all
	default:
		c.names = []share{all, prefix, some, some}[c.IntN(4)]
		c.bytes = []share{none, all, some, some}[c.IntN(4)]
		c.sizes = []share{none, all, some}[c.IntN(3)]
	}
	return c
}

// Crash returns the disk as it is after the power was cut now, as the seed
// says. This disk stays as it is, so that it can be cut again. The new one has
// no watcher, no locks, and room without end.
func (f *FS) Crash(seed uint64) *FS {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := newCut(seed)
	kept := map[*inode]map[string]*inode{}
	names := func(d *inode) map[string]*inode {
		if kept[d] == nil {
			kept[d] = maps.Clone(d.kept)
		}
		return kept[d]
	}
	for _, p := range c.changes(f.pending) {
		p.apply(names)
	}
	n := New()
	n.root = c.copy(f.root, names, map[*inode]*inode{})
	return n
}

// changes chooses the changes of names that survive, oldest first.
func (c *cut) changes(pending []*change) []*change {
	switch c.names {
	case none:
		return nil
	case all:
		return pending
	case prefix:
		return pending[:c.IntN(len(pending)+1)]
	}
	keep := map[*change]bool{}
	for _, p := range slices.Backward(pending) {
		if keep[p] = keep[p] || c.IntN(2) == 0; keep[p] {
			for _, b := range p.before {
				keep[b] = true
			}
		}
	}
	return slices.DeleteFunc(slices.Clone(pending), func(p *change) bool { return !keep[p] })
}

// copy copies what can be reached.
func (c *cut) copy(in *inode, names func(*inode) map[string]*inode, done map[*inode]*inode) *inode {
	if n := done[in]; n != nil {
		return n
	}
	if !in.dir {
		n := newFile()
		n.body = c.contents(&in.body)
		done[in] = n
		return n
	}
	n := newDir()
	done[in] = n
	for _, base := range slices.Sorted(maps.Keys(names(in))) {
		below := c.copy(names(in)[base], names, done)
		n.names[base], n.kept[base] = below, below
	}
	return n
}

// contents chooses what a file holds.
func (c *cut) contents(b *body) body {
	old, size := b.diskSize, b.size
	if b.clean() {
		return solid(old, b.durable())
	}
	switch {
	case c.sizes == none:
		size = old
	case c.sizes == some && size > old:
		size = min(size, old+c.Int64N(2+(size-old)/Sector)*Sector)
	case c.sizes == some && c.IntN(2) == 0:
		size = old
	}
	left := b.durable()
	for i := range left {
		p := &b.pieces[i]
		if sectors := p.open(); sectors != 0 && (p.data != nil || p.disk != nil) {
			left[i] = mix(p.disk, p.data, c.sectors(sectors))
		}
	}
	return solid(size, left)
}

// sectors chooses those of which the new contents survive.
func (c *cut) sectors(of uint64) uint64 {
	switch c.bytes {
	case all:
		return of
	case none:
		return 0
	}
	return of & c.Uint64()
}
