package store

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"

	"github.com/wakepoint/wakepoint/internal/seal"
)

// An envelope holds one value that is a file by itself: a record or a
// manifest. Integers are little endian.
//
//	offset  size  field
//	0       8     magic: "wakerec\n" or "wakeman\n"
//	8       4     version: 1
//	12      4     zero
//	16      8     print of the root key
//	24      16    id of the store; zero for a workload by itself
//	40      16    id of the workload; zero for what is the store's
//	56      16    random, for the key of this file alone
//	72      8     length of the payload, n
//	80      n+16  payload, sealed: AES-256-GCM, counter 0, with the key
//	              Derive("envelope", bytes 24..40, 40..56, 56..72), and as
//	              associated data bytes 0..80 and the file's base name
//
// Valid: the magic and version are known, bytes 12..16 are zero, the file is
// exactly 96+n long and the seal is whole. The name is sealed so that no file
// passes for another one.
const (
	magicRecord   = "wakerec\n"
	magicManifest = "wakeman\n"

	envelopeVersion  = 1
	envelopeHead     = 80
	envelopeOverhead = envelopeHead + seal.Overhead
	envelopeMax      = 64 << 20 // bytes of a whole file; a longer one is refused unread
)

// keyring is with what the files of a store or a workload are sealed.
type keyring struct {
	root     seal.Key
	store    [16]byte
	workload workloadID
}

func (k keyring) envelope(salt []byte) *seal.Sealer {
	return k.root.Derive("envelope", k.store[:], k.workload[:], salt).Sealer()
}

// identities is the key of the hash by which pages are told apart.
func (k keyring) identities() seal.Key {
	return k.root.Derive("identity", k.store[:], k.workload[:])
}

// enclose encodes an envelope.
func enclose(k keyring, magic, name string, payload []byte) []byte {
	b := make([]byte, 0, len(payload)+envelopeOverhead+len(name))
	salt := seal.Salt()
	b = append(appendHead(b, k, magic), salt[:]...)
	b = binary.LittleEndian.AppendUint64(b, uint64(len(payload)))
	return k.envelope(salt[:]).Seal(b, 0, payload, append(b[:envelopeHead:envelopeHead], name...))
}

// disclose checks an envelope and returns its payload, and with whose keys it
// was sealed. The error says what is wrong with it; it matches ErrVersion or
// ErrKey when that is all.
func disclose(root seal.Key, magic, name string, b []byte) ([]byte, keyring, error) {
	if len(b) < envelopeOverhead {
		return nil, keyring{}, errors.New("too short")
	}
	if string(b[:8]) != magic {
		return nil, keyring{}, errors.New("wrong magic")
	}
	k := keyring{root, [16]byte(b[24:]), workloadID(b[40:])}
	head := append(appendHead(nil, k, magic), b[40+16:envelopeHead]...)
	payload, err := k.envelope(b[56:72]).Open(nil, 0, b[envelopeHead:], append(head[:envelopeHead:envelopeHead], name...))
	switch {
	case err == nil && string(head) != string(b[:envelopeHead]):
		return nil, keyring{}, errors.New("bad header") // a flipped bit and nothing more
	case binary.LittleEndian.Uint32(b[8:]) != envelopeVersion:
		return nil, keyring{}, fmt.Errorf("version %d: %w", binary.LittleEndian.Uint32(b[8:]), ErrVersion)
	case string(b[16:24]) != string(head[16:24]):
		return nil, keyring{}, ErrKey
	case err != nil:
		return nil, keyring{}, err
	case binary.LittleEndian.Uint64(b[72:]) != uint64(len(payload)):
		return nil, keyring{}, errors.New("wrong length")
	}
	return payload, k, nil
}

// appendHead appends the part of a head that is the same for all envelopes of
// a workload.
func appendHead(b []byte, k keyring, magic string) []byte {
	b = append(b, magic...)
	b = binary.LittleEndian.AppendUint32(b, envelopeVersion)
	b = binary.LittleEndian.AppendUint32(b, 0)
	print := k.root.Print()
	b = append(b, print[:]...)
	b = append(b, k.store[:]...)
	return append(b, k.workload[:]...)
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
