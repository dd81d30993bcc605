package bundle

import (
	"bufio"
	"crypto/ed25519"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/klauspost/compress/zstd"
)

// Checked is a file whose signature is whole. Whether its signer is to be
// believed is not known here.
type Checked struct {
	Signer ed25519.PublicKey
	Made   time.Time

	f    io.ReaderAt
	size int64 // of what is signed
	sum  [sha512.Size]byte
}

// Check reads a file of size bytes and breaks its signature. It acts on nothing
// in it but the header. The error matches ErrFormat, ErrVersion or
// ErrSignature, or is one of reading.
func Check(f io.ReaderAt, size int64) (*Checked, error) {
	if size < headSize {
		return nil, ErrFormat
	}
	var head [headSize]byte
	if _, err := f.ReadAt(head[:], 0); err != nil {
		return nil, gone(err)
	}
	c := &Checked{f: f, size: size - ed25519.SignatureSize}
	var err error
	if c.Made, c.Signer, err = decodeHead(head[:]); err != nil {
		return nil, err
	}
	if c.size < headSize {
		return nil, fmt.Errorf("%w: it was cut short", ErrSignature)
	}
	h := sha512.New()
	if n, err := io.Copy(h, io.NewSectionReader(f, 0, c.size)); err != nil || n != c.size {
		return nil, gone(err)
	}
	h.Sum(c.sum[:0])
	var sig [ed25519.SignatureSize]byte
	if _, err := f.ReadAt(sig[:], c.size); err != nil {
		return nil, gone(err)
	}
	if ed25519.VerifyWithOptions(c.Signer, c.sum[:], sig[:], signing()) != nil {
		return nil, fmt.Errorf("%w: it was cut short, damaged or changed", ErrSignature)
	}
	return c, nil
}

// gone says of a file that ended early that it is another one by now.
func gone(err error) error {
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: it changed while it was read", ErrSignature)
	}
	return err
}

// Sink takes in what a file holds, in the order of the format. What it is given
// may not be kept.
type Sink interface {
	Info(i Info) error
	Record(name string, data []byte) error
	Blob(name string, data []byte) error
	Section(name string) error         // the one before is complete
	Run(off int64, pages []byte) error // of the section that began last; less than 1<<52
}

// Read gives what the file holds to a Sink. Only when it returns nil was that
// what had been signed: the sink commits nothing before. The error is the
// sink's, one of reading, or matches ErrFormat, ErrTooLarge or ErrSignature.
func (c *Checked) Read(to Sink) error {
	h := sha512.New()
	src := io.TeeReader(io.NewSectionReader(c.f, 0, c.size), h)
	if _, err := io.CopyN(io.Discard, src, headSize); err != nil {
		return gone(err)
	}
	in := bufio.NewReaderSize(src, 64<<10)
	if err := readFrames(in, to); err != nil {
		return err
	}
	if [sha512.Size]byte(h.Sum(nil)) != c.sum {
		return gone(nil)
	}
	return nil
}

// readFrames reads the frames from the first to the end.
func readFrames(in io.Reader, to Sink) error {
	z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(2*payloadMax), zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		return err
	}
	defer z.Close()
	r := &reader{in: in, z: z, to: to}
	for {
		kind, p, err := r.frame()
		if err == nil {
			err = r.take(kind, p)
		}
		if err != nil {
			return err
		}
		if kind == kindEnd {
			break
		}
	}
	if n, err := in.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		if err == nil || errors.Is(err, io.EOF) {
			err = fmt.Errorf("bytes behind the end: %w", ErrFormat)
		}
		return err
	}
	return nil
}

// reader is a file being read. It holds one frame and one value.
type reader struct {
	in    io.Reader
	z     *zstd.Decoder
	to    Sink
	order order

	left  uint64 // bytes of a value that are to come
	value []byte
	raw   []byte
	plain []byte
}

// frame reads a frame and decodes its payload, which is valid until the next.
func (r *reader) frame() (kind byte, p []byte, err error) {
	var head [frameHeadSize]byte
	if _, err := io.ReadFull(r.in, head[:]); err != nil {
		return 0, nil, short(err)
	}
	stored, size := binary.LittleEndian.Uint32(head[4:]), binary.LittleEndian.Uint32(head[8:])
	switch codec := head[1]; {
	case head[2] != 0 || head[3] != 0 || size > payloadMax:
		return 0, nil, fmt.Errorf("frame: %w", ErrFormat)
	case codec == codecPlain && stored == size, codec == codecZstd && stored < size:
	default:
		return 0, nil, fmt.Errorf("frame of %d bytes for %d: %w", stored, size, ErrFormat)
	}
	r.raw = room(r.raw, int(stored))
	if _, err := io.ReadFull(r.in, r.raw); err != nil {
		return 0, nil, short(err)
	}
	if head[1] == codecPlain {
		return head[0], r.raw, nil
	}
	r.plain = room(r.plain, int(size))
	out, err := r.z.DecodeAll(r.raw, r.plain[:0:size])
	if err != nil || len(out) != int(size) {
		return 0, nil, fmt.Errorf("frame: %w", ErrFormat)
	}
	return head[0], out, nil
}

// short says of frames that end without an end that they are none.
func short(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("cut short: %w", ErrFormat)
	}
	return err
}

// room returns n bytes, those of b where it has them.
func room(b []byte, n int) []byte {
	if cap(b) < n {
		return make([]byte, n, min(payloadMax, 2*n))
	}
	return b[:n]
}

// take acts on a frame.
func (r *reader) take(kind byte, p []byte) error {
	if (kind == kindPiece) != (r.left > 0) || (kind == kindInfo) != (r.order.kind == 0) {
		return fmt.Errorf("frame of kind %d in a wrong place: %w", kind, ErrFormat)
	}
	switch kind {
	case kindInfo:
		return r.info(p)
	case kindRecord, kindBlob:
		n, name, err := number(p)
		if err != nil {
			return err
		}
		if err := r.order.item(kind, string(name), n); err != nil {
			return err
		}
		r.left, r.value = n, r.value[:0]
		return r.full()
	case kindPiece:
		if uint64(len(p)) != min(r.left, pieceMax) {
			return fmt.Errorf("piece of %q: %w", r.order.name, ErrFormat)
		}
		r.left -= uint64(len(p))
		r.value = append(r.value, p...)
		return r.full()
	case kindSection:
		if err := r.order.item(kind, string(p), 0); err != nil {
			return err
		}
		return r.to.Section(string(p))
	case kindRun:
		off, pages, err := number(p)
		if err != nil {
			return err
		}
		if err := r.order.run(off, len(pages)); err != nil {
			return err
		}
		return r.to.Run(int64(off), pages)
	case kindEnd:
		if len(p) == 0 {
			return nil
		}
	}
	return fmt.Errorf("frame of kind %d: %w", kind, ErrFormat)
}

// full hands over a value when all of it has come.
func (r *reader) full() error {
	if r.left > 0 {
		return nil
	}
	if r.order.kind == kindRecord {
		return r.to.Record(r.order.name, r.value)
	}
	return r.to.Blob(r.order.name, r.value)
}

func (r *reader) info(p []byte) error {
	mode, err := cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField, MaxNestedLevels: 4, MaxMapPairs: 1 << 10, UTF8: cbor.UTF8RejectInvalid,
	}.DecMode()
	if err != nil {
		return err
	}
	var i Info
	if err := mode.Unmarshal(p, &i); err != nil {
		return fmt.Errorf("info: %w: %w", err, ErrFormat)
	}
	if err := i.check(); err != nil {
		return err
	}
	r.order.kind = kindInfo
	return r.to.Info(i)
}

// number takes the number from the front of a payload.
func number(p []byte) (uint64, []byte, error) {
	if len(p) < prefixSize {
		return 0, nil, fmt.Errorf("frame: %w", ErrFormat)
	}
	return binary.LittleEndian.Uint64(p), p[prefixSize:], nil
}
