package crashfs

import (
	"bytes"
	"slices"
)

// A body is what a file holds, as processes see it and as it is durable. It is
// in pieces of so many sectors as a word has bits, so that a disk can be copied
// for little, and a large file of zeros takes nothing.
type body struct {
	size     int64   // as processes see it
	diskSize int64   // as it is durable
	pieces   []piece // enough for both; behind a size there are zeros

	flights int // fsyncs that are on their way
	begun   int // fsyncs, in their order
	ended   int // the latest of those that have ended well
}

const pieceSize = 64 * Sector

// piece is a part of a file. Slices are nil, which is zeros, or pieceSize long.
type piece struct {
	data   []byte // as processes see it
	own    bool   // whether data may be changed in place
	disk   []byte // as it is durable; never changed in place
	dirty  uint64 // sectors written since an fsync began
	flying uint64 // sectors that an fsync on its way writes
	lost   uint64 // sectors whose fsync failed, and which no other one will write
}

// open reports whether a cut may leave one of two things.
func (p *piece) open() uint64 { return p.dirty | p.flying }

// clean reports whether the disk holds what processes see.
func (b *body) clean() bool {
	return b.size == b.diskSize && !slices.ContainsFunc(b.pieces, func(p piece) bool { return p.open()|p.lost != 0 })
}

// reach makes enough pieces for a size.
func (b *body) reach(size int64) {
	if n := int((size + pieceSize - 1) / pieceSize); n > len(b.pieces) {
		b.pieces = append(b.pieces, make([]piece, n-len(b.pieces))...)
	}
}

// read reads into p what there is from an offset on.
func (b *body) read(p []byte, off int64) int {
	if off >= b.size {
		return 0
	}
	n := int(min(int64(len(p)), b.size-off))
	for i := 0; i < n; {
		at, in := (off+int64(i))/pieceSize, (off+int64(i))%pieceSize
		part := p[i:min(n, i+int(pieceSize-in))]
		if data := b.pieces[at].data; data != nil {
			copy(part, data[in:])
		} else {
			clear(part)
		}
		i += len(part)
	}
	return n
}

// write writes p at an offset, and makes the file longer where it must.
func (b *body) write(p []byte, off int64) {
	if len(p) == 0 {
		return
	}
	end := off + int64(len(p))
	b.soil(off, end)
	b.size = max(b.size, end)
	for i := 0; i < len(p); {
		at, in := (off+int64(i))/pieceSize, (off+int64(i))%pieceSize
		part := p[i:min(len(p), i+int(pieceSize-in))]
		if pc := &b.pieces[at]; len(part) == pieceSize && zero(part) {
			pc.data, pc.own = nil, false
		} else if pc.data != nil || !zero(part) {
			copy(pc.mine()[in:], part)
		}
		i += len(part)
	}
}

// zeros is what a piece without data holds.
var zeros [pieceSize]byte

func zero(p []byte) bool { return bytes.Equal(p, zeros[:len(p)]) }

// mine is the data of a piece, to be changed.
func (p *piece) mine() []byte {
	if !p.own {
		data := make([]byte, pieceSize)
		copy(data, p.data)
		p.data, p.own = data, true
	}
	return p.data
}

// resize cuts the file off, or makes it longer by zeros.
func (b *body) resize(size int64) {
	b.soil(min(size, b.size), max(size, b.size))
	for i := size / pieceSize; i*pieceSize < b.size; i++ {
		if p := &b.pieces[i]; p.data != nil {
			clear(p.mine()[max(0, size-i*pieceSize):])
		}
	}
	b.size = size
}

// soil marks what a write has touched.
func (b *body) soil(from, to int64) {
	b.reach(to)
	for s := from / Sector; s*Sector < to; s++ {
		p, bit := &b.pieces[s/64], uint64(1)<<(s%64)
		p.dirty |= bit
		p.lost &^= bit
	}
}

// flight is an fsync on its way: what was written before it began.
type flight struct {
	number int
	size   int64
	parts  []part
	over   bool
}

// part is a piece of which an fsync writes some sectors.
type part struct {
	at      int
	data    []byte
	sectors uint64
	whole   bool // whether the others are on the disk
}

// begin begins an fsync. What is written from now on is not a part of it.
func (b *body) begin() *flight {
	b.begun++
	b.flights++
	f := &flight{number: b.begun, size: b.size}
	for i := range b.pieces {
		p := &b.pieces[i]
		if p.open() == 0 {
			continue
		}
		p.flying, p.dirty, p.own = p.open(), 0, false
		f.parts = append(f.parts, part{i, p.data, p.flying, p.lost == 0})
	}
	return f
}

// land ends an fsync well.
func (b *body) land(f *flight) {
	if f.over = true; f.number > b.ended { // else a later one has written it
		b.ended = f.number
		for _, w := range f.parts {
			p := &b.pieces[w.at]
			if w.whole && p.lost == 0 {
				p.disk = w.data
			} else {
				p.disk = mix(p.disk, w.data, w.sectors&^p.lost)
			}
		}
		for i := f.size / pieceSize; i*pieceSize < b.diskSize; i++ {
			if p := &b.pieces[i]; p.disk != nil {
				p.disk = slices.Clone(p.disk)
				clear(p.disk[max(0, f.size-i*pieceSize):])
			}
		}
		b.diskSize = f.size
	}
	b.done()
}

// lose ends an fsync badly: what it should have written is taken to be clean.
func (b *body) lose(f *flight) {
	if f.over = true; f.number > b.ended {
		for _, w := range f.parts {
			p := &b.pieces[w.at]
			p.lost |= w.sectors &^ p.dirty
		}
	}
	b.done()
}

// forget ends an fsync that was not done, unless it has ended.
func (b *body) forget(f *flight) {
	if f.over {
		return
	}
	for _, w := range f.parts {
		b.pieces[w.at].dirty |= w.sectors
	}
	b.done()
}

func (b *body) done() {
	if b.flights--; b.flights > 0 {
		return
	}
	for i := range b.pieces {
		b.pieces[i].flying = 0
	}
}

// mix is a piece of which some sectors are those of another.
func mix(base, other []byte, sectors uint64) []byte {
	out := make([]byte, pieceSize)
	copy(out, base)
	for s := range 64 {
		if sectors&(1<<s) != 0 {
			lo, hi := s*Sector, (s+1)*Sector
			clear(out[lo:hi])
			if other != nil {
				copy(out[lo:hi], other[lo:hi])
			}
		}
	}
	return out
}

// copied is the same file on a disk of which no fsync is on its way.
func (b *body) copied() body {
	n := *b
	n.pieces, n.flights = slices.Clone(b.pieces), 0
	for i := range n.pieces {
		b.pieces[i].own = false
		p := &n.pieces[i]
		p.own, p.dirty, p.flying = false, p.open(), 0
	}
	return n
}

// solid is a file of which all is durable.
func solid(size int64, disk [][]byte) body {
	b := body{size: size, diskSize: size}
	b.reach(size)
	for i := range b.pieces {
		p := disk[i]
		if end := size - int64(i)*pieceSize; p != nil && end < pieceSize && !zero(p[end:]) {
			p = slices.Clone(p)
			clear(p[end:])
		}
		b.pieces[i].data, b.pieces[i].disk = p, p
	}
	return b
}

// durable is the pieces of a file as they are durable.
func (b *body) durable() [][]byte {
	all := make([][]byte, len(b.pieces))
	for i := range b.pieces {
		all[i] = b.pieces[i].disk
	}
	return all
}
