package session

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
)

// An existing HTTP server gets sessions by headers and a middleware. Requests over
// HTTP have no window of their own kind: they are those of any session, with the
// numbers in a header, and a proof in it that they are from who knows the secret. It
// is to be used over TLS.
//
// Of a request:
//
//	Wakepoint-Session: 7
//	Wakepoint-Request: 12 9 5d0f6a1c9be27f03 a3c9014f77e2d8b6 kJ0x...
//
// The second has the number of the request, the floor, the client's life, the server's life
// as of which the client knows how things stand, and the HMAC-SHA256 of the version, all
// these, the method, the URI and the SHA-256 of the body, in base64 (RFC 4648, section 5).
// Lives are random numbers, in 16 hexadecimal digits: of a Transport, and of a Server. What
// a slot knows of a request is of its life, method, URI and body: a client that begins
// anew never gets a reply of its earlier life.
//
// Of an answer:
//
//	Wakepoint-Reply: 12 kept
//	Wakepoint-State: a3c9014f77e2d8b6 3 13 1 2 3
//
// The first is on all that comes from the server, and not from someone between: the
// number, and what became of it. The second is with 409 on a request of a client that
// does not know how things stand, of which nothing is done: the server's life, its floor, the
// next number, and how far below that the last request of each slot is.
const (
	headerSession = "Wakepoint-Session"
	headerRequest = "Wakepoint-Request"
	headerReply   = "Wakepoint-Reply"
	headerState   = "Wakepoint-State"
)

// Credential is what a client has to have for a session over HTTP. It is secret. Only one
// Transport at a time may have it; a program that was started again may use it again.
type Credential struct {
	Session uint64 `json:"session"`
	Secret  []byte `json:"secret"`
	Window  uint64 `json:"window"`
}

// NewCredential begins a session for a principal that the program has
// authenticated itself. It is to be told to nobody else.
func (s *Server) NewCredential(ctx context.Context, principal string) (Credential, error) {
	id, r, secret, err := s.create(ctx, principal)
	return Credential{id, secret, r.Window}, err
}

var errUnproven = errors.New("session: no proof")

// head is what a request has in its headers.
type head struct {
	seq, floor   uint64
	life, server uint64
}

func (d head) String() string {
	return fmt.Sprintf("%d %d %016x %016x", d.seq, d.floor, d.life, d.server)
}

// seal is a head with its proof.
func (d head) seal(secret []byte, method, uri string, body []byte) string {
	return fmt.Sprint(d, " ", base64.RawURLEncoding.EncodeToString(d.proof(secret, method, uri, body)))
}

func parseHead(text string) (d head, proof []byte, err error) {
	f := strings.Split(text, " ")
	if len(f) != 5 {
		return d, nil, fmt.Errorf("%w: %s", errUnproven, headerRequest)
	}
	err = parse64s(f, &d.seq, &d.floor)
	for i, n := range []*uint64{&d.life, &d.server} {
		var e error
		*n, e = strconv.ParseUint(f[2+i], 16, 64)
		err = errors.Join(err, e)
	}
	proof, e := base64.RawURLEncoding.DecodeString(f[4])
	if err = errors.Join(err, e); err != nil {
		return head{}, nil, fmt.Errorf("%w: %s: %w", errUnproven, headerRequest, err)
	}
	return d, proof, nil
}

func parse64s(f []string, to ...*uint64) (err error) {
	for i, n := range to {
		var e error
		*n, e = strconv.ParseUint(f[i], 10, 64)
		err = errors.Join(err, e)
	}
	return err
}

func (d head) proof(secret []byte, method, uri string, body []byte) []byte {
	sum := sha256.Sum256(body)
	m := hmac.New(sha256.New, secret)
	fmt.Fprintf(m, "wakepoint http %d %v %s %q ", version, d, method, uri)
	m.Write(sum[:])
	return m.Sum(nil)
}

// sum is what a slot knows of a request.
func (d head) sum(method, uri string, body []byte) [sumSize]byte {
	sum := sha256.Sum256(body)
	return sumOf(fmt.Appendf(nil, "wakepoint http %016x %s %q %s", d.life, method, uri, sum[:]))
}

// stamp says on an answer what became of a request.
type stamp struct{ atomic.Int32 }

const (
	stampOpen   int32 = iota // nothing is kept of it
	stampKept                // it was done or refused, which is kept
	stampReused              // the number is of another request: it is not done, and never will be
	stampStale               // too late to say
	stampAgain               // it did not come as a whole
	stampBehind              // there is no such session yet: the server was rolled back
)

func stampWords() []string { return []string{"open", "kept", "reused", "stale", "again", "behind"} }

// set changes a stamp, where there is one.
func (s *stamp) set(to int32) {
	if s != nil {
		s.Store(to)
	}
}

func (s *stamp) on(seq uint64) string { return fmt.Sprint(seq, " ", stampWords()[s.Load()]) }

func parseStamp(text string) (seq uint64, what int32, ok bool) {
	number, word, _ := strings.Cut(text, " ")
	seq, err := strconv.ParseUint(number, 10, 64)
	for i, w := range stampWords() {
		if w == word && err == nil {
			return seq, int32(i), true
		}
	}
	return 0, 0, false
}

// standing is how things stand with a session in a life of the server.
type standing struct {
	life, floor uint64
	slots       []uint64
}

// next is the lowest number that no request has had.
func (s standing) next() uint64 {
	next := max(s.floor, 1)
	for _, seq := range s.slots {
		next = max(next, seq+1)
	}
	return next
}

func (s standing) String() string {
	next := s.next()
	b := fmt.Appendf(nil, "%016x %d %d", s.life, s.floor, next)
	for _, seq := range s.slots {
		b = fmt.Append(b, " ", next-seq)
	}
	return string(b)
}

var errStanding = fmt.Errorf("%w: %s", ErrProtocol, headerState)

func parseStanding(text string) (s standing, err error) {
	f := strings.Split(text, " ")
	if len(f) < 3 || len(f) > 3+WindowMax {
		return s, errStanding
	}
	var next uint64
	if s.life, err = strconv.ParseUint(f[0], 16, 64); err != nil {
		return s, fmt.Errorf("%w: %w", errStanding, err)
	}
	err = parse64s(f[1:], &s.floor, &next)
	for i := range f[3:] {
		var below uint64
		err = errors.Join(err, parse64s(f[3+i:], &below))
		if below >= next {
			err = errors.Join(err, errStanding)
		}
		s.slots = append(s.slots, next-below)
	}
	if err == nil && s.next() != next {
		err = errStanding
	}
	if err != nil {
		return standing{}, fmt.Errorf("%w: %w", errStanding, err)
	}
	return s, nil
}
