package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"slices"
)

// Sections are addressed by page. A leaf (level 0) covers 16 pages, a node of
// level n covers 16 nodes of level n-1; level 9 covers all 1<<40 pages.
//
// The fan-out is 16 and not more because of changes that are scattered: a
// changed page costs about one leaf, and a full leaf of 16 takes 7 % of a
// page, one of 32 takes 14 %.
const (
	// PageSize is the grain of sections, in bytes.
	PageSize = 4096

	sizeMax   = 1 << 52 // bytes of a section
	fanBits   = 4
	fan       = 1 << fanBits
	levelMax  = 9
	placeSize = 1 + 4 + 2
	nodeMax   = 5 + binary.MaxVarintLen64*fan + (identitySize+placeSize)*fan
)

// span returns how many pages a node of a level covers.
func span(level int) int64 { return 1 << (fanBits * (level + 1)) }

// childOf returns which child of a node of a level leads to a page.
func childOf(level int, page int64) int { return int(page>>(fanBits*level)) & (fan - 1) }

// node is a node of the tree. In memory a child that has been loaded hangs in
// kids, and if it is dirty its entry in e is out of date.
type node struct {
	level int
	mask  uint16 // which children there are
	e     [fan]entry
	kids  *[fan]*node

	dirty bool
	orig  place  // where the node was read from; none for a new one
	was   string // its encoding there
}

func (n *node) has(i int) bool { return n.mask&(1<<i) != 0 }

func (n *node) kid(i int) *node {
	if n.kids == nil {
		return nil
	}
	return n.kids[i]
}

func (n *node) setKid(i int, k *node) {
	if n.kids == nil {
		n.kids = new([fan]*node)
	}
	n.kids[i] = k
}

// encodeNode encodes a node as the payload of a frame. Integers are little
// endian.
//
//	offset  size  field
//	0       1     version: 1
//	1       1     level, 0..9; the children of level 0 are pages
//	2       2     mask of the children that there are, not 0
//	4       1     number of packs, p
//	5       q     numbers of the packs, ascending: the first, and then by how
//	              much each is greater than the one before; as uvarints (the
//	              shortest, as in encoding/binary)
//	5+q     15/7  for each child, ascending:
//	                8  level 0 only: identity of the page
//	                1  index into the packs
//	                4  offset of the child's frame
//	                2  length of its payload
//
// Valid: exactly that long, every pack number greater than the one before it
// and used by a child.
func encodeNode(n *node) []byte {
	var packs [fan]PackID
	used := packs[:0]
	for i := range fan {
		if n.has(i) && !slices.Contains(used, n.e[i].pack) {
			used = append(used, n.e[i].pack)
		}
	}
	slices.Sort(used)
	b := make([]byte, 0, nodeMax)
	b = append(b, 1, byte(n.level))
	b = binary.LittleEndian.AppendUint16(b, n.mask)
	b = append(b, byte(len(used)))
	var before PackID
	for _, p := range used {
		b = binary.AppendUvarint(b, uint64(p-before))
		before = p
	}
	for i := range fan {
		if !n.has(i) {
			continue
		}
		e := &n.e[i]
		at, _ := slices.BinarySearch(used, e.pack)
		if n.level == 0 {
			b = append(b, e.id[:]...)
		}
		b = append(b, byte(at))
		b = binary.LittleEndian.AppendUint32(b, e.off)
		b = binary.LittleEndian.AppendUint16(b, uint16(e.size))
	}
	return b
}

// decodeNode is the inverse of encodeNode; it accepts nothing that encodeNode
// does not make.
func decodeNode(b []byte) (*node, error) {
	if len(b) < 5 {
		return nil, errors.New("node: too short")
	}
	if b[0] != 1 {
		return nil, fmt.Errorf("node: version %d: %w", b[0], ErrVersion)
	}
	n := &node{level: int(b[1]), mask: binary.LittleEndian.Uint16(b[2:])}
	count := int(b[4])
	if n.level > levelMax || n.mask == 0 || count == 0 || count > fan {
		return nil, errors.New("node: bad header")
	}
	packs, b, err := decodePacks(b[5:], count)
	if err != nil {
		return nil, err
	}
	size, id := placeSize, 0
	if n.level == 0 {
		size, id = identitySize+placeSize, identitySize
	}
	if len(b) != size*bits.OnesCount16(n.mask) {
		return nil, errors.New("node: wrong length")
	}
	var used uint32
	for i := range fan {
		if !n.has(i) {
			continue
		}
		copy(n.e[i].id[:], b[:id])
		at := int(b[id])
		if at >= count {
			return nil, errors.New("node: bad pack index")
		}
		used |= 1 << at
		n.e[i].place = place{packs[at], binary.LittleEndian.Uint32(b[id+1:]), uint32(binary.LittleEndian.Uint16(b[id+5:]))}
		b = b[size:]
	}
	if used != 1<<count-1 {
		return nil, errors.New("node: unused pack number")
	}
	return n, nil
}

// decodePacks reads the numbers of packs and returns what is behind them.
func decodePacks(b []byte, count int) (packs [fan]PackID, rest []byte, err error) {
	var before PackID
	for i := range count {
		d, n := binary.Uvarint(b)
		if n <= 0 || n > 1 && b[n-1] == 0 || d == 0 || uint64(before) > math.MaxUint64-d {
			return packs, nil, errors.New("node: bad pack number")
		}
		before += PackID(d)
		if before.Generation() == 0 {
			return packs, nil, errors.New("node: bad pack number")
		}
		packs[i], b = before, b[n:]
	}
	return packs, b, nil
}
