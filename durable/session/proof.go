package session

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"net"
)

// exporterLabel is for RFC 5705 and RFC 8446, section 7.5.
const exporterLabel = "EXPORTER-wakepoint-session"

// binding is what only the two ends of a TLS connection know of it; nil: it is
// none. Who relays a handshake between two connections has another one on each.
func binding(c net.Conn) ([]byte, error) {
	t, ok := c.(*tls.Conn)
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
)

// proves says whether a proof is the right one, in a time that does not depend on
// what is wrong.
func proves(want, got [proofSize]byte) bool { return hmac.Equal(want[:], got[:]) }
