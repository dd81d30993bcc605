package session

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wakepoint/wakepoint/durable"
)

// conn is a connection of a client with the server.
type conn struct {
	s    *Server
	c    net.Conn
	r    *bufio.Reader
	out  *sender
	ctx  context.Context
	stop context.CancelFunc

	id            uint64
	life, attempt uint64 // of the client
	row           row
	floor         uint64 // the highest that was heard of
	flight        map[uint64]bool
	mu            sync.Mutex // guards flight and ended
	ended         bool       // the session is
	wg            sync.WaitGroup
	to            atomic.Pointer[addressee] // nil: not known yet

	more     chan struct{} // holds one: there may be something to deliver, or something has come
	sent     atomic.Uint64 // number of the last delivery that was sent here
	received atomic.Uint64 // deliveries up to this one have come
}

// addressee is the client of a session, who believes proofs only.
type addressee struct {
	id    uint64
	nonce [nonceSize]byte
}

// errLate says that a client has a newer connection.
var errLate = errors.New("session: the client has a newer connection")

func newNonce() (n [nonceSize]byte) {
	_, _ = rand.Read(n[:]) // never fails
	return n
}

func newSecret() []byte {
	b := make([]byte, secretSize)
	_, _ = rand.Read(b) // never fails
	return b
}

// serve serves a connection until it ends.
func (s *Server) serve(nc net.Conn) {
	c := &conn{s: s, c: nc, flight: map[uint64]bool{}, more: make(chan struct{}, 1)}
	c.ctx, c.stop = context.WithCancel(s.ctx)
	c.out = newSender(nc, false)
	s.mu.Lock()
	s.all[c] = true
	closed := s.closed
	s.mu.Unlock()
	defer s.forget(c)
	if closed {
		c.leave(codeClosing, "")
		return
	}
	if err := c.run(); err != nil && c.ctx.Err() == nil {
		s.o.Logger.Info("a connection has ended", "peer", nc.RemoteAddr(), "session", c.id, "err", err)
	}
}

// forget ends what is left of a connection.
func (s *Server) forget(c *conn) {
	c.stop()
	c.wg.Wait()
	c.out.close()
	s.mu.Lock()
	delete(s.all, c)
	mine := s.conns[c.id] == c
	if mine {
		delete(s.conns, c.id)
	}
	closed := s.closed
	s.mu.Unlock()
	if !mine || closed {
		return
	}
	err := s.db.Update(s.ctx, func(tx *durable.Tx) error {
		s.o.Tables.used(tx, c.id, c.floor)
		return nil
	})
	if err != nil {
		s.o.Logger.Warn("what a client has acknowledged is not kept", "session", c.id, "err", err)
	}
}

// leave says why the connection ends, and ends it.
func (c *conn) leave(why code, text string) {
	m := &bye{code: why, text: []byte(text)}
	if to := c.to.Load(); to != nil {
		m.proofs = c.s.seals.refusals(to.id, why, to.nonce)
	}
	c.out.last(m)
	c.stop()
}

// attach makes this the connection of its session. An older one is told; false: this
// is the older one, of the same client, whose handshake took longer.
func (c *conn) attach(nonce [nonceSize]byte) bool {
	c.life, c.attempt = madeBy(nonce)
	c.s.mu.Lock()
	old := c.s.conns[c.id]
	late := old != nil && old.life == c.life && old.attempt > c.attempt
	if !late {
		c.s.conns[c.id] = c
	}
	c.s.mu.Unlock()
	if old != nil && !late {
		old.leave(codeReplaced, "")
	}
	return !late
}

func (c *conn) run() error {
	_ = c.c.SetDeadline(time.Now().Add(handshakeMost)) // an error shows at the next call
	c.r = bufio.NewReader(c.c)
	why, err := c.handshake()
	if err != nil {
		c.leave(why, "")
		return err
	}
	_ = c.c.SetDeadline(time.Time{})
	c.r = bufio.NewReader(io.MultiReader(rest(c.r), patient{c.c}))
	for c.out.room() {
		m, err := readFrame(c.r, bodyMost+frameMore)
		if err != nil {
			if errors.Is(err, errFrame) {
				c.leave(codeProtocol, err.Error())
			}
			return err
		}
		if err := c.take(m); err != nil {
			c.leave(codeProtocol, err.Error())
			return err
		}
	}
	return nil
}

// take does what a frame asks for.
func (c *conn) take(m message) error {
	switch m := m.(type) {
	case *request:
		return c.request(m)
	case *ack:
		return c.acked(m)
	case *ping:
		c.out.send(&pong{})
		return nil
	case *bye:
		return fmt.Errorf("%w: the client has ended", net.ErrClosed)
	}
	return fmt.Errorf("%w: kind %d here", errFrame, m.kind())
}

// handshake finds out whose session it is, or begins one.
func (c *conn) handshake() (code, error) {
	m, err := readFrame(c.r, frameMax)
	if err != nil {
		return codeProtocol, err
	}
	h, ok := m.(*hello)
	switch {
	case !ok:
		return codeProtocol, fmt.Errorf("%w: kind %d first", errFrame, m.kind())
	case h.version > version:
		return codeVersion, ErrVersion
	case h.version == 0:
		return codeProtocol, fmt.Errorf("%w: version 0", errFrame)
	case h.id == 0:
		return c.begin(h)
	}
	return c.resume(h)
}

func (c *conn) begin(h *hello) (code, error) {
	ctx, cancel := context.WithTimeout(c.ctx, handshakeMost)
	defer cancel()
	principal, err := c.s.login(ctx, Peer{Conn: c.c, Credentials: h.credentials})
	if err != nil {
		return codeDenied, fmt.Errorf("%w: %w", ErrDenied, err)
	}
	id, r, secret, err := c.s.create(ctx, principal)
	if errors.Is(err, ErrDenied) {
		return codeDenied, err
	} else if err != nil {
		return codeClosing, err
	}
	c.id, c.row, c.floor = id, r, 1
	c.to.Store(&addressee{id, h.nonce})
	c.attach(h.nonce)
	c.out.send(c.welcome(secret, c.s.seals[0].refusalKey(id)))
	c.wg.Go(c.deliver)
	return codeOK, nil
}

// welcome says how things stand.
func (c *conn) welcome(secret, refusal []byte) *welcome {
	return &welcome{id: c.id, secret: secret, refusal: refusal, window: c.row.Window, most: uint64(c.s.o.Largest)}
}

func (c *conn) resume(h *hello) (code, error) {
	c.to.Store(&addressee{h.id, h.nonce})
	var slots []uint64
	r, why, err := c.s.find(c.ctx, h.id, func(tx *durable.Tx) { slots = c.s.o.Tables.slots(tx, h.id) })
	if err != nil {
		return codeClosing, err
	}
	if why != codeOK {
		return why, fmt.Errorf("%w: %d", ErrNoSession, h.id)
	}
	secret, err := c.s.seals.open(r.Secret, purpose(h.id))
	if err != nil {
		c.s.o.Logger.Error("the secret of a session cannot be unsealed", "session", h.id, "err", err)
		return codeUnknown, err
	}
	bound, err := binding(c.c)
	if err != nil {
		return codeProtocol, err
	}
	nonce := newNonce()
	c.out.send(&challenge{nonce: nonce, proof: prove(secret, byServer, h.id, h.nonce, nonce, bound),
		state: sealState(prove(secret, ofState, h.id, h.nonce, nonce, bound), c.s.seals[0].refusalKey(h.id), max(r.Floor, 1), slots)})
	m, err := readFrame(c.r, frameMax)
	if err != nil {
		return codeProtocol, err
	}
	p, ok := m.(*proof)
	if !ok {
		return codeProtocol, fmt.Errorf("%w: kind %d for a proof", errFrame, m.kind())
	}
	if !proves(prove(secret, byClient, h.id, h.nonce, nonce, bound), p.proof) {
		return codeDenied, fmt.Errorf("%w: wrong proof of session %d", ErrDenied, h.id)
	}
	if r.Ended {
		return codeExpired, fmt.Errorf("%w: %d", ErrExpired, h.id)
	}
	return c.goOn(h.id, secret, p, h.nonce)
}

// goOn lets a client that has proven its session go on with it.
func (c *conn) goOn(id uint64, secret []byte, p *proof, nonce [nonceSize]byte) (code, error) {
	if p.floor == 0 || p.received > p.came || p.came > deliveriesMost {
		return codeProtocol, fmt.Errorf("%w: floor %d, deliveries up to %d, %d", errFrame, p.floor, p.received, p.came)
	}
	c.id = id
	var from uint64
	t := c.s.o.Tables
	err := c.s.db.Update(c.ctx, func(tx *durable.Tx) (err error) {
		now, found := t.sessions.Get(tx, id)
		if !found || now.Ended {
			return ErrExpired // a moment ago
		}
		if err := c.s.o.Revocations.check(now.Principal, now.Epoch); err != nil {
			return err
		}
		if !c.s.seals.newest(now.Secret) { // the key was changed
			now.Secret = c.s.seals.seal(secret, purpose(id))
			t.sessions.Put(tx, id, now)
		}
		c.row, c.floor = now, max(now.Floor, 1)
		t.used(tx, id, 0) // not its floor: it may be of what was undone
		from = t.came(tx, id, p)
		return nil
	})
	switch {
	case errors.Is(err, ErrDenied):
		return codeDenied, err
	case errors.Is(err, ErrExpired):
		return codeExpired, err
	case err != nil:
		return codeClosing, err
	}
	c.sent.Store(p.came) // what has come need not be sent again, and may be acknowledged at once
	c.received.Store(from)
	if !c.attach(nonce) {
		return codeClosing, errLate
	}
	c.out.send(c.welcome(nil, nil))
	c.wg.Go(c.deliver)
	return codeOK, nil
}

// request lets a request be done, beside others.
func (c *conn) request(m *request) error {
	r := &Request{Session: c.id, Principal: c.row.Principal, Seq: m.seq, Body: m.body, floor: m.floor, window: c.row.Window, epoch: c.row.Epoch, sum: sumOf(m.body)}
	if err := r.check(c.floor); errors.Is(err, ErrStale) {
		c.out.send(&reply{seq: m.seq, code: codeStale})
		return nil
	} else if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return nil // it will be told when the others have their replies
	}
	slot := m.seq % c.row.Window
	if c.flight[slot] {
		return fmt.Errorf("%w: request %d while another one of its place is done", ErrProtocol, m.seq)
	}
	c.flight[slot] = true
	c.floor = max(c.floor, m.floor)
	c.wg.Go(func() { c.do(r) })
	return nil
}

func (c *conn) do(r *Request) {
	kept, err := c.s.update(c.ctx, r, func(tx *durable.Tx) ([]byte, error) { return c.s.o.Handle(tx, r) })
	over := errors.Is(err, ErrExpired) || errors.Is(err, ErrNoSession)
	switch {
	case c.ctx.Err() != nil:
		return // nobody was told, and the client asks again
	case over:
	case err != nil:
		c.s.o.Logger.Error("a request cannot be done", "session", r.Session, "err", err)
		c.leave(codeClosing, "")
		return
	default:
		c.out.send(&reply{seq: r.Seq, code: kept.code, body: kept.body})
	}
	c.mu.Lock()
	delete(c.flight, r.Seq%r.window)
	c.ended = c.ended || over
	over = c.ended && len(c.flight) == 0
	c.mu.Unlock()
	if over {
		c.leave(codeExpired, "")
	}
}

// expired ends the connection of a session that has ended, when what is being done has
// its reply: one of these may have ended it.
func (c *conn) expired() {
	c.mu.Lock()
	c.ended = true
	over := len(c.flight) == 0
	c.mu.Unlock()
	if over {
		c.leave(codeExpired, "")
	}
}

func (c *conn) acked(m *ack) error {
	if m.received > c.sent.Load() {
		return fmt.Errorf("%w: delivery %d was never sent", ErrProtocol, m.received)
	}
	c.floor = max(c.floor, m.floor)
	if m.received > c.received.Load() {
		c.received.Store(m.received)
		c.poke()
	}
	return nil
}
