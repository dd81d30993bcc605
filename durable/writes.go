package durable

import (
	"bytes"
	"slices"
	"sort"
)

// writes holds what a transaction has changed so far, in the order of the keys,
// in pieces, so that of many changes only a few are moved for another one.
type writes struct {
	pieces []changes
	count  int // of changes
	bytes  int // of keys and values, with their lengths
}

const pieceMax = 512

// place finds the piece of a key, and where in it the key is or should be.
func (w *writes) place(key []byte) (p, i int, found bool) {
	p = sort.Search(len(w.pieces), func(p int) bool { return bytes.Compare(w.pieces[p][0].key, key) > 0 }) - 1
	if p < 0 {
		return 0, 0, false
	}
	i, found = w.pieces[p].search(key)
	return p, i, found
}

func (w *writes) get(key []byte) (change, bool) {
	if p, i, found := w.place(key); found {
		return w.pieces[p][i], true
	}
	return change{}, false
}

func (w *writes) set(c change) {
	p, i, found := w.place(c.key)
	switch {
	case found:
		w.bytes += c.size() - w.pieces[p][i].size()
		w.pieces[p][i] = c
		return
	case len(w.pieces) == 0 && cap(w.pieces) > 0: // of an earlier transaction
		w.pieces = w.pieces[:1]
	case len(w.pieces) == 0:
		w.pieces = append(w.pieces, make(changes, 0, 4))
	}
	w.bytes += c.size()
	w.count++
	piece := slices.Insert(w.pieces[p], i, c)
	if w.pieces[p] = piece; len(piece) > pieceMax {
		w.pieces[p] = piece[: pieceMax/2 : pieceMax/2]
		w.pieces = slices.Insert(w.pieces, p+1, slices.Clone(piece[pieceMax/2:]))
	}
}

// moved copies all keys and values to a new piece of memory, so that nothing needs
// the old one any more.
func (w *writes) moved() []byte {
	b := make([]byte, 0, 2*w.bytes+arenaSlack)
	for _, piece := range w.pieces {
		for i := range piece {
			c := &piece[i]
			at := len(b)
			b = append(b, c.key...)
			end := len(b)
			c.key = b[at:end:end]
			if !c.deleted {
				b = append(b, c.value...)
				c.value = b[end:len(b):len(b)]
			}
		}
	}
	return b
}

// between is the changes from a key up to another, at most so many, and up to where
// these are all.
func (w *writes) between(from, to []byte, most int) (out changes, end []byte) {
	p, i, _ := w.place(from)
	for ; p < len(w.pieces); p, i = p+1, 0 {
		for _, c := range w.pieces[p][i:] {
			if bytes.Compare(c.key, to) >= 0 {
				return out, to
			}
			if len(out) == most {
				return out, c.key
			}
			out = append(out, c)
		}
	}
	return out, to
}

// The record of a transaction is its kind and its changes. Kinds that are not
// known come of a newer program.
//
//	offset  size
//	0       1     kind, 1
//	1             changes, as in a block, by ascending keys
const recordChanges byte = 1

// parseRecord calls yield for the changes of a record, which are parts of it.
func parseRecord(record []byte, yield func(change)) error {
	if len(record) == 0 || record[0] != recordChanges {
		return ErrNewer
	}
	for rest := record[1:]; len(rest) > 0; {
		c, n, ok := parseChange(rest)
		if !ok {
			return errCodec
		}
		yield(c)
		rest = rest[n:]
	}
	return nil
}
