package session

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"net"
)

// exporterLabel is for RFC 5705 and RFC 8446, section 7.5.
const exporterLabel = "EXPORTER-wakepoint-session"

// binding is what only the two ends of a TLS connection know of it; nil: it is
// none. Who relays a handshake between two connections has another one on each. What
// is wrapped around a *tls.Conn counts as one when it has its methods.
func binding(c net.Conn) ([]byte, error) {
	t, ok := c.(interface {
		Handshake() error
		ConnectionState() tls.ConnectionState
	})
	if !ok {
		return nil, nil
	}
	if err := t.Handshake(); err != nil {
		return nil, err
	}
	state := t.ConnectionState()
	return state.ExportKeyingMaterial(exporterLabel, nil, sha256.Size)
}

// prove is the proof of one end that it knows the secret of a session. Both ends'
// nonces are in it, so that none can be used again, and who it is of, so that none
// can be sent back.
func prove(secret []byte, who string, id uint64, client, server [nonceSize]byte, binding []byte) (p [proofSize]byte) {
	m := hmac.New(sha256.New, secret)
	m.Write([]byte("wakepoint session " + who))
	var n [9]byte
	n[0] = version
	binary.BigEndian.PutUint64(n[1:], id)
	m.Write(n[:])
	m.Write(client[:])
	m.Write(server[:])
	m.Write(binding)
	m.Sum(p[:0])
	return p
}

// The nonce of a client says at its end in which of its lives it was made, by a random
// number, and which one of that it is: 8 bytes each. So a server can tell a connection
// that the client has given up, and that comes late, from a newer one.
const nonceRandom = nonceSize - 16

func clientNonce(life, attempt uint64) [nonceSize]byte {
	n := newNonce()
	binary.BigEndian.PutUint64(n[nonceRandom:], life)
	binary.BigEndian.PutUint64(n[nonceRandom+8:], attempt)
	return n
}

func madeBy(nonce [nonceSize]byte) (life, attempt uint64) {
	return binary.BigEndian.Uint64(nonce[nonceRandom:]), binary.BigEndian.Uint64(nonce[nonceRandom+8:])
}

const (
	byClient = "client"
	byServer = "server"
	ofState  = "state" // the key of what a challenge says of the session
)

// sealState seals how a session stands for whoever can prove it, and for nobody else. The
// key is of this handshake alone, so that its nonce is always the same.
func sealState(key [proofSize]byte, refusal []byte, floor uint64, slots []uint64) []byte {
	a := stateAEAD(key)
	plain := append(make([]byte, 0, 512), refusal...)
	return a.Seal(nil, make([]byte, a.NonceSize()), numbers(numbers(plain, floor), slots...), nil)
}

func openState(key [proofSize]byte, sealed []byte) (refusal []byte, floor uint64, slots []uint64, err error) {
	a := stateAEAD(key)
	plain, err := a.Open(nil, make([]byte, a.NonceSize()), sealed, nil)
	if err != nil {
		return nil, 0, nil, ErrWrongServer
	}
	r := &reader{b: plain}
	refusal = r.bytes(proofSize)
	for floor = r.number(); len(r.b) > 0; {
		slots = append(slots, r.number())
	}
	if r.bad || len(slots) > WindowMax {
		return nil, 0, nil, fmt.Errorf("%w: malformed state", ErrProtocol)
	}
	return refusal, floor, slots, nil
}

func stateAEAD(key [proofSize]byte) cipher.AEAD {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err) // the key has a size that is right
	}
	a, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return a
}

func mac(key []byte, parts ...[]byte) []byte {
	m := hmac.New(sha256.New, key)
	for _, p := range parts {
		m.Write(p)
	}
	return m.Sum(nil)
}

// A client believes only its own server that its session is over. To say so the server
// proves that it has the key by which the session began, also when it knows nothing of
// the session any more: so another server, or who has lost the key for now, is only one
// of which no session can be had at the moment.

// refusalKey is what a client gets for that when its session begins.
func (k *sealKey) refusalKey(id uint64) []byte {
	return mac(k.refuse, binary.BigEndian.AppendUint64(nil, id))
}

// refusal proves a code to the client of a session that has sent a nonce.
func refusal(key []byte, why code, nonce [nonceSize]byte) []byte {
	return mac(key, []byte("wakepoint session bye"), []byte{version, byte(why)}, nonce[:])
}

// refusals are those by all keys.
func (s sealer) refusals(id uint64, why code, nonce [nonceSize]byte) (all []byte) {
	for i := range s {
		all = append(all, refusal(s[i].refusalKey(id), why, nonce)...)
	}
	return all
}

// refused says whether one of the proofs of a code is good.
func refused(key, proofs []byte, why code, nonce [nonceSize]byte) bool {
	want := refusal(key, why, nonce)
	for ; len(proofs) >= proofSize; proofs = proofs[proofSize:] {
		if hmac.Equal(want, proofs[:proofSize]) {
			return true
		}
	}
	return false
}

// proves says whether a proof is the right one, in a time that does not depend on
// what is wrong.
func proves(want, got [proofSize]byte) bool { return hmac.Equal(want[:], got[:]) }
