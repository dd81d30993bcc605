package durable

import (
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
	slots
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
		old := o.list[i].entry
		switch {
		case newest >= old.at:
			e.prev = old
		case newest > 0:
			e.prev = old.prev
		}
		o.bytes += len(e.value) - len(old.value)
		o.list[i].entry = e
		return
	}
	o.bytes += e.size()
	o.insert(i, e)
}

// absorb takes in the changes of an older overlay.
func (o *overlay) absorb(older *overlay) {
	for _, e := range older.list {
		i, found := o.search(e.key)
		if !found {
			o.bytes += e.size()
			o.insert(i, e.entry)
			continue
		}
		first := o.list[i].entry
		for first.prev != nil {
			first = first.prev
		}
		first.prev = e.entry
	}
}

// split divides an overlay; the second part begins with a key.
func (o *overlay) split(key []byte) (left, right *overlay) {
	if o.len() == 0 {
		return nil, nil
	}
	i, _ := o.search(key)
	return makeOverlay(o.part(0, i)), makeOverlay(o.part(i, len(o.list)))
}

func makeOverlay(s slots) *overlay {
	if len(s.list) == 0 {
		return nil
	}
	o := &overlay{slots: s}
	for _, e := range s.list {
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
