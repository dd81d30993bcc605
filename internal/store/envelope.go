package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"
	"github.com/zeebo/blake3"
)

// An envelope holds one value that is a file by itself: a record or a
// manifest. Integers are little endian.
//
//	offset  size  field
//	0       8     magic: "wakerec\n" or "wakeman\n"
//	8       4     version: 1
//	12      4     zero
//	16      8     length of the payload, n
//	24      n     payload
//	24+n    32    BLAKE3 of bytes 0..24+n followed by the file's base name
//
// Valid: the magic and version are known, bytes 12..16 are zero, the file is
// exactly 56+n long and the checksum is right. The name is in the checksum so
// that no file passes for another one.
const (
	magicRecord   = "wakerec\n"
	magicManifest = "wakeman\n"

	envelopeVersion  = 1
	envelopeHead     = 24
	envelopeOverhead = envelopeHead + 32
	envelopeMax      = 64 << 20 // bytes of a whole file; a longer one is refused unread
)

// enclose encodes an envelope.
func enclose(magic, name string, payload []byte) []byte {
	b := make([]byte, 0, len(payload)+envelopeOverhead)
	b = append(b, magic...)
	b = binary.LittleEndian.AppendUint32(b, envelopeVersion)
	b = binary.LittleEndian.AppendUint32(b, 0)
	b = binary.LittleEndian.AppendUint64(b, uint64(len(payload)))
	b = append(b, payload...)
	sum := envelopeSum(name, b)
	return append(b, sum[:]...)
}

// disclose checks an envelope and returns its payload, a part of b. The error
// says what is wrong with it; it matches ErrVersion when that is all.
func disclose(magic, name string, b []byte) ([]byte, error) {
	if len(b) < envelopeOverhead {
		return nil, errors.New("too short")
	}
	if string(b[:8]) != magic {
		return nil, errors.New("wrong magic")
	}
	body, sum := b[:len(b)-32], b[len(b)-32:]
	want := envelopeSum(name, body)
	if !bytes.Equal(sum, want[:]) {
		return nil, errors.New("wrong checksum")
	}
	if v := binary.LittleEndian.Uint32(b[8:]); v != envelopeVersion {
		return nil, fmt.Errorf("version %d: %w", v, ErrVersion)
	}
	if binary.LittleEndian.Uint32(b[12:]) != 0 {
		return nil, errors.New("reserved bytes are set")
	}
	if binary.LittleEndian.Uint64(b[16:]) != uint64(len(body)-envelopeHead) {
		return nil, errors.New("wrong length")
	}
	return body[envelopeHead:], nil
}

func envelopeSum(name string, body []byte) [32]byte {
	h := blake3.New()
	_, _ = h.Write(body)
	_, _ = h.WriteString(name)
	var sum [32]byte
	h.Sum(sum[:0])
	return sum
}

// encodeCBOR encodes deterministically (RFC 8949, 4.2.1). It fails only for
// values that CBOR cannot hold, of which this package has none.
func encodeCBOR(v any) ([]byte, error) {
	mode, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		return nil, err
	}
	return mode.Marshal(v)
}

// decodeCBOR is strict: no duplicate keys, no unknown fields, no indefinite
// lengths, no tags, nothing after the value. The decoder checks that all bytes
// of a value are there before it allocates for it, so counts cannot lie.
func decodeCBOR(b []byte, v any) error {
	mode, err := cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		IndefLength:       cbor.IndefLengthForbidden,
		TagsMd:            cbor.TagsForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
		MaxNestedLevels:   8,
		MaxArrayElements:  1 << 22,
		MaxMapPairs:       1 << 16,
		UTF8:              cbor.UTF8RejectInvalid,
	}.DecMode()
	if err != nil {
		return err
	}
	return mode.Unmarshal(b, v)
}
