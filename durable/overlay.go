package durable

import (
	"bytes"

	"github.com/wakepoint/wakepoint/internal/redo"
)

// entry is a change that was committed, at a position of the log. What was there
// before hangs on it as long as a view may see that.
type entry struct {
	data    []byte // key and value
	at      redo.Position
	prev    *entry
	keySize uint32
	deleted bool
}

func (e *entry) key() []byte { return e.data[:e.keySize:e.keySize] }

func (e *entry) change() change {
	return change{key: e.key(), value: e.data[e.keySize:], deleted: e.deleted}
}

func (e *entry) size() int { return len(e.data) + changeOverhead }

// seen is the newest of an entry and those before it that a view at a position
// sees; nil: none.
func (e *entry) seen(at redo.Position) *entry {
	for e != nil && e.at > at {
		e = e.prev
	}
	return e
}

// overlay holds the changes of a leaf that are not in a block yet, in the order
// of their keys. It has them in memory of its own, in pieces, since they all go at
// once, when a checkpoint makes a block of them.
type overlay struct {
	slots
	bytes int
	data  []byte  // what is left of a piece
	spare []entry // what is left of a piece
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

const (
	dataLeast, dataMost   = 256, 8 << 10 // sizes of a piece, in bytes
	spareLeast, spareMost = 2, 32        // and in entries
)

// set adds a copy of a change. What it replaces is kept if the newest view may
// see it.
func (o *overlay) set(c change, at, newest redo.Position) {
	e := entry{data: o.copy(c), at: at, keySize: uint32(len(c.key)), deleted: c.deleted}
	i, found := o.search(c.key)
	if !found {
		o.bytes += e.size()
		o.insert(i, o.keep(e))
		return
	}
	old := o.list[i].entry
	o.bytes += len(e.data) - len(old.data)
	if newest < old.at { // nobody sees it
		e.prev = old.prev
		if newest == 0 {
			e.prev = nil
		}
		*old = e
		return
	}
	e.prev = old
	o.list[i].entry = o.keep(e)
}

// copy makes key and value of a change one piece in the overlay's memory.
func (o *overlay) copy(c change) []byte {
	n := len(c.key) + len(c.value)
	if n > dataMost/8 {
		return append(append(make([]byte, 0, n), c.key...), c.value...)
	}
	if n > cap(o.data) {
		o.data = make([]byte, 0, max(n, min(max(o.bytes, dataLeast), dataMost)))
	}
	b := append(append(o.data, c.key...), c.value...)
	o.data = b[n:]
	return b[:n:n]
}

// keep puts an entry into the overlay's memory.
func (o *overlay) keep(e entry) *entry {
	if len(o.spare) == 0 {
		o.spare = make([]entry, min(max(len(o.list), spareLeast), spareMost))
	}
	kept := &o.spare[0]
	o.spare = o.spare[1:]
	*kept = e
	return kept
}

// onto returns an overlay of an older one's changes and those after them. Both are
// used up.
func (o *overlay) onto(older *overlay) *overlay {
	list := make([]slot, 0, len(o.list)+len(older.list))
	a, b := o.list, older.list
	for len(a) > 0 && len(b) > 0 {
		switch c := bytes.Compare(a[0].key(), b[0].key()); {
		case c < 0:
			list, a = append(list, a[0]), a[1:]
		case c > 0:
			list, b = append(list, b[0]), b[1:]
		default:
			first := a[0].entry
			for first.prev != nil {
				first = first.prev
			}
			first.prev = b[0].entry
			list, a, b = append(list, a[0]), a[1:], b[1:]
		}
	}
	s := slots{list: append(append(list, a...), b...)}
	s.all()
	return makeOverlay(s)
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
		return e.change(), true
	}
	return change{}, false
}

// now is the position from which all is seen.
const now = ^redo.Position(0)
