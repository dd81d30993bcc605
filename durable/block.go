package durable

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
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

// decodeBlock takes in what a block's data is, and checks its form and order, and
// that it has so many changes.
func decodeBlock(data []byte, count int) (*block, error) {
	b := &block{data: data, places: make([]uint32, 0, count)}
	var last []byte
	for at := 0; at < len(data); {
		c, n, ok := parseChange(data[at:])
		if !ok || at > 0 && bytes.Compare(last, c.key) >= 0 {
			return nil, fmt.Errorf("entry at %d: %w", at, errCodec)
		}
		b.places = append(b.places, uint32(at))
		last, at = c.key, at+n
	}
	if len(b.places) != count {
		return nil, fmt.Errorf("%d entries, not %d: %w", len(b.places), count, errCodec)
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

// size is that of its changes in bytes.
func (b *block) size() int {
	if b.len() == 0 {
		return 0
	}
	return len(b.data) - int(b.places[0])
}

// room is what it takes in memory, places aside, with what it does not use.
func (b *block) room() int {
	if b.len() == 0 {
		return 0
	}
	return cap(b.data)
}

// slice is the changes from i up to j, in the same memory.
func (b *block) slice(i, j int) *block {
	if i == j {
		return nil
	}
	end := len(b.data)
	if j < b.len() {
		end = int(b.places[j])
	}
	return &block{data: b.data[:end:end], places: b.places[i:j:j]}
}

// split divides a block; the second part begins with a key.
func (b *block) split(key []byte) (left, right *block) {
	if b.len() == 0 {
		return nil, nil
	}
	i, _ := b.search(key)
	return b.slice(0, i), b.slice(i, b.len())
}

// layer is changes in the order of their keys.
type layer interface {
	len() int
	// seen is the ith change; false: there is none as far as the reader may see.
	seen(i int) (change, bool)
	// search returns the first change whose key is not less, and whether it is
	// that of the key.
	search(key []byte) (int, bool)
	size() int
}

func (b *block) seen(i int) (change, bool) { return b.at(i), true }

// changes is a layer of its own.
type changes []change

func (l changes) len() int                  { return len(l) }
func (l changes) seen(i int) (change, bool) { return l[i], true }

func (l changes) search(key []byte) (int, bool) {
	return slices.BinarySearchFunc(l, key, func(c change, key []byte) int { return bytes.Compare(c.key, key) })
}

func (l changes) size() (n int) {
	for i := range l {
		n += l[i].size()
	}
	return n
}

// size is what a change takes in a block, at most.
func (c change) size() int { return len(c.key) + len(c.value) + changeOverhead }

const changeOverhead = 8 // lengths and place, for what is not huge

// merged calls yield for the changes of layers in the order of their keys, from
// the first that is not less than from on; of one key only the first layer's
// counts. It returns false when yield did.
func merged(layers []layer, from []byte, yield func(change) bool) bool {
	var next [runsMax + 4]int
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
			o, ok := l.seen(next[i])
			for ; !ok; o, ok = l.seen(next[i]) {
				if next[i]++; next[i] >= l.len() {
					break
				}
			}
			if !ok {
				continue
			}
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
// base and one more. It is a part of the format.
const runsMax = 32

// flatten makes one block of layers, of which the first counts. A base is
// without what was deleted.
func flatten(layers []layer, base bool) *block {
	size, count := 0, 0
	for _, l := range layers {
		count += l.len()
		size += l.size()
	}
	b := &block{data: make([]byte, 0, size), places: make([]uint32, 0, count)}
	merged(layers, nil, func(c change) bool {
		if !c.deleted || !base {
			b.places = append(b.places, uint32(len(b.data)))
			b.data = appendChange(b.data, c)
		}
		return true
	})
	if len(b.places) == 0 {
		return nil
	}
	return b
}
