package durable

import (
	"bytes"
	"encoding/binary"
	"slices"
)

// slots holds entries in the order of their keys. Each has the first bytes of its
// key beside it, behind what all keys have in common: to look for one goes
// through few keys then, which lie all over the memory.
type slots struct {
	list   []slot
	common []byte // what all keys begin with, or less
}

type slot struct {
	head uint64
	*entry
}

// head is the first eight bytes as a number, which is in the order of the keys.
func head(b []byte) uint64 {
	if len(b) >= 8 {
		return binary.BigEndian.Uint64(b)
	}
	var p [8]byte
	copy(p[:], b)
	return binary.BigEndian.Uint64(p[:])
}

// search returns the place of a key, and whether it is there.
func (s *slots) search(key []byte) (int, bool) {
	n := len(s.list)
	if !bytes.HasPrefix(key, s.common) {
		if bytes.Compare(key, s.common) < 0 {
			return 0, false
		}
		return n, false
	}
	h := head(key[len(s.common):])
	low, high := 0, n
	if n > 0 && s.list[n-1].head < h {
		low = n // in ascending order, as many are
	}
	for low < high {
		m := int(uint(low+high) / 2)
		if o := &s.list[m]; o.head < h || o.head == h && bytes.Compare(o.key(), key) < 0 {
			low = m + 1
		} else {
			high = m
		}
	}
	return low, low < n && s.list[low].head == h && bytes.Equal(s.list[low].key(), key)
}

// insert puts an entry into its place.
func (s *slots) insert(i int, e *entry) {
	key := e.key()
	switch {
	case len(s.list) == 0:
		s.common = key[:max(0, len(key)-8)]
	case !bytes.HasPrefix(key, s.common):
		s.share(key)
	}
	s.list = slices.Insert(s.list, i, slot{head(key[len(s.common):]), e})
}

// share makes a key's beginning count for what all have in common.
func (s *slots) share(key []byte) {
	n := 0
	for n < min(len(s.common), len(key)) && s.common[n] == key[n] {
		n++
	}
	s.common = s.common[:n]
	for i := range s.list {
		s.list[i].head = head(s.list[i].key()[n:])
	}
}

// part is the entries from i up to j, by themselves.
func (s *slots) part(i, j int) slots {
	p := slots{list: slices.Clone(s.list[i:j])}
	p.all()
	return p
}

// all finds out what all keys have in common.
func (s *slots) all() {
	if n := len(s.list); n > 0 {
		s.common = s.list[0].key()
		s.share(s.list[n-1].key())
	}
}
