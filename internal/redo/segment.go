package redo

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/wakepoint/wakepoint/internal/disk"
)

// A segment is a file of the log: a page that says what it is, and frames. Its
// number is its name. It is made long before it is needed, full of zeros; it
// becomes a part of the log by its header, which is written with the first
// frame. What follows another segment's beginning in an earlier one does not
// count: so a tail is written anew.
//
//	offset  size
//	0       8     "WKPTREDO"
//	8       4     version, 1
//	12      4     CRC-32C of the other 52 bytes
//	16      8     number
//	24      8     position of the first frame
//	32      8     salt
//	40      8     room for frames, in bytes
//	48      8     its turn: how many were in use before it
//
// The header stands twice, at 0 and at half of the page. All of it zero: the
// segment is not in use.
const (
	pageSize      = 4096
	headerCopy    = pageSize / 2
	headerSize    = 56
	magic         = "WKPTREDO"
	version       = 1
	segmentSuffix = ".redo"
)

// segment is one in use.
type segment struct {
	number uint64
	start  Position
	salt   uint64
	room   int64
	turn   uint64
}

func segmentName(dir string, number uint64) string {
	return filepath.Join(dir, fmt.Sprintf("%016x%s", number, segmentSuffix))
}

// segmentNumber reads a file's name; false for a file of another kind.
func segmentNumber(base string) (uint64, bool) {
	digits, ok := strings.CutSuffix(base, segmentSuffix)
	if !ok || len(digits) != 16 || strings.ToLower(digits) != digits {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 16, 64)
	return n, err == nil
}

// page is the first page of a segment.
func (s segment) page() []byte {
	p := make([]byte, pageSize)
	h := p[:headerSize]
	copy(h, magic)
	binary.LittleEndian.PutUint32(h[8:], version)
	binary.LittleEndian.PutUint64(h[16:], s.number)
	binary.LittleEndian.PutUint64(h[24:], uint64(s.start))
	binary.LittleEndian.PutUint64(h[32:], s.salt)
	binary.LittleEndian.PutUint64(h[40:], uint64(s.room))
	binary.LittleEndian.PutUint64(h[48:], s.turn)
	binary.LittleEndian.PutUint32(h[12:], headerSum(h))
	copy(p[headerCopy:], h)
	return p
}

func headerSum(h []byte) uint32 {
	return crc32.Update(crc32.Checksum(h[:12], castagnoli), castagnoli, h[16:headerSize])
}

// errUnused says that a segment was made and is not in use: its header is
// zeros, or was cut short.
var errUnused = errors.New("segment not in use")

// parseHeader reads the first page of a segment, of which one copy may be
// damaged. It is a *DamageError where both are something else than zeros: a
// header is written whole or not at all.
func parseHeader(p []byte, number uint64) (segment, error) {
	bad := 0
	for _, at := range []int{0, headerCopy} {
		h := p[at : at+headerSize]
		if string(h[:8]) != magic || !same(binary.LittleEndian.Uint32(h[12:]), headerSum(h)) {
			if bytes.Trim(h, "\x00") != nil {
				bad++
			}
			continue
		}
		if v := binary.LittleEndian.Uint32(h[8:]); v != version {
			return segment{}, fmt.Errorf("%w: segment %x has version %d", ErrNewer, number, v)
		}
		s := segment{number: binary.LittleEndian.Uint64(h[16:]), start: Position(binary.LittleEndian.Uint64(h[24:])),
			salt: binary.LittleEndian.Uint64(h[32:]), room: int64(binary.LittleEndian.Uint64(h[40:])), turn: binary.LittleEndian.Uint64(h[48:])}
		if s.number == number {
			return s, nil
		}
	}
	if bad == 2 {
		return segment{}, &DamageError{File: segmentName("", number), Why: "both headers are damaged"}
	}
	return segment{}, errUnused
}

// readHeader reads that of a file.
func readHeader(d disk.FS, dir string, number uint64) (segment, error) {
	f, err := d.Open(segmentName(dir, number))
	if err != nil {
		return segment{}, err
	}
	defer f.Close()
	p := make([]byte, pageSize)
	if _, err := f.ReadAt(p, 0); errors.Is(err, io.EOF) {
		return segment{}, errUnused // it was not even filled
	} else if err != nil {
		return segment{}, err
	}
	return parseHeader(p, number)
}

// Empty is the file of a log that begins at a position and has nothing yet, and
// its base name: for a copy of what a log was for.
func Empty(at Position) (name string, data []byte) {
	s := segment{number: 1, start: at, salt: rand.Uint64(), room: segmentRoom}
	return segmentName("", s.number), s.page()
}

// fillChunk is how much of a segment is filled at once, in bytes.
const fillChunk = 1 << 20

// makeSegment makes a file that is not in use yet, with room for frames, and
// makes it durable: from then on writing to it changes no size.
func makeSegment(d disk.FS, dir string, number uint64, room int64) (disk.File, error) {
	name := segmentName(dir, number)
	f, err := disk.CreateTemp(d, name)
	if err != nil {
		return nil, err
	}
	err = func() error {
		zeros := make([]byte, min(pageSize+room, fillChunk))
		for rest := pageSize + room; rest > 0; {
			n, err := f.Write(zeros[:min(rest, fillChunk)])
			if err != nil {
				return err
			}
			rest -= int64(n)
		}
		if err := f.Sync(); err != nil { // the zeros, and the size
			return err
		}
		if err := d.Rename(disk.TempName(name), name); err != nil {
			return err
		}
		return d.SyncDir(dir)
	}()
	if err != nil {
		_ = f.Close()
		_ = d.Remove(disk.TempName(name))
		_ = d.Remove(name)
		return nil, err
	}
	return f, nil
}

// errSize says that a file has not the room that it should.
var errSize = errors.New("of another size")

// reuseSegment gives a file that is not needed any more a new number. Its old
// frames stay, and are those of another salt.
func reuseSegment(d disk.FS, dir string, old, number uint64, room int64) (f disk.File, err error) {
	if f, err = d.Modify(segmentName(dir, old)); err != nil {
		return nil, err
	}
	if fi, serr := f.Stat(); serr != nil || fi.Size() != pageSize+room {
		return nil, errors.Join(serr, errSize, f.Close())
	}
	// The header goes before the name does: under its new number an old one
	// would not count, but it is not to be relied on.
	if _, err = f.WriteAt(make([]byte, pageSize), 0); err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = d.Rename(segmentName(dir, old), segmentName(dir, number))
	}
	if err == nil {
		err = d.SyncDir(dir)
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}
