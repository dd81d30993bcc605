package redo

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// A Position is a place in the log: bytes of frames since its beginning. It
// never comes again, and a later record has a higher one.
type Position uint64

// A frame is what one flush writes. Numbers are in little endian.
//
//	offset  size
//	0       4     CRC-32C of the segment's salt (8 bytes) and of all that follows, without the filling
//	4       4     length n of the payload
//	8       8     position of the frame
//	16      8     position up to which the log was durable when the frame was written
//	24      1     kind
//	25      7     0
//	32      n     payload
//	32+n    0-15  filling, so that the next frame begins at a multiple of 16
const (
	frameHeader = 32
	frameAlign  = 16
)

// Kinds of frame. One that is not known comes of a newer program.
const (
	kindRecords byte = 1 // payload: records, each with its length before it (uvarint)
	kindClosing byte = 2 // payload: nothing, or zeros; it only says what is durable
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errFrame says that no frame begins here.
var errFrame = errors.New("not a frame")

// ErrNewer says that a file holds what only a newer program knows.
var ErrNewer = errors.New("durable: written by a newer program")

// frame is one that was read.
type frame struct {
	at      Position
	durable Position
	kind    byte
	payload []byte
}

// aligned is the room that a payload of n bytes takes as a frame.
func aligned(n int) int { return (frameHeader + n + frameAlign - 1) &^ (frameAlign - 1) }

func (f *frame) end() Position { return f.at + Position(aligned(len(f.payload))) }

// sealed is the frame as it is written to a segment of a salt.
func (f *frame) sealed(salt uint64) []byte {
	b := append(make([]byte, frameHeader, aligned(len(f.payload))), f.payload...)
	return seal(b, salt, f.at, f.durable, f.kind)
}

// sum is the checksum of a frame, whose first four bytes are left out.
func sum(salt uint64, b []byte) uint32 {
	return crc32.Update(crc32.Checksum(binary.LittleEndian.AppendUint64(nil, salt), castagnoli), castagnoli, b[4:])
}

// seal makes b a frame: room for the header, and the payload behind it. What is
// returned is filled up.
func seal(b []byte, salt uint64, at, durable Position, kind byte) []byte {
	n := len(b) - frameHeader
	binary.LittleEndian.PutUint32(b[4:], uint32(n))
	binary.LittleEndian.PutUint64(b[8:], uint64(at))
	binary.LittleEndian.PutUint64(b[16:], uint64(durable))
	clear(b[24:frameHeader])
	b[24] = kind
	binary.LittleEndian.PutUint32(b, sum(salt, b))
	return append(b, make([]byte, aligned(n)-len(b))...)
}

// parse reads the frame at the beginning of b, which must be that of position
// at. Its payload is a part of b.
func parse(b []byte, salt uint64, at Position) (frame, error) {
	if len(b) < frameHeader || Position(binary.LittleEndian.Uint64(b[8:])) != at {
		return frame{}, errFrame
	}
	n := int64(binary.LittleEndian.Uint32(b[4:]))
	if n > int64(len(b))-frameHeader || !same(binary.LittleEndian.Uint32(b), sum(salt, b[:frameHeader+n])) {
		return frame{}, errFrame
	}
	f := frame{at: at, durable: Position(binary.LittleEndian.Uint64(b[16:])), kind: b[24], payload: b[frameHeader : frameHeader+n]}
	if f.durable > at {
		return frame{}, errFrame
	}
	if f.kind != kindRecords && f.kind != kindClosing {
		return f, fmt.Errorf("%w: frame of kind %d", ErrNewer, f.kind)
	}
	return f, nil
}

// records calls yield for each record of a frame with the position behind it.
func (f *frame) records(yield func(end Position, record []byte) error) error {
	if f.kind == kindClosing {
		return nil
	}
	for rest := f.payload; len(rest) > 0; {
		n, k := binary.Uvarint(rest)
		if k <= 0 || n > uint64(len(rest)-k) {
			return fmt.Errorf("frame at %d: a record is longer than the frame: %w", f.at, errFrame)
		}
		record := rest[k : k+int(n)]
		rest = rest[k+int(n):]
		if err := yield(f.at+frameHeader+Position(len(f.payload)-len(rest)), record); err != nil {
			return err
		}
	}
	return nil
}
