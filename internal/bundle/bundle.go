// Package bundle is the format of the one file in which a generation travels:
// all that a start elsewhere needs, signed.
//
// A Writer writes it from front to back. A reader goes through it twice: Check
// reads the file for its signature and looks at nothing else in it, and only
// what Check has found whole is read by Checked.Read, which hashes it once more
// and says so when it is not the same. Neither holds more in memory than one
// frame and one value.
//
// The format is specified here and in doc/format.md. Integers are little
// endian.
//
//	offset  size  field
//	0       8     magic: "wakebun\n"
//	8       4     version: 1
//	12      4     zero
//	16      8     when it was made, ns since 1970
//	24      8     zero
//	32      32    Ed25519 public key of who signed it
//	64            frames, the last one of kind end
//	        64    signature: Ed25519ph (RFC 8032, 5.1), context
//	              "wakepoint bundle 1", of all bytes before it
//
// A frame:
//
//	offset  size  field
//	0       1     kind
//	1       1     codec: 0 as it is, 1 a Zstandard frame that is shorter
//	2       2     zero
//	4       4     length of the payload as it lies here, n
//	8       4     length of the payload, at most 1 MiB and 8 bytes
//	12      n     payload
//
// Kinds, and the order in which they come:
//
//	1 info     the CBOR map of Info; once, first
//	2 record   8 bytes: the length of the value; then its name. Pieces follow
//	3 blob     likewise
//	4 section  its name. Runs follow
//	5 piece    the next bytes of a value: 1 MiB, the last one what is left
//	6 run      8 bytes: an offset; then the pages that lie there. Ascending
//	7 end      empty; last
//
// Valid: the signature is whole; records come before blobs and these before
// sections, each by ascending names, so that none comes twice; nothing is
// larger than the limits below; nothing stands behind the signature.
package bundle

import (
	"crypto"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"
)

const (
	magic   = "wakebun\n"
	version = 1
	domain  = "wakepoint bundle 1" // of the signature

	headSize      = 64
	frameHeadSize = 12
	prefixSize    = 8 // of a payload: a length or an offset

	// PageSize is the grain of sections, in bytes.
	PageSize = 4096
	// RunMax is the length of the longest run, in bytes.
	RunMax = 1 << 20

	// SectionMax is the end of the longest section, in bytes.
	SectionMax = 1 << 52

	pieceMax   = 1 << 20
	payloadMax = prefixSize + pieceMax

	nameMax   = 1 << 10   // bytes of the name of a blob or section
	recordMax = 16 << 20  // bytes of a record
	blobMax   = 256 << 20 // bytes of a blob
	countMax  = 1 << 16   // records, blobs or sections
)

// The kinds of frames.
const (
	kindInfo = iota + 1
	kindRecord
	kindBlob
	kindSection
	kindPiece
	kindRun
	kindEnd
)

// The codecs of payloads.
const (
	codecPlain = iota
	codecZstd
)

var (
	// ErrFormat says that a file is none that a Writer wrote.
	ErrFormat = errors.New("not a file of wakepoint export")
	// ErrVersion says that another version wrote it.
	ErrVersion = errors.New("written by another version")
	// ErrSignature says that a file is not what was signed: it was cut short,
	// damaged or changed.
	ErrSignature = errors.New("not what was signed")
	// ErrTooLarge says that something does not fit the format.
	ErrTooLarge = errors.New("too large")
)

// Info says what a file holds.
type Info struct {
	Workload   string            `cbor:"workload"`   // its name where it comes from
	Generation uint64            `cbor:"generation"` // its number there
	Committed  int64             `cbor:"committed"`  // ns since 1970
	Pause      int64             `cbor:"pause"`      // ns
	Tag        string            `cbor:"tag"`
	Meta       map[string]string `cbor:"meta"`
}

// check refuses what no generation says of itself.
func (i Info) check() error {
	switch {
	case !validName(i.Workload):
		return fmt.Errorf("workload %q: %w", i.Workload, ErrFormat)
	case i.Generation == 0 || i.Pause < 0 || len(i.Tag) > nameMax:
		return fmt.Errorf("generation: %w", ErrFormat)
	}
	return nil
}

// validName is the rule for names of workloads and records: 1 to 64 of
// A-Z a-z 0-9 . _ - with neither . nor - in front.
func validName(s string) bool {
	for i, c := range []byte(s) {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_'
		if !letter && (i == 0 || c != '.' && c != '-') {
			return false
		}
	}
	return len(s) >= 1 && len(s) <= 64
}

// validLabel is the rule for names of blobs and sections.
func validLabel(s string) bool { return len(s) >= 1 && len(s) <= nameMax && utf8.ValidString(s) }

// order holds what comes after what, for writer and reader alike.
type order struct {
	kind  byte   // of the last frame that was no piece or run
	name  string // that it had
	count int    // of this kind
	next  int64  // the first offset that the next run may have
}

// item is a record, a blob of size bytes or a section that begins.
func (o *order) item(kind byte, name string, size uint64) error {
	limit := map[byte]uint64{kindRecord: recordMax, kindBlob: blobMax, kindSection: 0}[kind]
	valid := validLabel
	if kind == kindRecord {
		valid = validName
	}
	if o.kind != kind {
		o.name, o.count = "", 0
	}
	o.count++
	switch {
	case !valid(name):
		return fmt.Errorf("name %q: %w", name, ErrFormat)
	case o.kind == 0 || o.kind > kind || o.kind == kind && name <= o.name:
		return fmt.Errorf("%q in a wrong place: %w", name, ErrFormat)
	case size > limit || o.count > countMax:
		return fmt.Errorf("%q of %d bytes: %w", name, size, ErrTooLarge)
	}
	o.kind, o.name, o.next = kind, name, 0
	return nil
}

// run is pages at an offset of the section that has begun.
func (o *order) run(off uint64, n int) error {
	if o.kind != kindSection || off%PageSize != 0 || n == 0 || n%PageSize != 0 || n > RunMax ||
		off > SectionMax-uint64(n) || int64(off) < o.next {
		return fmt.Errorf("pages at %#x+%#x of %q: %w", off, n, o.name, ErrFormat)
	}
	o.next = int64(off) + int64(n)
	return nil
}

// encodeHead encodes the header.
func encodeHead(made time.Time, signer ed25519.PublicKey) []byte {
	b := append(make([]byte, 0, headSize), magic...)
	b = binary.LittleEndian.AppendUint32(b, version)
	b = binary.LittleEndian.AppendUint32(b, 0)
	b = binary.LittleEndian.AppendUint64(b, uint64(made.UnixNano()))
	b = binary.LittleEndian.AppendUint64(b, 0)
	return append(b, signer...)
}

// decodeHead is its inverse.
func decodeHead(b []byte) (made time.Time, signer ed25519.PublicKey, err error) {
	switch {
	case len(b) < headSize || string(b[:8]) != magic:
		return made, nil, ErrFormat
	case binary.LittleEndian.Uint32(b[8:]) != version:
		return made, nil, fmt.Errorf("version %d: %w", binary.LittleEndian.Uint32(b[8:]), ErrVersion)
	case binary.LittleEndian.Uint32(b[12:]) != 0 || binary.LittleEndian.Uint64(b[24:]) != 0:
		return made, nil, ErrFormat
	}
	return time.Unix(0, int64(binary.LittleEndian.Uint64(b[16:]))), ed25519.PublicKey(b[32:headSize]), nil
}

// signing is how a file is signed: prehashed, so that neither side holds it.
func signing() *ed25519.Options { return &ed25519.Options{Hash: crypto.SHA512, Context: domain} }
