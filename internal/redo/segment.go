package redo

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/wakepoint/wakepoint/internal/disk"
)

// A segment is a file of the log: a page that says what it is, and frames. Its
// number is its name. It is made long before it is needed, full of zeros, with the
// header of a spare one; it becomes a part of the log by another header, which is
// written with the first frame. What follows another segment's beginning in an
// earlier one does not count: so a tail is written anew.
//
//	offset  size
//	0       8     "WKPTREDO"; of a spare one "WKPTSPAR"
//	8       4     version, 1
//	12      4     CRC-32C of the other 52 bytes
//	16      8     number
//	24      8     position of the first frame; of a spare one 0, as salt and turn
//	32      8     salt
//	40      8     room for frames, in bytes; with the page it is the size of the file
//	48      8     its turn: how many were in use before it
//
// The header stands twice, at 0 and at half of the page: in two sectors, of which
// each is written whole or not at all. So a change of the header that is cut short
// leaves each copy as the old one or as the new one, and never none. It is in use
// if one copy says so, and a spare one if none does and one says that: zeros, or
// another number than that of the name, are damage. Only while a file that is used
// again gets its new name its header has that number already.
const (
	pageSize      = 4096
	headerCopy    = pageSize / 2
	headerSize    = 56
	magic         = "WKPTREDO"
	magicSpare    = "WKPTSPAR"
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

// page is the first page of a segment that is in use.
func (s segment) page() []byte { return s.headers(magic) }

// sparePage is that of one that is not.
func sparePage(number uint64, room int64) []byte {
	return segment{number: number, room: room}.headers(magicSpare)
}

func (s segment) headers(magic string) []byte {
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

// errUnused says that a segment was made and is not in use.
var errUnused = errors.New("segment not in use")

// errHeader says that bytes are no header.
var errHeader = errors.New("no header")

// parseHeader reads one copy of a header; errUnused: of a spare segment.
func parseHeader(h []byte) (segment, error) {
	m := string(h[:8])
	if m != magic && m != magicSpare || !same(binary.LittleEndian.Uint32(h[12:]), headerSum(h)) {
		return segment{}, errHeader
	}
	s := segment{number: binary.LittleEndian.Uint64(h[16:]), start: Position(binary.LittleEndian.Uint64(h[24:])),
		salt: binary.LittleEndian.Uint64(h[32:]), room: int64(binary.LittleEndian.Uint64(h[40:])), turn: binary.LittleEndian.Uint64(h[48:])}
	if v := binary.LittleEndian.Uint32(h[8:]); v != version {
		return s, fmt.Errorf("%w: segment %x has version %d", ErrNewer, s.number, v)
	}
	if m == magicSpare {
		return s, errUnused
	}
	return s, nil
}

// parsePage reads the first page of a segment, of which one copy may be damaged.
// Errors: errUnused, ErrNewer, a *DamageError.
func parsePage(p []byte, number uint64) (segment, error) {
	why, spare := errHeader, false
	for _, at := range []int{0, headerCopy} {
		s, err := parseHeader(p[at : at+headerSize])
		switch {
		case errors.Is(err, ErrNewer):
			return segment{}, err
		case errors.Is(err, errUnused):
			spare = true
		case err == nil && s.number == number:
			return s, nil
		case err == nil:
			why = fmt.Errorf("it is that of segment %x", s.number)
		}
	}
	if spare {
		return segment{}, errUnused
	}
	return segment{}, &DamageError{File: segmentName("", number), Why: why.Error()}
}

// readPage reads that of a file, and the file's size.
func readPage(d disk.FS, dir string, number uint64) (p []byte, size int64, err error) {
	f, err := d.Open(segmentName(dir, number))
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, 0, err
	}
	p = make([]byte, pageSize)
	if n, err := f.ReadAt(p, 0); n < pageSize && errors.Is(err, io.EOF) {
		return nil, 0, &DamageError{File: segmentName("", number), Why: fmt.Sprintf("it has %d bytes", fi.Size())}
	} else if n < pageSize {
		return nil, 0, err
	}
	return p, fi.Size(), nil
}

// readHeader reads that of a file.
func readHeader(d disk.FS, dir string, number uint64) (segment, error) {
	p, _, err := readPage(d, dir, number)
	if err != nil {
		return segment{}, err
	}
	return parsePage(p, number)
}

// Spoiled says of the segments of a log which one has damage that does not matter
// yet: in one copy of its header, or in its size. Each is a *DamageError. The log
// may be open.
func Spoiled(o Options) error {
	if o.FS == nil {
		o.FS = disk.OS{}
	}
	entries, err := o.FS.ReadDir(o.Dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		number, ok := segmentNumber(e.Name())
		if !ok {
			continue
		}
		err := spoiled(o.FS, o.Dir, number)
		if err != nil { // it may have been read while it was written
			err = spoiled(o.FS, o.Dir, number)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func spoiled(d disk.FS, dir string, number uint64) error {
	p, size, err := readPage(d, dir, number)
	if err != nil {
		return err
	}
	for _, at := range []int{0, headerCopy} {
		s, err := parseHeader(p[at : at+headerSize])
		if err == nil && s.number != number {
			err = fmt.Errorf("it is that of segment %x", s.number)
		} else if (err == nil || errors.Is(err, errUnused)) && size != pageSize+s.room {
			err = fmt.Errorf("it has %d bytes, not %d", size, pageSize+s.room)
		}
		if err != nil && !errors.Is(err, errUnused) {
			return &DamageError{File: segmentName("", number), Why: err.Error()}
		}
	}
	return nil
}

// Empty is the file of a log that begins at a position and has nothing yet, and
// its base name: for a copy of what a log was for. It has no room.
func Empty(at Position) (name string, data []byte) {
	s := segment{number: 1, start: at, salt: rand.Uint64()}
	return segmentName("", s.number), s.page()
}

// fillChunk is how much of a segment is filled before the disk is waited for, in
// bytes, so that no long queue of writes stands before the log's.
const fillChunk = 256 << 10

// makeSegment makes a file that is not in use yet, with room for frames, and
// makes it durable: from then on writing to it changes no size. Between two
// pieces it calls rest with how long one took.
func makeSegment(d disk.FS, dir string, number uint64, room int64, rest func(time.Duration)) (disk.File, error) {
	name := segmentName(dir, number)
	f, err := disk.CreateTemp(d, name)
	if err != nil {
		return nil, err
	}
	err = func() error {
		if _, err := f.Write(sparePage(number, room)); err != nil {
			return err
		}
		zeros := make([]byte, min(room, fillChunk))
		for left := room; left > 0; {
			began := time.Now()
			n, err := f.Write(zeros[:min(left, fillChunk)])
			if err != nil {
				return err
			}
			if left -= int64(n); left == 0 {
				break
			}
			if err := f.Datasync(); err != nil {
				return err
			}
			rest(time.Since(began))
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
	// The header goes before the name does: under its new number the old one
	// would be damage.
	if _, err = f.WriteAt(sparePage(number, room), 0); err == nil {
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
