package session

import (
	"encoding/binary"
	"fmt"
)

// version is that of the protocol. A server refuses a client that is newer.
const version = 1

const (
	nonceSize  = 32
	secretSize = 32
	proofSize  = 32
)

// The kinds of frames, in the order in which a connection has them. Numbers are
// unsigned varints, byte slices stand with their length before them; those of a
// fixed size stand as they are, and so does what comes last.
const (
	kindHello     byte = 1  // client
	kindChallenge byte = 2  // server
	kindProof     byte = 3  // client
	kindWelcome   byte = 4  // server
	kindRequest   byte = 5  // client
	kindReply     byte = 6  // server
	kindDelivery  byte = 7  // server
	kindAck       byte = 8  // client
	kindBye       byte = 9  // both, the last one
	kindPing      byte = 10 // client
	kindPong      byte = 11 // server
)

type message interface {
	kind() byte
	append(dst []byte) []byte
}

// hello begins a session, or goes on with one.
type hello struct {
	version     uint64
	id          uint64 // 0: a new one
	nonce       [nonceSize]byte
	credentials []byte // for a new one: what the server's Login makes of it
}

// challenge answers the hello of a session that is there.
type challenge struct {
	nonce [nonceSize]byte
	proof [proofSize]byte
	state []byte // sealed: key of refusals, the floor that is known, and the last request of each slot that has one
}

// proof answers a challenge. Requests may follow at once.
type proof struct {
	proof    [proofSize]byte
	floor    uint64 // replies to all requests below it have come
	received uint64 // deliveries up to this one were taken
	came     uint64 // and up to this one have come
	tag      uint64 // of that one
}

// welcome says how things stand.
type welcome struct {
	id      uint64
	secret  []byte // of a new session
	refusal []byte // of a new session: see proof.go
	window  uint64
	most    uint64 // size of a body
}

type request struct {
	seq   uint64
	floor uint64
	body  []byte
}

type reply struct {
	seq  uint64
	code code
	body []byte
}

// delivery is what the server owed.
type delivery struct {
	number uint64
	tag    uint64
	body   []byte
}

// ack says what has come.
type ack struct {
	floor    uint64
	received uint64
}

// bye says why a connection ends.
type bye struct {
	code   code
	proofs []byte // of the code, to the client of a session
	text   []byte
}

type ping struct{}

type pong struct{}

func (*hello) kind() byte     { return kindHello }
func (*challenge) kind() byte { return kindChallenge }
func (*proof) kind() byte     { return kindProof }
func (*welcome) kind() byte   { return kindWelcome }
func (*request) kind() byte   { return kindRequest }
func (*reply) kind() byte     { return kindReply }
func (*delivery) kind() byte  { return kindDelivery }
func (*ack) kind() byte       { return kindAck }
func (*bye) kind() byte       { return kindBye }
func (*ping) kind() byte      { return kindPing }
func (*pong) kind() byte      { return kindPong }

func (m *hello) append(b []byte) []byte {
	b = numbers(b, m.version, m.id)
	return append(append(b, m.nonce[:]...), m.credentials...)
}

func (m *challenge) append(b []byte) []byte {
	return append(append(append(b, m.nonce[:]...), m.proof[:]...), m.state...)
}

func (m *proof) append(b []byte) []byte {
	return numbers(append(b, m.proof[:]...), m.floor, m.received, m.came, m.tag)
}

func (m *welcome) append(b []byte) []byte {
	b = numbers(b, m.id, uint64(len(m.secret)))
	b = numbers(append(b, m.secret...), uint64(len(m.refusal)))
	return numbers(append(b, m.refusal...), m.window, m.most)
}

func (m *request) append(b []byte) []byte  { return append(numbers(b, m.seq, m.floor), m.body...) }
func (m *reply) append(b []byte) []byte    { return append(numbers(b, m.seq, uint64(m.code)), m.body...) }
func (m *delivery) append(b []byte) []byte { return append(numbers(b, m.number, m.tag), m.body...) }
func (m *ack) append(b []byte) []byte      { return numbers(b, m.floor, m.received) }
func (*ping) append(b []byte) []byte       { return b }
func (*pong) append(b []byte) []byte       { return b }

func (m *bye) append(b []byte) []byte {
	b = numbers(b, uint64(m.code), uint64(len(m.proofs)))
	return append(append(b, m.proofs...), m.text...)
}

func numbers(b []byte, list ...uint64) []byte {
	for _, n := range list {
		b = binary.AppendUvarint(b, n)
	}
	return b
}

// parse reads what a frame has behind its length. The message keeps b.
func parse(b []byte) (message, error) {
	kind, r := b[0], &reader{b: b[1:]}
	var m message
	switch kind {
	case kindHello:
		h := &hello{version: r.number(), id: r.number()}
		r.fixed(h.nonce[:])
		h.credentials, m = r.rest(), h
	case kindChallenge:
		c := &challenge{}
		r.fixed(c.nonce[:])
		r.fixed(c.proof[:])
		c.state, m = r.rest(), c
	case kindProof:
		p := &proof{}
		r.fixed(p.proof[:])
		p.floor, p.received, p.came, p.tag, m = r.number(), r.number(), r.number(), r.number(), p
	case kindWelcome:
		m = r.welcome()
	case kindRequest:
		m = &request{seq: r.number(), floor: r.number(), body: r.rest()}
	case kindReply:
		m = &reply{seq: r.number(), code: r.code(), body: r.rest()}
	case kindDelivery:
		m = &delivery{number: r.number(), tag: r.number(), body: r.rest()}
	case kindAck:
		m = &ack{floor: r.number(), received: r.number()}
	case kindBye:
		m = &bye{code: r.code(), proofs: r.bytes(r.number()), text: r.rest()}
	case kindPing:
		m = &ping{}
	case kindPong:
		m = &pong{}
	default:
		return nil, fmt.Errorf("%w: kind %d", errFrame, kind)
	}
	if r.bad || len(r.b) > 0 {
		return nil, fmt.Errorf("%w: of kind %d", errFrame, kind)
	}
	return m, nil
}

// reader takes a message apart. What is wrong shows at the end.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) number() uint64 {
	n, size := binary.Uvarint(r.b)
	if size <= 0 {
		r.bad = true
		return 0
	}
	r.b = r.b[size:]
	return n
}

func (r *reader) code() code {
	n := r.number()
	r.bad = r.bad || n > uint64(codeMost)
	return code(n)
}

func (r *reader) fixed(dst []byte) { copy(dst, r.bytes(uint64(len(dst)))) }

func (r *reader) bytes(n uint64) []byte {
	if n > uint64(len(r.b)) {
		r.bad = true
		return nil
	}
	out := r.b[:n:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) rest() []byte { return r.bytes(uint64(len(r.b))) }

func (r *reader) welcome() *welcome {
	w := &welcome{id: r.number()}
	w.secret = r.bytes(r.number())
	w.refusal = r.bytes(r.number())
	w.window, w.most = r.number(), r.number()
	return w
}
