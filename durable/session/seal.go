package session

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
)

// KeySize is the size of a key that seals what a server keeps, in bytes.
const KeySize = 32

// sealer seals what must not be read in the store, with AES-256-GCM. What it is
// for goes into the seal, so that no sealed thing can stand in for another one.
//
//	offset  size
//	0       4     which key: the beginning of its SHA-256
//	4       12    nonce
//	16            sealed, with a tag of 16 bytes
type sealer []sealKey

type sealKey struct {
	name   [4]byte
	aead   cipher.AEAD
	refuse []byte // key of refusals: see proof.go
}

var errSeal = errors.New("session: cannot be unsealed")

// newSealer takes keys, of which the first seals, and all unseal.
func newSealer(keys [][]byte) (sealer, error) {
	if len(keys) == 0 {
		return nil, errors.New("session: no key: secrets would lie open in the store")
	}
	var s sealer
	for _, key := range keys {
		if len(key) != KeySize {
			return nil, fmt.Errorf("session: a key of %d bytes, not %d", len(key), KeySize)
		}
		block, err := aes.NewCipher(key)
		if err != nil {
			return nil, err
		}
		aead, err := cipher.NewGCM(block)
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(append([]byte("wakepoint session key "), key...))
		s = append(s, sealKey{name: [4]byte(sum[:4]), aead: aead, refuse: mac(key, []byte("wakepoint session refusal"))})
	}
	return s, nil
}

func (s sealer) seal(plain []byte, purpose string) []byte {
	k := s[0]
	out := append(make([]byte, 0, 4+12+len(plain)+16), k.name[:]...)
	nonce := make([]byte, k.aead.NonceSize())
	_, _ = rand.Read(nonce) // never fails
	return k.aead.Seal(append(out, nonce...), nonce, plain, []byte(purpose))
}

func (s sealer) open(sealed []byte, purpose string) ([]byte, error) {
	for _, k := range s {
		n := 4 + k.aead.NonceSize()
		if len(sealed) < n || [4]byte(sealed[:4]) != k.name {
			continue
		}
		plain, err := k.aead.Open(nil, sealed[4:n], sealed[n:], []byte(purpose))
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errSeal, err)
		}
		return plain, nil
	}
	return nil, fmt.Errorf("%w: of another key", errSeal)
}

// newest says whether something is sealed with the key that seals now.
func (s sealer) newest(sealed []byte) bool {
	return len(sealed) >= 4 && [4]byte(sealed[:4]) == s[0].name
}
