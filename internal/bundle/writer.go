package bundle

import (
	"crypto/ed25519"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/klauspost/compress/zstd"
)

// Writer writes one file. Its methods are called in the order of the format:
// the records, the blobs, the sections, each by ascending names; then Close.
// After an error the file is of no use. What the format cannot hold is refused
// with ErrTooLarge or ErrFormat, so that nothing is written that cannot be
// read.
type Writer struct {
	w     io.Writer
	h     hash.Hash
	key   ed25519.PrivateKey
	z     *zstd.Encoder
	order order
	raw   []byte // a payload
	out   []byte // the same encoded
}

// NewWriter begins a file that key will sign.
func NewWriter(w io.Writer, key ed25519.PrivateKey, made time.Time, i Info) (*Writer, error) {
	z, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<20))
	if err != nil {
		return nil, err
	}
	b := &Writer{w: w, h: sha512.New(), key: key, z: z}
	mode, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		return nil, err
	}
	if err := i.check(); err != nil {
		return nil, err
	}
	p, err := mode.Marshal(i)
	if err != nil {
		return nil, err
	}
	if err := b.write(encodeHead(made, key.Public().(ed25519.PublicKey))); err != nil {
		return nil, err
	}
	b.order.kind = kindInfo
	return b, b.frame(kindInfo, p)
}

// Record adds a record.
func (b *Writer) Record(name string, data []byte) error { return b.value(kindRecord, name, data) }

// Blob adds a blob.
func (b *Writer) Blob(name string, data []byte) error { return b.value(kindBlob, name, data) }

func (b *Writer) value(kind byte, name string, data []byte) error {
	if err := b.order.item(kind, name, uint64(len(data))); err != nil {
		return err
	}
	if err := b.frame(kind, b.prefixed(uint64(len(data)), []byte(name))); err != nil {
		return err
	}
	for len(data) > 0 {
		n := min(len(data), pieceMax)
		if err := b.frame(kindPiece, data[:n]); err != nil {
			return err
		}
		data = data[n:]
	}
	return nil
}

// Section begins a section.
func (b *Writer) Section(name string) error {
	if err := b.order.item(kindSection, name, 0); err != nil {
		return err
	}
	return b.frame(kindSection, []byte(name))
}

// Run adds pages to the section that was begun last, at an offset behind those
// that it has. Whoever leaves out what is zero writes nothing for it.
func (b *Writer) Run(off int64, p []byte) error {
	if err := b.order.run(uint64(off), len(p)); err != nil {
		return err
	}
	return b.frame(kindRun, b.prefixed(uint64(off), p))
}

// Close ends the file with its signature. What it was written to is not
// closed.
func (b *Writer) Close() error {
	if err := b.frame(kindEnd, nil); err != nil {
		return err
	}
	sig, err := b.key.Sign(nil, b.h.Sum(nil), signing())
	if err != nil {
		return fmt.Errorf("sign: %w", err)
	}
	_, err = b.w.Write(sig)
	return errors.Join(err, b.z.Close())
}

// prefixed is a payload that begins with a number.
func (b *Writer) prefixed(n uint64, p []byte) []byte {
	b.raw = append(binary.LittleEndian.AppendUint64(b.raw[:0], n), p...)
	return b.raw
}

// frame writes a frame.
func (b *Writer) frame(kind byte, p []byte) error {
	if len(p) > payloadMax {
		return fmt.Errorf("frame of %d bytes: %w", len(p), ErrTooLarge)
	}
	codec := byte(codecPlain)
	stored := p
	if b.out = b.z.EncodeAll(p, b.out[:0]); len(p) > 0 && len(b.out) < len(p) {
		codec, stored = codecZstd, b.out
	}
	var head [frameHeadSize]byte
	head[0], head[1] = kind, codec
	binary.LittleEndian.PutUint32(head[4:], uint32(len(stored)))
	binary.LittleEndian.PutUint32(head[8:], uint32(len(p)))
	if err := b.write(head[:]); err != nil {
		return err
	}
	return b.write(stored)
}

// write writes what is signed.
func (b *Writer) write(p []byte) error {
	b.h.Write(p) // never fails
	_, err := b.w.Write(p)
	return err
}
