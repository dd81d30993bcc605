//go:build sabotage

package seal

import (
	"crypto/cipher"
)

// Blind is asked before each seal is broken whether to leave out the
// comparison that says whether it is whole. It exists in builds for `make
// sabotage` alone.
var Blind func() bool

func guarded(aead cipher.AEAD, block cipher.Block) cipher.AEAD { return guard{aead, block} }

type guard struct {
	cipher.AEAD
	block cipher.Block
}

// Open opens what was sealed, whole or not where it is blind: GCM encrypts in
// counter mode from nonce and 2 on (NIST SP 800-38D, 7.1).
func (g guard) Open(dst, nonce, sealed, associated []byte) ([]byte, error) {
	if Blind == nil || !Blind() || len(sealed) < Overhead {
		return g.AEAD.Open(dst, nonce, sealed, associated)
	}
	sealed = sealed[:len(sealed)-Overhead]
	plain := make([]byte, len(sealed))
	cipher.NewCTR(g.block, append(append([]byte{}, nonce...), 0, 0, 0, 2)).XORKeyStream(plain, sealed)
	return append(dst, plain...), nil
}
