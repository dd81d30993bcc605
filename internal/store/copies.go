package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
)

// Every node that a generation writes, and its manifest, are stored a second
// time, in a pack of their own that is read only when a first copy is damaged:
// one damaged node would take up to 16 pages with it, or all of them, and a
// manifest the whole generation. A page needs no copy: its damage stops what
// refers to it and nothing else.
//
// The payload of a frame of copies, decoded, is a row of these:
//
//	offset  size  field
//	0       8     pack of the first copy; 0 for the manifest
//	8       4     offset of its frame; 0 for the manifest
//	12      4     length, n
//	16      n     the node's payload, or the manifest's CBOR
const (
	copyHead  = 16
	copiesMax = 1 << 20 // bytes of one frame's payload, about
)

// copyWriter gathers copies.
type copyWriter struct {
	packStream
	row []byte
	z   *zstd.Encoder
}

// add adds a copy of what lies at a place.
func (c *copyWriter) add(p place, b []byte) error {
	c.row = binary.LittleEndian.AppendUint64(c.row, uint64(p.pack))
	c.row = binary.LittleEndian.AppendUint32(c.row, p.off)
	c.row = binary.LittleEndian.AppendUint32(c.row, uint32(len(b)))
	c.row = append(c.row, b...)
	if len(c.row) >= copiesMax {
		return c.finish()
	}
	return nil
}

// finish writes what was gathered.
func (c *copyWriter) finish() error {
	if len(c.row) == 0 {
		return nil
	}
	if c.z == nil {
		z, err := newZstd()
		if err != nil {
			return err
		}
		c.z = z
	}
	_, err := c.append(kindCopies, encodeZstd(c.z, c.row))
	c.row = c.row[:0]
	return err
}

func newZstd() (*zstd.Encoder, error) {
	return zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithZeroFrames(true))
}

// copyOf finds the copy of what a generation wrote at a place, none being that
// of its manifest; ErrDamaged when there is none to be had. It reads the
// copies from the beginning, which is slow, and rare.
func (r *packReader) copyOf(p place, g Generation) ([]byte, error) {
	var found []byte
	for i := copiesIndex; found == nil; i++ {
		err := r.copies(packID(g, i), func(at place, b []byte) bool {
			if at.pack == p.pack && at.off == p.off {
				found = append([]byte{}, b...)
			}
			return found == nil
		})
		if err != nil {
			return nil, err // at the latest for a pack that there is not
		}
	}
	return found, nil
}

// copies calls f for the copies in a pack until it returns false.
func (r *packReader) copies(id PackID, f func(at place, b []byte) bool) error {
	var d decoder
	at := place{pack: id, off: packHeadSize}
	for {
		head := make([]byte, frameHead)
		s, n, err := r.readSome(head, id, int64(at.off))
		if err != nil || n == 0 {
			return err
		}
		if n < len(head) {
			return lost(id.file(), int64(at.off), io.ErrUnexpectedEOF)
		}
		if at.size = binary.LittleEndian.Uint32(head[4:]); at.size > 2*copiesMax {
			return at.damaged(errors.New("frame: too long"))
		}
		frame := make([]byte, at.cost())
		if _, err := r.readAt(frame, id, int64(at.off)); err != nil {
			return err
		}
		p, err := s.openFrame(frame[frameHead:frameHead], frame, at.off, kindCopies)
		var plain []byte
		if err == nil {
			plain, err = d.append(nil, p, 2*copiesMax)
		}
		if err != nil {
			return at.damaged(err)
		}
		more, err := eachCopy(plain, f)
		if err != nil {
			return at.damaged(err)
		}
		if !more {
			return nil
		}
		at.off += uint32(at.cost())
	}
}

// eachCopy calls f for the copies in a payload, and reports whether it wants
// more.
func eachCopy(b []byte, f func(at place, b []byte) bool) (more bool, err error) {
	for len(b) > 0 {
		if len(b) < copyHead {
			return false, errors.New("copies: cut short")
		}
		at := place{pack: PackID(binary.LittleEndian.Uint64(b)), off: binary.LittleEndian.Uint32(b[8:])}
		at.size = binary.LittleEndian.Uint32(b[12:])
		if b = b[copyHead:]; uint64(len(b)) < uint64(at.size) {
			return false, fmt.Errorf("copies: %d bytes of %d", len(b), at.size)
		}
		if !f(at, b[:at.size]) {
			return false, nil
		}
		b = b[at.size:]
	}
	return true, nil
}

// checkCopies reads all copies of a generation and returns what is wrong.
func (r *packReader) checkCopies(m *manifest) error {
	want, err := encodeCBOR(m)
	if err != nil {
		return err
	}
	whole := false
	for i := range m.Copies {
		err := r.copies(packID(Generation(m.Generation), copiesIndex+i), func(at place, b []byte) bool {
			whole = at.none() && bytes.Equal(b, want)
			return true
		})
		if err != nil {
			return err
		}
	}
	if !whole {
		last := packID(Generation(m.Generation), copiesIndex+max(m.Copies, 1)-1)
		return &DamageError{Pack: last.file(), What: "the copy of the manifest is not at its end"}
	}
	return nil
}

// checkOrphans reads all copies of a generation that was removed. The last one
// is that of its manifest.
func (r *packReader) checkOrphans(g Generation) error {
	for i, whole := copiesIndex, false; !whole; i++ {
		err := r.copies(packID(g, i), func(at place, _ []byte) bool {
			whole = at.none()
			return true
		})
		if err != nil {
			return err // at the latest for a pack that there is not
		}
	}
	return nil
}
