//go:build !sabotage

package seal

import "crypto/cipher"

// guarded is aead itself; see guard_sabotage.go.
func guarded(aead cipher.AEAD, _ cipher.Block) cipher.AEAD { return aead }
