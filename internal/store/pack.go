package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"

	"github.com/zeebo/blake3"
)

// PackID numbers a pack: the generation that wrote it times 1<<16, plus an
// index. As generation numbers are never reused, pack numbers are not either.
type PackID uint64

const (
	packIndexBits = 16
	generationMax = 1<<(64-packIndexBits) - 1
)

func packID(g Generation, index int) PackID { return PackID(uint64(g)<<packIndexBits | uint64(index)) }

// Generation returns the generation that wrote the pack.
func (p PackID) Generation() Generation { return Generation(p >> packIndexBits) }

// String returns the name of the pack's file: "g412.0".
func (p PackID) String() string { return fmt.Sprintf("%v.%d", p.Generation(), uint16(p)) }

func (p PackID) file() string { return packsDir + "/" + p.String() }

func parsePackID(s string) (PackID, bool) {
	gen, index, ok := strings.Cut(s, ".")
	if !ok {
		return 0, false
	}
	g, err := ParseGeneration(gen)
	if err != nil {
		return 0, false
	}
	i, err := strconv.ParseUint(index, 10, packIndexBits)
	if err != nil {
		return 0, false
	}
	id := packID(g, int(i))
	return id, id.String() == s
}

// A pack begins with a header, frames follow. Integers are little endian.
//
//	offset  size  field
//	0       8     magic: "wakepak\n"
//	8       4     version: 1
//	12      4     zero
//	16      16    id of the workload
//	32      8     number of the pack
//	40      16    random, for keys that belong to this pack alone
//	56      8     first bytes of the BLAKE3 of bytes 0..56
const (
	magicPack    = "wakepak\n"
	packVersion  = 1
	packHeadSize = 64
)

// workloadID is drawn when a workload is made.
type workloadID [16]byte

func encodePackHead(w workloadID, id PackID, salt [16]byte) []byte {
	b := make([]byte, 0, packHeadSize)
	b = append(b, magicPack...)
	b = binary.LittleEndian.AppendUint32(b, packVersion)
	b = binary.LittleEndian.AppendUint32(b, 0)
	b = append(b, w[:]...)
	b = binary.LittleEndian.AppendUint64(b, uint64(id))
	b = append(b, salt[:]...)
	sum := blake3.Sum256(b)
	return append(b, sum[:8]...)
}

func checkPackHead(b []byte, w workloadID, id PackID) error {
	if len(b) != packHeadSize {
		return errors.New("pack header: too short")
	}
	sum := blake3.Sum256(b[:56])
	switch {
	case string(b[:8]) != magicPack:
		return errors.New("pack header: wrong magic")
	case string(b[56:]) != string(sum[:8]):
		return errors.New("pack header: wrong checksum")
	case binary.LittleEndian.Uint32(b[8:]) != packVersion:
		return fmt.Errorf("pack header: %w", ErrVersion)
	case binary.LittleEndian.Uint32(b[12:]) != 0:
		return errors.New("pack header: reserved bytes are set")
	case workloadID(b[16:32]) != w:
		return errors.New("pack header: of another workload")
	case PackID(binary.LittleEndian.Uint64(b[32:])) != id:
		return errors.New("pack header: of another pack")
	}
	return nil
}

// A frame holds one page, node or piece of a blob.
//
//	offset  size  field
//	0       1     kind: 1 page, 2 node, 3 blob
//	1       1     codec of the payload: 0 as it is
//	2       2     zero
//	4       4     length of the payload, n
//	8       4     CRC-32C of bytes 0..8 and the payload
//	12      n     payload
//
// Valid: kind and codec are known, bytes 2..4 are zero, the CRC is right, and
// the payload's identity is the one in the reference that led here. Nothing
// is read from a frame without such a reference.
const (
	kindPage = 1
	kindNode = 2
	kindBlob = 3

	codecRaw = 0

	frameHead = 12
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// identity is the BLAKE3 of a payload, cut to 16 bytes.
type identity [16]byte

func identify(p []byte) identity {
	sum := blake3.Sum256(p)
	return identity(sum[:16])
}

// place says where a frame lies. The zero place is none.
type place struct {
	pack PackID
	off  uint32 // of the frame's header
	size uint32 // of the payload as stored
}

func (p place) none() bool { return p.pack == 0 }

// cost is what the frame takes on disk.
func (p place) cost() int64 { return int64(p.size) + frameHead }

// entry is a reference to a frame: what it is and where it lies.
type entry struct {
	id identity
	place
}

func appendFrame(b []byte, kind byte, payload []byte) []byte {
	at := len(b)
	b = append(b, kind, codecRaw, 0, 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(payload)))
	sum := crc32.Update(crc32.Checksum(b[at:], castagnoli), castagnoli, payload)
	b = binary.LittleEndian.AppendUint32(b, sum)
	return append(b, payload...)
}

// checkFrame checks a whole frame against the reference that led to it and
// returns the payload, a part of b.
func checkFrame(b []byte, kind byte, want entry) ([]byte, error) {
	payload, err := decodeFrame(b, kind)
	if err != nil {
		return nil, err
	}
	if identify(payload) != want.id {
		return nil, errors.New("wrong identity")
	}
	return payload, nil
}

// decodeFrame checks all of a frame but its identity.
func decodeFrame(b []byte, kind byte) ([]byte, error) {
	if len(b) < frameHead {
		return nil, errors.New("frame: too short")
	}
	payload := b[frameHead:]
	sum := crc32.Update(crc32.Checksum(b[:8], castagnoli), castagnoli, payload)
	switch {
	case binary.LittleEndian.Uint32(b[8:]) != sum:
		return nil, errors.New("frame: wrong checksum")
	case b[0] != kind:
		return nil, fmt.Errorf("frame: kind %d, want %d", b[0], kind)
	case b[1] != codecRaw:
		return nil, fmt.Errorf("frame: codec %d: %w", b[1], ErrVersion)
	case b[2] != 0 || b[3] != 0:
		return nil, errors.New("frame: reserved bytes are set")
	case binary.LittleEndian.Uint32(b[4:]) != uint32(len(payload)):
		return nil, errors.New("frame: wrong length")
	}
	return payload, nil
}
