package durable

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/wakepoint/wakepoint/internal/disk"
	"github.com/wakepoint/wakepoint/internal/redo"
)

// A generation is a file: what a checkpoint wrote of the leaves, and an index of
// where all leaves are, in this file and in earlier ones. Numbers are in little
// endian; sums are CRC-32C.
//
//	offset  size
//	0       4096  first page: the header twice, at 0 and at 2048
//	4096          extents, one behind the other
//	              index
//	              index again
//
// The header:
//
//	0       8     "WKPTGNRN"
//	8       4     version, 1
//	12      4     sum of the identity (16 bytes) and the other 76 bytes
//	16      8     number
//	24      8     position of the log up to which it has everything
//	32      8     when it was made: nanoseconds since 1970, at least -2^63 and at most 2^63-1
//	40      8     offset of the index
//	48      8     length of the index
//	56      8     how many leaves
//	64      8     how many bytes of extents are in use, in all files
//	72      4     sum of the index
//	76      4     how far back the number of the oldest one is that can be gone on from besides,
//	              since the log behind it is there, too; 0: there is none
//
// An extent is a base or a run:
//
//	0       4     sum of the identity, the file's number (8), the extent's offset (8) and the rest
//	4             uvarint: how many changes
//	              changes (see block)
//
// The index has, as uvarints, how many files are needed besides this one, and
// for each how far back its number is; the length of the catalog's changes, which
// are a leaf, and how many they are; these changes (see block); then for each
// other leaf, in order:
//
//	uvarint  length of its first key
//	         first key; that of the first leaf is 00 00 00 01
//	uvarint  1 if it has a base, and twice the number of its runs, of which there are at most 33
//	         each of these, the base first and then the oldest run: how far back its file is,
//	         offset, length (three uvarints)
//
// A file gets its name when it is durable. It is never changed.
const (
	generationMagic   = "WKPTGNRN"
	generationVersion = 1
	generationSuffix  = ".gen"
	generationHeader  = 80
	generationPage    = 4096
	headerSecond      = generationPage / 2
)

// extent is where a block lies.
type extent struct {
	file uint64
	at   int64
	size uint32 // 0: there is none
}

// stored is where a leaf lies.
type stored struct {
	base extent
	runs []extent // the oldest first
}

// indexed is a leaf of an index.
type indexed struct {
	low []byte
	stored
}

// generation is what is known of one without its index.
type generation struct {
	number   uint64
	position redo.Position
	made     time.Time
	at, size int64 // of the index
	count    uint64
	since    uint64 // the oldest that can be gone on from besides, when it was made
	live     int64  // bytes of extents in use
	sum      uint32
	needs    []uint64 // files, with its own, in order
	total    int64    // bytes of the file
	catalog  *block
}

// kept is a time as a header can hold it: the nearest one.
func kept(t time.Time) time.Time {
	for _, bound := range []time.Time{time.Unix(0, math.MinInt64), time.Unix(0, math.MaxInt64)} {
		if first := bound.Year() < 1970; first && t.Before(bound) || !first && t.After(bound) {
			return bound
		}
	}
	return t
}

func generationName(dir string, number uint64) string {
	return filepath.Join(dir, fmt.Sprintf("%016x%s", number, generationSuffix))
}

// generationNumber reads a file's name; false for one of another kind.
func generationNumber(base string) (uint64, bool) {
	digits, ok := strings.CutSuffix(base, generationSuffix)
	if !ok || len(digits) != 16 || strings.ToLower(digits) != digits {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 16, 64)
	return n, err == nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (id identity) sum(b ...[]byte) uint32 {
	s := crc32.Checksum(id[:], castagnoli)
	for _, p := range b {
		s = crc32.Update(s, castagnoli, p)
	}
	return s
}

// page is the first page of a generation's file.
func (g *generation) page(id identity) []byte {
	p := make([]byte, generationPage)
	h := p[:generationHeader]
	copy(h, generationMagic)
	binary.LittleEndian.PutUint32(h[8:], generationVersion)
	for i, v := range []uint64{g.number, uint64(g.position), uint64(g.made.UnixNano()), uint64(g.at), uint64(g.size), g.count, uint64(g.live)} {
		binary.LittleEndian.PutUint64(h[16+8*i:], v)
	}
	binary.LittleEndian.PutUint32(h[72:], g.sum)
	binary.LittleEndian.PutUint32(h[76:], uint32(min(g.number-g.since, math.MaxUint32)))
	binary.LittleEndian.PutUint32(h[12:], id.sum(h[:12], h[16:]))
	copy(p[headerSecond:], h)
	return p
}

// parsePage reads a first page, of which one copy may be damaged.
func parsePage(p []byte, id identity, number uint64) (generation, error) {
	err := errors.New("no header")
	for _, at := range []int{0, headerSecond} {
		h := p[at : at+generationHeader]
		if string(h[:8]) != generationMagic || !equal(binary.LittleEndian.Uint32(h[12:]), id.sum(h[:12], h[16:])) {
			continue
		}
		if v := binary.LittleEndian.Uint32(h[8:]); v != generationVersion {
			return generation{}, fmt.Errorf("%w: generation %d has version %d", ErrNewer, number, v)
		}
		u := func(i int) uint64 { return binary.LittleEndian.Uint64(h[16+8*i:]) }
		g := generation{number: u(0), position: redo.Position(u(1)), made: time.Unix(0, int64(u(2))), at: int64(u(3)), size: int64(u(4)),
			count: u(5), live: int64(u(6)), sum: binary.LittleEndian.Uint32(h[72:])}
		g.since = g.number - uint64(binary.LittleEndian.Uint32(h[76:]))
		if g.total = g.at + 2*g.size; g.number == number && g.since <= number && g.at >= generationPage && g.size >= 0 && g.total >= g.at {
			return g, nil
		}
		err = fmt.Errorf("it is that of generation %d", g.number)
	}
	return generation{}, err
}

// appendIndex makes an index, of which a header says the rest.
func (g *generation) appendIndex(dst []byte, catalog *block, leaves []indexed) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(g.needs)-1))
	for _, n := range g.needs {
		if n != g.number {
			dst = binary.AppendUvarint(dst, g.number-n)
		}
	}
	dst = binary.AppendUvarint(dst, uint64(catalog.size()))
	dst = binary.AppendUvarint(dst, uint64(catalog.len()))
	if catalog != nil {
		dst = append(dst, catalog.data[catalog.places[0]:]...)
	}
	for i := range leaves {
		l := &leaves[i]
		dst = binary.AppendUvarint(dst, uint64(len(l.low)))
		dst = append(dst, l.low...)
		what := uint64(len(l.runs)) << 1
		if l.base.size > 0 {
			dst = g.appendExtent(binary.AppendUvarint(dst, what|1), l.base)
		} else {
			dst = binary.AppendUvarint(dst, what)
		}
		for _, e := range l.runs {
			dst = g.appendExtent(dst, e)
		}
	}
	return dst
}

func (g *generation) appendExtent(dst []byte, e extent) []byte {
	dst = binary.AppendUvarint(dst, g.number-e.file)
	dst = binary.AppendUvarint(dst, uint64(e.at))
	return binary.AppendUvarint(dst, uint64(e.size))
}

var errIndex = errors.New("malformed index")

// indexReader takes an index apart.
type indexReader struct {
	rest []byte
	bad  bool
}

func (r *indexReader) uint() uint64 {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 {
		r.bad, r.rest = true, nil
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

func (r *indexReader) bytes(n uint64) []byte {
	if n > uint64(len(r.rest)) {
		r.bad, r.rest = true, nil
		return nil
	}
	b := r.rest[:n:n]
	r.rest = r.rest[n:]
	return b
}

func (r *indexReader) extent(g *generation) extent {
	e := extent{file: g.number - r.uint(), at: int64(r.uint())}
	size := r.uint()
	e.size = uint32(size)
	r.bad = r.bad || e.at < generationPage || size == 0 || size != uint64(e.size) || !g.needsFile(e.file)
	return e
}

func (g *generation) needsFile(number uint64) bool {
	_, found := slices.BinarySearch(g.needs, number)
	return found
}

// parseIndex reads an index, and sets what files the generation needs, and its
// catalog.
func (g *generation) parseIndex(b []byte) ([]indexed, error) {
	r := &indexReader{rest: b}
	g.needs = []uint64{g.number}
	for n := r.uint(); n > 0 && !r.bad; n-- {
		back := r.uint()
		r.bad = r.bad || back == 0 || back > g.number
		g.needs = append(g.needs, g.number-back)
	}
	slices.Sort(g.needs)
	if r.bad || g.count == 0 || g.count > uint64(len(b)) {
		return nil, errIndex
	}
	size, count := r.uint(), r.uint()
	entries := r.bytes(size)
	if r.bad || count > size {
		return nil, errIndex
	}
	if count > 0 {
		var err error
		if g.catalog, err = decodeBlock(entries, int(count)); err != nil {
			return nil, err
		}
	}
	leaves := make([]indexed, 0, g.count)
	for len(r.rest) > 0 {
		l := indexed{low: r.bytes(r.uint())}
		what := r.uint()
		if what>>1 > runsMax+1 {
			return nil, errIndex
		}
		if what&1 != 0 {
			l.base = r.extent(g)
		}
		if what > 1 {
			l.runs = make([]extent, what>>1)
		}
		for i := range l.runs {
			l.runs[i] = r.extent(g)
		}
		if n := len(leaves); r.bad || n == 0 && !bytes.Equal(l.low, prefix(nil, catalog+1)) || n > 0 && bytes.Compare(leaves[n-1].low, l.low) >= 0 {
			return nil, errIndex
		}
		leaves = append(leaves, l)
	}
	if uint64(len(leaves)) != g.count {
		return nil, errIndex
	}
	return leaves, nil
}

// readGeneration reads a generation's header and index, each of which may have
// one copy damaged.
func readGeneration(d disk.FS, dir string, id identity, number uint64) (generation, []indexed, error) {
	f, err := d.Open(generationName(dir, number))
	if err != nil {
		return generation{}, nil, err
	}
	defer f.Close()
	p := make([]byte, generationPage)
	if _, err := f.ReadAt(p, 0); err != nil && !errors.Is(err, io.EOF) {
		return generation{}, nil, err
	}
	g, err := parsePage(p, id, number)
	if err != nil {
		return g, nil, err
	}
	fi, err := f.Stat()
	if err != nil || fi.Size() < g.at+g.size {
		return g, nil, errors.Join(err, fmt.Errorf("the file has %d bytes, and the index ends at %d", fi.Size(), g.at+g.size))
	}
	b := make([]byte, g.size)
	for _, at := range []int64{g.at, g.at + g.size} {
		if _, err = f.ReadAt(b, at); err == nil && equal(id.sum(b), g.sum) {
			leaves, err := g.parseIndex(b)
			return g, leaves, err
		}
	}
	return g, nil, errors.Join(errIndex, err)
}

// seal makes an extent of a block.
func (id identity) seal(dst []byte, file uint64, at int64, b *block) []byte {
	n := len(dst)
	dst = append(dst, 0, 0, 0, 0)
	dst = binary.AppendUvarint(dst, uint64(b.len()))
	dst = append(dst, b.data[b.places[0]:]...)
	binary.LittleEndian.PutUint32(dst[n:], id.extentSum(file, at, dst[n:]))
	return dst
}

func (id identity) extentSum(file uint64, at int64, b []byte) uint32 {
	var where [16]byte
	binary.LittleEndian.PutUint64(where[:], file)
	binary.LittleEndian.PutUint64(where[8:], uint64(at))
	return id.sum(where[:], b[4:])
}

var errSum = errors.New("the checksum is not that of the data")

// open makes a block of an extent, and checks it. It keeps b.
func (id identity) open(e extent, b []byte) (*block, error) {
	if len(b) < 5 || !equal(binary.LittleEndian.Uint32(b), id.extentSum(e.file, e.at, b)) {
		return nil, errSum
	}
	count, n := binary.Uvarint(b[4:])
	if n <= 0 || count == 0 || count > uint64(len(b)) {
		return nil, errCodec
	}
	return decodeBlock(b[4+n:], int(count))
}
