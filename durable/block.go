package durable

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"sort"
)

// A change is what became of one key: a value, or that there is none. The bytes
// are never changed.
type change struct {
	key     []byte
	value   []byte
	deleted bool
}

// block holds changes in the order of their keys, each key once, in one piece of
// memory. It is never changed. A change takes its key and its value with their
// lengths, and four bytes for its place.
//
//	uvarint  length of the key
//	         key
//	uvarint  length of the value and 1, or 0 for a key that has none
//	         value
type block struct {
	data   []byte
	places []uint32
}

func (b *block) len() int {
	if b == nil {
		return 0
	}
	return len(b.places)
}

// parseChange reads the change at the beginning of p.
func parseChange(p []byte) (c change, n int, ok bool) {
	k, i := binary.Uvarint(p)
	if i <= 0 || k > uint64(len(p)-i) {
		return c, 0, false
	}
	c.key = p[i : i+int(k) : i+int(k)]
	i += int(k)
	v, j := binary.Uvarint(p[i:])
	if i += j; j <= 0 || v > uint64(len(p)-i)+1 {
		return c, 0, false
	}
	if v == 0 {
		c.deleted = true
		return c, i, true
	}
	c.value = p[i : i+int(v)-1 : i+int(v)-1]
	return c, i + int(v) - 1, true
}

func appendChange(dst []byte, c change) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(c.key)))
	dst = append(dst, c.key...)
	if c.deleted {
		return append(dst, 0)
	}
	dst = binary.AppendUvarint(dst, uint64(len(c.value))+1)
	return append(dst, c.value...)
}

// decodeBlock takes in what a block's data is, and checks its form and order.
func decodeBlock(data []byte) (*block, error) {
	b := &block{data: data}
	var last []byte
	for at := 0; at < len(data); {
		c, n, ok := parseChange(data[at:])
		if !ok || at > 0 && bytes.Compare(last, c.key) >= 0 {
			return nil, fmt.Errorf("entry at %d: %w", at, errCodec)
		}
		b.places = append(b.places, uint32(at))
		last, at = c.key, at+n
	}
	return b, nil
}

// at is the ith change.
func (b *block) at(i int) change {
	c, _, _ := parseChange(b.data[b.places[i]:])
	return c
}

// search returns the first change whose key is not less, and whether it is that
// of the key.
func (b *block) search(key []byte) (int, bool) {
	n := b.len()
	i := sort.Search(n, func(i int) bool { return bytes.Compare(b.at(i).key, key) >= 0 })
	return i, i < n && bytes.Equal(b.at(i).key, key)
}

// layer is changes in the order of their keys: a block, or what is written to.
type layer interface {
	len() int
	at(i int) change
	search(key []byte) (int, bool)
}

// fresh is a layer that is written to. A change is replaced whole, so that who
// holds an earlier one keeps it.
type fresh struct {
	list  []change
	bytes int
}

func (f *fresh) len() int {
	if f == nil {
		return 0
	}
	return len(f.list)
}

func (f *fresh) at(i int) change { return f.list[i] }

func (f *fresh) search(key []byte) (int, bool) {
	n := f.len()
	i := sort.Search(n, func(i int) bool { return bytes.Compare(f.list[i].key, key) >= 0 })
	return i, i < n && bytes.Equal(f.list[i].key, key)
}

// set makes a change. The slices are kept.
func (f *fresh) set(c change) {
	i, found := f.search(c.key)
	if found {
		f.bytes += len(c.value) - len(f.list[i].value)
		f.list[i] = c
		return
	}
	f.bytes += len(c.key) + len(c.value)
	if n := len(f.list); i == n { // in ascending order, as many are
		f.list = append(f.list, c)
		return
	}
	f.list = append(f.list, change{})
	copy(f.list[i+1:], f.list[i:])
	f.list[i] = c
}

// merged calls yield for the changes of layers in the order of their keys, from
// the first that is not less than from on; of one key only the first layer's
// counts. It returns false when yield did.
func merged(layers []layer, from []byte, yield func(change) bool) bool {
	var next [runsMax + 3]int
	for i, l := range layers {
		next[i], _ = l.search(from)
	}
	for {
		best := -1
		var c change
		for i, l := range layers {
			if next[i] >= l.len() {
				continue
			}
			o := l.at(next[i])
			if best >= 0 {
				switch cmp := bytes.Compare(o.key, c.key); {
				case cmp == 0:
					next[i]++ // hidden by one above it
					continue
				case cmp > 0:
					continue
				}
			}
			best, c = i, o
		}
		if best < 0 {
			return true
		}
		next[best]++
		if !yield(c) {
			return false
		}
	}
}

// runsMax is how many runs of changes a leaf has on the disk at most, beside its
// base. It is a part of the format.
const runsMax = 32

// flatten makes one block of layers, up to a key (nil: to the end). A base is
// without what was deleted.
func flatten(layers []layer, from, to []byte, base bool) *block {
	size, count := 0, 0
	for _, l := range layers {
		count += l.len()
		if b, ok := l.(*block); ok {
			size += len(b.data)
		} else if f, ok := l.(*fresh); ok {
			size += f.bytes + 4*f.len()
		}
	}
	b := &block{data: make([]byte, 0, size), places: make([]uint32, 0, count)}
	merged(layers, from, func(c change) bool {
		if to != nil && bytes.Compare(c.key, to) >= 0 {
			return false
		}
		if !c.deleted || !base {
			b.places = append(b.places, uint32(len(b.data)))
			b.data = appendChange(b.data, c)
		}
		return true
	})
	return b
}
