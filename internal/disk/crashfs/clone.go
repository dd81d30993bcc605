package crashfs

import "maps"

// Clone returns the disk as another process finds it after the one that used it
// was killed: what was written is there, and what was not synced can still be
// lost. This disk stays as it is. The new one has no watcher and no locks.
func (f *FS) Clone() *FS {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := New()
	n.limited, n.room, n.changes = f.limited, f.room, f.changes
	c := cloner{map[*inode]*inode{}, map[*change]*change{}}
	n.root = c.inode(f.root)
	for _, p := range f.pending {
		n.pending = append(n.pending, c.change(p))
	}
	return n
}

// cloner knows what it has cloned.
type cloner struct {
	inodes  map[*inode]*inode
	changes map[*change]*change
}

func (c cloner) inode(in *inode) *inode {
	if in == nil || c.inodes[in] != nil {
		return c.inodes[in]
	}
	n := &inode{dir: in.dir, body: in.copied()}
	c.inodes[in] = n
	if in.dir {
		n.names, n.kept = maps.Clone(in.names), maps.Clone(in.kept)
		for _, names := range []map[string]*inode{n.names, n.kept} {
			for base, below := range names {
				names[base] = c.inode(below)
			}
		}
	}
	return n
}

func (c cloner) change(p *change) *change {
	n := &change{number: p.number, what: c.inode(p.what), waits: map[*inode]bool{}}
	n.from, n.to = slot{c.inode(p.from.dir), p.from.name}, slot{c.inode(p.to.dir), p.to.name}
	for _, b := range p.before {
		n.before = append(n.before, c.changes[b]) // it came earlier
	}
	for d := range p.waits {
		n.waits[c.inode(d)] = true
	}
	c.changes[p] = n
	return n
}
