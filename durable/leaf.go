package durable

import (
	"slices"
	"sync"

	"github.com/wakepoint/wakepoint/internal/redo"
)

const (
	leafRoom = 64 << 10     // of a leaf that was divided, about, in bytes
	leafMax  = 2 * leafRoom // from which on it is divided
)

// A leaf is a range of keys: from low up to the next leaf's. It is the unit of
// loading, of writing to a checkpoint and of damage. All but low is guarded by
// the tree's lock; what the pointers lead to is not changed, but over.
type leaf struct {
	low    []byte
	base   *block   // as of the checkpoint that last wrote it as a whole
	runs   *block   // what was changed from there to the newest checkpoint
	frozen *overlay // what a checkpoint is writing
	over   *overlay // since then
	loaded bool     // base and runs are here
	late   *block   // of one not loaded: what checkpoints wrote since the start
	disk   *stored  // where the newest generation has it; nil: it must be written whole
	damage error    // why it could not be loaded; nil: it could, or was not tried
	dirty  bool     // it is in the tree's list
	enough int      // size from which on it is looked at for being divided; 0: leafMax
	splits int      // how often it was divided or made anew

	loading sync.Mutex // of whoever loads it; taken before the tree's lock
}

// layers are those of a leaf as a view at a position sees them, the newest first.
func (l *leaf) layers(at redo.Position) []layer {
	out := make([]layer, 0, 4)
	for _, o := range [2]*overlay{l.over, l.frozen} {
		if o.len() > 0 {
			out = append(out, view{o, at})
		}
	}
	for _, b := range [2]*block{l.runs, l.base} {
		if b.len() > 0 {
			out = append(out, b)
		}
	}
	return out
}

// get is what a view at a position sees of a key. Without what is loaded it
// knows only of changes; then known is false for others.
func (l *leaf) get(key []byte, at redo.Position) (c change, known bool) {
	for _, o := range [2]*overlay{l.over, l.frozen} {
		if e := o.get(key, at); e != nil {
			return e.change(), true
		}
	}
	blocks := [2]*block{l.runs, l.base}
	if !l.loaded {
		blocks = [2]*block{l.late}
	}
	for _, b := range blocks {
		if b.len() == 0 {
			continue
		}
		if i, found := b.search(key); found {
			return b.at(i), true
		}
	}
	return change{deleted: true}, l.loaded
}

// size is about how many bytes it takes, with what was changed several times.
func (l *leaf) size() int {
	return l.base.size() + l.runs.size() + l.frozen.size() + l.over.size()
}

// large says that a leaf is to be divided: that it has too much, when what was
// changed several times counts once. It looks only when it may have.
func (l *leaf) large() bool {
	size := l.size()
	if size <= max(l.enough, leafMax) {
		return false
	}
	if !l.loaded {
		return true // as far as anybody knows
	}
	live := 0
	merged(l.layers(now), nil, func(c change) bool {
		live += len(c.key) + len(c.value) + 2 // at least: what was only changed does not count as growth
		return live <= leafMax
	})
	if live > leafMax {
		return true
	}
	l.enough = size + max(leafMax-live, leafMax/4)
	return false
}

// middle is a key that divides a leaf; nil: it has too few.
func (l *leaf) middle() []byte {
	var most layer
	for _, b := range [2]layer{l.base, l.runs} {
		if most == nil || b.size() > most.size() {
			most = b
		}
	}
	for _, o := range [2]*overlay{l.frozen, l.over} {
		if o.size() > most.size() {
			most = view{o, now}
		}
	}
	if most.len() < 2 {
		return nil
	}
	c, _ := most.seen(most.len() / 2)
	return c.key
}

// split divides a leaf that is loaded, and returns the second part; nil: it
// cannot be divided. Neither part lies as such on the disk.
func (l *leaf) split() *leaf {
	key := l.middle()
	if key == nil {
		return nil
	}
	r := &leaf{low: slices.Clone(key), loaded: true} // a copy: it would hold all that lies around it
	l.base, r.base = l.base.split(key)
	l.runs, r.runs = l.runs.split(key)
	l.frozen, r.frozen = l.frozen.split(key)
	l.over, r.over = l.over.split(key)
	l.disk, l.enough = nil, 0
	l.splits++
	return r
}

// empty says that a leaf has nothing, and never had as far as anybody can see.
func (l *leaf) empty() bool {
	return l.loaded && l.base.len() == 0 && l.runs.len() == 0 && l.frozen.len() == 0 && l.over.len() == 0
}
