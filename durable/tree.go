package durable

import (
	"bytes"
	"slices"
	"sort"
	"sync"

	"github.com/wakepoint/wakepoint/internal/redo"
)

// tree is all state, in the order of the keys: leaves, of which some may not be
// loaded yet. One writer at a time changes it, any number of views read it.
type tree struct {
	// load loads a leaf, or says why it cannot be.
	load func(*leaf) error

	mu      sync.RWMutex // guards the rest, and the leaves
	leaves  []*leaf      // by low; the first one is the catalog's, and not divided
	applied redo.Position
	dirty   []*leaf // with changes in over, or not on the disk
	views   views
}

// find is the index of the leaf of a key.
func (t *tree) find(key []byte) int {
	return sort.Search(len(t.leaves), func(i int) bool { return bytes.Compare(t.leaves[i].low, key) > 0 }) - 1
}

// get is the value of a key as a view at a position sees it.
func (t *tree) get(key []byte, at redo.Position) (value []byte, found bool, err error) {
	for {
		t.mu.RLock()
		l := t.leaves[t.find(key)]
		c, known := l.get(key, at)
		t.mu.RUnlock()
		if known {
			return c.value, !c.deleted, nil
		}
		if err := t.load(l); err != nil {
			return nil, false, err
		}
	}
}

// scan is what a view at a position sees from a key on, of one leaf and about n
// keys of it, and from where to go on; nil: that was all.
func (t *tree) scan(from []byte, at redo.Position, n int) (list changes, next []byte, err error) {
	for {
		t.mu.RLock()
		i := t.find(from)
		l := t.leaves[i]
		if !l.loaded {
			t.mu.RUnlock()
			if err := t.load(l); err != nil {
				return nil, nil, err
			}
			continue
		}
		if i+1 < len(t.leaves) {
			next = t.leaves[i+1].low
		}
		list = make(changes, 0, n)
		merged(l.layers(at), from, func(c change) bool {
			if c.deleted {
				return true
			}
			if len(list) == n {
				next = c.key
				return false
			}
			list = append(list, c)
			return true
		})
		t.mu.RUnlock()
		return list, next, nil
	}
}

// apply makes the changes of a transaction, whose record ends at a position; it
// copies them. It returns leaves that have grown too large and have to be loaded
// for being divided.
func (t *tree) apply(list changes, end redo.Position) (large []*leaf) {
	t.mu.Lock()
	defer t.mu.Unlock()
	newest := t.views.newest()
	for i := range list {
		l := t.leaves[t.find(list[i].key)]
		if l.over == nil {
			l.over = &overlay{}
			t.touch(l)
		}
		l.over.set(list[i], end, newest)
		if !l.large() || len(l.low) == 0 {
			continue
		}
		if !l.loaded {
			large = append(large, l)
			continue
		}
		t.divide(l)
	}
	t.applied = end
	return large
}

// touch puts a leaf on the list of those that the next checkpoint writes.
func (t *tree) touch(l *leaf) {
	if !l.dirty {
		l.dirty = true
		t.dirty = append(t.dirty, l)
	}
}

// divide divides a leaf: mu is held.
func (t *tree) divide(l *leaf) {
	r := l.split()
	if r == nil {
		return
	}
	i := t.find(r.low)
	t.leaves = slices.Insert(t.leaves, i+1, r)
	t.touch(l)
	t.touch(r)
}

// grown loads leaves that are to be divided, and divides them. One that cannot
// be loaded stays as it is.
func (t *tree) grown(large []*leaf) {
	for _, l := range large {
		if t.load(l) != nil {
			continue
		}
		t.mu.Lock()
		if l.loaded && l.large() {
			t.divide(l)
		}
		t.mu.Unlock()
	}
}

// views counts those that are open, by what they see. It has a lock of its own,
// which is taken behind the tree's.
type views struct {
	mu    sync.Mutex
	open  []openView // by at
	ended chan struct{}
}

type openView struct {
	at redo.Position
	n  int
}

// begin opens a view of what is applied.
func (t *tree) begin() redo.Position {
	t.mu.RLock()
	defer t.mu.RUnlock()
	v := &t.views
	v.mu.Lock()
	defer v.mu.Unlock()
	if n := len(v.open); n > 0 && v.open[n-1].at == t.applied {
		v.open[n-1].n++
	} else {
		v.open = append(v.open, openView{t.applied, 1})
	}
	return t.applied
}

// end closes a view.
func (v *views) end(at redo.Position) {
	v.mu.Lock()
	defer v.mu.Unlock()
	i, _ := slices.BinarySearchFunc(v.open, at, func(o openView, at redo.Position) int {
		if o.at < at {
			return -1
		}
		return int(min(o.at-at, 1))
	})
	if v.open[i].n--; v.open[i].n > 0 {
		return
	}
	v.open = slices.Delete(v.open, i, i+1)
	if i == 0 && v.ended != nil {
		close(v.ended)
		v.ended = nil
	}
}

// newest is what the newest view sees; 0: there is none.
func (v *views) newest() redo.Position {
	v.mu.Lock()
	defer v.mu.Unlock()
	if n := len(v.open); n > 0 {
		return v.open[n-1].at
	}
	return 0
}

// before says whether a view does not see all up to a position, and gives a
// channel that is closed when the oldest view ends.
func (v *views) before(at redo.Position) (<-chan struct{}, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.open) == 0 || v.open[0].at >= at {
		return nil, false
	}
	if v.ended == nil {
		v.ended = make(chan struct{})
	}
	return v.ended, true
}
