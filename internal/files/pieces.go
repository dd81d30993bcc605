package files

import (
	"errors"
	"fmt"
	"io"

	"github.com/restic/chunker"
	"github.com/zeebo/blake3"
)

// Contents that are replaced as a whole are cut where they say so themselves,
// and each piece is stored once: what is put in at one place moves nothing that
// follows, and what has another name now is found.

const (
	pieceMin  = 16 << 10
	pieceBits = 16 // pieces are of 64 KiB plus pieceMin on average
	pieceMax  = 256 << 10
	// polynomial decides where contents are cut. Another one would cut all
	// contents elsewhere, and nothing would be found again.
	polynomial = chunker.Pol(0x3DA3358B4DC173)
)

// piece is a part of a file: it begins on a page of the section.
type piece struct {
	_   struct{} `cbor:",toarray"`
	At  int64
	Len int64
	Sum [16]byte // the first half of its BLAKE3
}

// checkPieces refuses pieces that do not lie below next, and returns how long
// they are together.
func checkPieces(list []piece, next int64) (size int64, err error) {
	for _, p := range list {
		if p.At < 0 || p.Len <= 0 || p.Len > pieceMax || p.At%pageSize != 0 || next > slotEnd || p.At > next-p.Len {
			return 0, fmt.Errorf("piece %#x+%#x", p.At, p.Len)
		}
		size += p.Len
	}
	return size, nil
}

// cutter stores contents piece by piece.
type cutter struct {
	w      Section
	next   *int64                       // first free offset of the section
	stored func(add func(list []piece)) // names what is stored already
	known  map[[16]byte]piece           // nil until something is cut
	added  []piece                      // by the last cut
	buf    []byte
	padded []byte
}

// cut stores what it reads. bad is an error of reading; what was stored until
// then is to be dropped.
func (t *cutter) cut(in io.Reader) (list []piece, bad, err error) {
	if t.buf == nil {
		t.buf, t.padded = make([]byte, pieceMax), make([]byte, pieceMax)
	}
	if t.known == nil {
		t.known = map[[16]byte]piece{}
		t.stored(func(list []piece) {
			for _, p := range list {
				t.known[p.Sum] = p
			}
		})
	}
	c := chunker.NewWithBoundaries(in, polynomial, pieceMin, pieceMax)
	c.SetAverageBits(pieceBits)
	t.added = t.added[:0]
	for {
		next, bad := c.Next(t.buf)
		if errors.Is(bad, io.EOF) {
			return list, nil, nil
		}
		if bad != nil {
			return nil, bad, nil
		}
		p, err := t.store(next.Data)
		if err != nil {
			return nil, nil, err
		}
		list = append(list, p)
	}
}

// store stores a piece, unless it is there.
func (t *cutter) store(data []byte) (piece, error) {
	sum := blake3.Sum256(data)
	p := piece{At: *t.next, Len: int64(len(data)), Sum: [16]byte(sum[:16])}
	if old, ok := t.known[p.Sum]; ok && old.Len == p.Len {
		return old, nil
	}
	padded := t.padded[:pageUp(p.Len)]
	clear(padded[copy(padded, data):])
	if err := t.w.Put(p.At, padded); err != nil {
		return p, err
	}
	*t.next += int64(len(padded))
	t.known[p.Sum], t.added = p, append(t.added, p)
	return p, nil
}

// drop clears what the last cut has stored.
func (t *cutter) drop() error {
	for _, p := range t.added {
		delete(t.known, p.Sum)
		if err := t.w.Zero(p.At, pageUp(p.Len)); err != nil {
			return err
		}
	}
	t.added = t.added[:0]
	return nil
}

// clearUnused clears the pieces of old that are not used.
func clearUnused(w Section, old []piece, used map[int64]bool) error {
	for _, p := range old {
		if used[p.At] {
			continue
		}
		if err := w.Zero(p.At, pageUp(p.Len)); err != nil {
			return err
		}
		used[p.At] = true
	}
	return nil
}

// eachPiece reads a file that lies in pieces: f is called with offsets in the
// file, ascending, without what is zero.
func eachPiece(r Reader, list []piece, f func(off int64, b []byte) error) error {
	at := int64(0)
	for _, p := range list {
		err := r.Each(p.At, p.At+pageUp(p.Len), func(off int64, b []byte) error {
			off -= p.At
			if off >= p.Len {
				return nil
			}
			return f(at+off, b[:min(int64(len(b)), p.Len-off)])
		})
		if err != nil {
			return err
		}
		at += p.Len
	}
	return nil
}
