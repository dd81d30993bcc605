// Package seal holds keys: it derives them, seals bytes with them, and keeps
// the one from which all others come in a file.
//
// What is sealed can neither be read nor changed without the key: AES-256-GCM
// (NIST SP 800-38D), with keys that HKDF-SHA256 (RFC 5869) derives from the
// root of trust. No key seals two different things under one counter: every
// file has a key of its own, from random bytes at its beginning, and is
// written once, from its beginning to its end.
package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"

	"github.com/zeebo/blake3"
)

const (
	// KeySize is the length of a key in bytes.
	KeySize = 32
	// Overhead is by how many bytes sealed bytes are longer.
	Overhead = 16
	// SaltSize is the length of the random bytes that make a key a file's own.
	SaltSize = 16
)

// ErrSeal says that bytes are not what was sealed with this key, under this
// counter and with these associated data.
var ErrSeal = errors.New("the seal is broken")

// Key is a secret. The zero key is known to everybody: what is sealed with it
// is protected against accidents alone.
type Key [KeySize]byte

// New draws a key.
func New() Key {
	var k Key
	_, _ = rand.Read(k[:]) // never fails
	return k
}

// Salt draws the bytes that make a key a file's own.
func Salt() [SaltSize]byte {
	var s [SaltSize]byte
	_, _ = rand.Read(s[:]) // never fails
	return s
}

// Derive returns another key, for one purpose. Nothing leads back from it.
// The parts are told apart also where their lengths vary.
func (k Key) Derive(purpose string, parts ...[]byte) Key {
	info := []byte("wakepoint 1 " + purpose + "\x00")
	for _, p := range parts {
		info = binary.LittleEndian.AppendUint32(info, uint32(len(p)))
		info = append(info, p...)
	}
	out, err := hkdf.Expand(sha256.New, k[:], string(info), KeySize)
	if err != nil {
		panic(err) // only for lengths that SHA-256 cannot give
	}
	return Key(out)
}

// Print tells keys apart in public: it is a key's own and reveals nothing.
func (k Key) Print() [8]byte {
	p := k.Derive("print")
	return [8]byte(p[:8])
}

// Sealer seals with one key. It may be used from any goroutine.
type Sealer struct{ aead cipher.AEAD }

// Sealer returns what seals with the key.
func (k Key) Sealer() *Sealer {
	block, err := aes.NewCipher(k[:])
	if err != nil {
		panic(err) // only for keys of a wrong length
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err) // only for ciphers of a wrong block size
	}
	return &Sealer{guarded(aead, block)}
}

// Seal appends plain, sealed, to dst. A counter must never come twice.
func (s *Sealer) Seal(dst []byte, counter uint64, plain, associated []byte) []byte {
	var nonce [12]byte
	binary.BigEndian.PutUint64(nonce[4:], counter)
	return s.aead.Seal(dst, nonce[:], plain, associated)
}

// Open appends to dst what was sealed, or returns ErrSeal. dst may be
// sealed[:0].
func (s *Sealer) Open(dst []byte, counter uint64, sealed, associated []byte) ([]byte, error) {
	var nonce [12]byte
	binary.BigEndian.PutUint64(nonce[4:], counter)
	plain, err := s.aead.Open(dst, nonce[:], sealed, associated)
	if err != nil {
		return nil, ErrSeal
	}
	return plain, nil
}

// Hash tells contents apart, by keyed BLAKE3: without the key nobody learns
// from it what they are. One goroutine at a time may use it.
type Hash struct{ h *blake3.Hasher }

// Hash returns the hash of the key.
func (k Key) Hash() *Hash {
	h, err := blake3.NewKeyed(k[:])
	if err != nil {
		panic(err) // only for keys of a wrong length
	}
	return &Hash{h}
}

// Sum puts the hash of p into sum, which may have any length.
func (h *Hash) Sum(sum, p []byte) {
	h.h.Reset()
	_, _ = h.h.Write(p)
	_, _ = h.h.Digest().Read(sum)
}
