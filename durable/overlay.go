package durable

import (
	"bytes"
	"slices"

	"github.com/wakepoint/wakepoint/internal/redo"
)

// entry is a change that was committed, at a position of the log. What was there
// before hangs on it as long as a view may see that.
type entry struct {
	change
	at   redo.Position
	prev *entry
}

// seen is the newest of an entry and those before it that a view at a position
// sees; nil: none.
func (e *entry) seen(at redo.Position) *entry {
	for e != nil && e.at > at {
		e = e.prev
	}
	return e
}

// overlay holds the changes of a leaf that are not in a block yet, in the order
// of their keys.
type overlay struct {
	list  []*entry
	bytes int
}

func (o *overlay) len() int {
	if o == nil {
		return 0
	}
	return len(o.list)
}

func (o *overlay) size() int {
	if o == nil {
		return 0
	}
	return o.bytes
}

func (o *overlay) search(key []byte) (int, bool) {
	if n := len(o.list); n == 0 || bytes.Compare(o.list[n-1].key, key) < 0 {
		return n, false // in ascending order, as many are
	}
	return slices.BinarySearchFunc(o.list, key, func(e *entry, key []byte) int { return bytes.Compare(e.key, key) })
}

// get is what a view at a position sees of a key; nil: the overlay says nothing.
func (o *overlay) get(key []byte, at redo.Position) *entry {
	if o == nil {
		return nil
	}
	if i, found := o.search(key); found {
		return o.list[i].seen(at)
	}
	return nil
}

// set adds a change. What it replaces is kept if the newest view may see it.
func (o *overlay) set(e *entry, newest redo.Position) {
	i, found := o.search(e.key)
	if found {
		old := o.list[i]
		switch {
		case newest >= old.at:
			e.prev = old
		case newest > 0:
			e.prev = old.prev
		}
		o.bytes += len(e.value) - len(old.value)
		o.list[i] = e
		return
	}
	o.bytes += e.size()
	o.list = slices.Insert(o.list, i, e)
}

// absorb takes in the changes of an older overlay.
func (o *overlay) absorb(older *overlay) {
	for _, e := range older.list {
		i, found := o.search(e.key)
		if !found {
			o.bytes += e.size()
			o.list = slices.Insert(o.list, i, e)
			continue
		}
		first := o.list[i]
		for first.prev != nil {
			first = first.prev
		}
		first.prev = e
	}
}

// split divides an overlay; the second part begins with a key.
func (o *overlay) split(key []byte) (left, right *overlay) {
	if o.len() == 0 {
		return nil, nil
	}
	i, _ := o.search(key)
	return makeOverlay(o.list[:i:i]), makeOverlay(o.list[i:])
}

func makeOverlay(list []*entry) *overlay {
	if len(list) == 0 {
		return nil
	}
	o := &overlay{list: list}
	for _, e := range list {
		o.bytes += e.size()
	}
	return o
}

// view is an overlay as it is seen at a position.
type view struct {
	*overlay
	at redo.Position
}

func (v view) seen(i int) (change, bool) {
	if e := v.list[i].seen(v.at); e != nil {
		return e.change, true
	}
	return change{}, false
}

// now is the position from which all is seen.
const now = ^redo.Position(0)
