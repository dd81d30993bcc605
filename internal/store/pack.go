package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/wakepoint/wakepoint/internal/seal"
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

// copiesIndex is the first index of the packs in which a generation keeps the
// second copies of its nodes and its manifest, see copies.go.
const copiesIndex = 1 << (packIndexBits - 1)

// String returns the name of the pack's file: "g412.0", and "g412.c0" for one
// with copies.
func (p PackID) String() string {
	if p.copies() {
		return fmt.Sprintf("%v.c%d", p.Generation(), uint16(p)-copiesIndex)
	}
	return fmt.Sprintf("%v.%d", p.Generation(), uint16(p))
}

// copies reports whether the pack is one with copies.
func (p PackID) copies() bool { return uint16(p) >= copiesIndex }

func (p PackID) file() string { return packsDir + "/" + p.String() }

// packOfFile is the pack of a file below the workload's directory.
func packOfFile(name string) (PackID, bool) {
	base, ok := strings.CutPrefix(name, packsDir+"/")
	if !ok {
		return 0, false
	}
	return parsePackID(base)
}

func parsePackID(s string) (PackID, bool) {
	gen, index, ok := strings.Cut(s, ".")
	if !ok {
		return 0, false
	}
	g, err := ParseGeneration(gen)
	if err != nil {
		return 0, false
	}
	rest, copies := strings.CutPrefix(index, "c")
	i, err := strconv.ParseUint(rest, 10, packIndexBits-1)
	if err != nil {
		return 0, false
	}
	if copies {
		i += copiesIndex
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
//	16      16    id of the store
//	32      16    id of the workload
//	48      8     number of the pack
//	56      16    random, for the key of this pack alone
//	72      16    seal of nothing, counter 0, with the pack's key and as
//	              associated data bytes 0..72
//
// The pack's key is Derive("pack", bytes 16..32, 32..48, 48..56, 56..72) of
// the root. A pack is written once, from its beginning to its end, by one
// process: no counter ever comes twice under a key.
const (
	magicPack    = "wakepak\n"
	packVersion  = 1
	packHeadText = 72
	packHeadSize = packHeadText + seal.Overhead
)

// workloadID is drawn when a workload is made.
type workloadID [16]byte

// packSeal seals the frames of one pack and breaks their seals. It may be used
// from any goroutine.
type packSeal struct {
	sealer *seal.Sealer
	place  [40]byte // store, workload, pack: bytes 16..56 of the header
}

func encodePackHead(k keyring, id PackID, salt [seal.SaltSize]byte) ([]byte, *packSeal) {
	b := make([]byte, 0, packHeadSize)
	b = append(b, magicPack...)
	b = binary.LittleEndian.AppendUint32(b, packVersion)
	b = binary.LittleEndian.AppendUint32(b, 0)
	b = append(b, k.store[:]...)
	b = append(b, k.workload[:]...)
	b = binary.LittleEndian.AppendUint64(b, uint64(id))
	b = append(b, salt[:]...)
	s := newPackSeal(k, b)
	return s.sealer.Seal(b, 0, nil, b), s
}

func newPackSeal(k keyring, head []byte) *packSeal {
	key := k.root.Derive("pack", head[16:32], head[32:48], head[48:56], head[56:72])
	return &packSeal{key.Sealer(), [40]byte(head[16:])}
}

// checkPackHead returns what breaks the seals of a pack.
func checkPackHead(b []byte, k keyring, id PackID) (*packSeal, error) {
	if len(b) != packHeadSize {
		return nil, errors.New("pack header: too short")
	}
	s := newPackSeal(k, b)
	_, err := s.sealer.Open(nil, 0, b[packHeadText:], b[:packHeadText])
	switch {
	case string(b[:8]) != magicPack:
		return nil, errors.New("pack header: wrong magic")
	case err != nil:
		return nil, fmt.Errorf("pack header: %w", err)
	case binary.LittleEndian.Uint32(b[8:]) != packVersion:
		return nil, fmt.Errorf("pack header: %w", ErrVersion)
	case binary.LittleEndian.Uint32(b[12:]) != 0:
		return nil, errors.New("pack header: reserved bytes are set")
	case [16]byte(b[16:32]) != k.store || workloadID(b[32:48]) != k.workload:
		return nil, errors.New("pack header: of another workload")
	case PackID(binary.LittleEndian.Uint64(b[48:])) != id:
		return nil, errors.New("pack header: of another pack")
	}
	return s, nil
}

// A frame holds one page, node or piece of a blob.
//
//	offset  size  field
//	0       1     kind: 1 page, 2 node, 3 blob, 4 copies
//	1       1     codec of the payload: 0 as it is, 1 S2 block, 2 Zstandard
//	2       2     zero
//	4       4     length of the payload as it is stored, n
//	8       4     counter: 1 for the first frame of the pack, and so on
//	12      n+16  payload, encoded and then sealed with the pack's key and the
//	              counter, and as associated data store, workload and pack as
//	              in the header, the frame's offset in the pack (4 bytes), and
//	              bytes 0..12
//
// Valid: kind and codec are known, bytes 2..4 are zero, the seal is whole.
// Nothing is read from a frame without a reference that led to it.
const (
	kindPage   = 1
	kindNode   = 2
	kindBlob   = 3
	kindCopies = 4

	frameHead     = 12
	frameOverhead = frameHead + seal.Overhead
	adSize        = 40 + 4 + frameHead
)

// identitySize is the length of an identity: long enough for what identities
// are compared with, which is what lay at the same place before.
const identitySize = 8

// identity tells apart what lay and lies at one place: the keyed BLAKE3 of a
// payload, cut. That bytes are whole is said by their seal.
type identity [identitySize]byte

// place says where a frame lies. The zero place is none.
type place struct {
	pack PackID
	off  uint32 // of the frame's header
	size uint32 // of the payload as stored, without its seal
}

func (p place) none() bool { return p.pack == 0 }

// cost is what the frame takes on disk.
func (p place) cost() int64 { return int64(p.size) + frameOverhead }

// entry is a reference to a frame: what it is and where it lies. Nodes have no
// identity.
type entry struct {
	id identity
	place
}

// payload is what a frame holds, encoded.
type payload struct {
	codec byte
	data  []byte
}

// associated is what a frame at an offset is sealed with.
func (s *packSeal) associated(off uint32, head []byte) [adSize]byte {
	var ad [adSize]byte
	n := copy(ad[:], s.place[:])
	binary.LittleEndian.PutUint32(ad[n:], off)
	copy(ad[n+4:], head[:frameHead])
	return ad
}

// appendFrame seals a payload that will lie at off.
func (s *packSeal) appendFrame(b []byte, off, counter uint32, kind byte, p payload) []byte {
	at := len(b)
	b = append(b, kind, p.codec, 0, 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(p.data)))
	b = binary.LittleEndian.AppendUint32(b, counter)
	ad := s.associated(off, b[at:])
	return s.sealer.Seal(b, uint64(counter), p.data, ad[:])
}

// openFrame breaks the seal of a whole frame that lies at off and appends the
// payload to dst, which may be a part of b. It returns the payload alone.
func (s *packSeal) openFrame(dst, b []byte, off uint32, kind byte) (payload, error) {
	if len(b) < frameOverhead {
		return payload{}, errors.New("frame: too short")
	}
	head := [frameHead]byte(b)
	ad := s.associated(off, head[:])
	counter := binary.LittleEndian.Uint32(head[8:])
	data, err := s.sealer.Open(dst, uint64(counter), b[frameHead:], ad[:])
	if err != nil {
		return payload{}, fmt.Errorf("frame: %w", err)
	}
	data = data[len(dst):]
	switch {
	case head[0] != kind:
		return payload{}, fmt.Errorf("frame: kind %d, want %d", head[0], kind)
	case head[1] > codecZstd:
		return payload{}, fmt.Errorf("frame: codec %d: %w", head[1], ErrVersion)
	case head[2] != 0 || head[3] != 0:
		return payload{}, errors.New("frame: reserved bytes are set")
	case binary.LittleEndian.Uint32(head[4:]) != uint32(len(data)):
		return payload{}, errors.New("frame: wrong length")
	}
	return payload{head[1], data}, nil
}
