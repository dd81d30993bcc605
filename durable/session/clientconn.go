package session

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"time"
)

// connect keeps one connection until it ends; true: the session was there.
func (c *Client) connect(begun chan<- error) (ok bool, err error) {
	ctx, cancel := context.WithTimeout(c.ctx, handshakeMost)
	nc, err := c.o.Dial(ctx)
	cancel()
	if err != nil {
		return false, fmt.Errorf("dial: %w", err)
	}
	out := newSender(nc, true)
	defer out.close()
	stop := context.AfterFunc(c.ctx, func() {
		out.last(&bye{code: codeClosing})
		_ = nc.SetDeadline(time.Now().Add(closeMost)) // also of one that is not a connection yet
	})
	defer stop()
	r := bufio.NewReader(nc)
	_ = nc.SetDeadline(time.Now().Add(handshakeMost)) // an error shows at the next call
	if err := c.greet(nc, r, out, begun); err != nil {
		return false, err
	}
	r = bufio.NewReader(io.MultiReader(rest(r), patient{nc}))
	over := make(chan struct{})
	defer close(over)
	go func() {
		for {
			select {
			case <-time.After(pingAfter):
				out.send(&ping{})
			case <-over:
				return
			}
		}
	}()
	for {
		m, err := c.read(r)
		if err != nil {
			return true, err
		}
		if err := c.take(m); err != nil {
			return true, err
		}
	}
}

// closeMost is how long a connection is waited for that is to end.
const closeMost = 100 * time.Millisecond

// A refusalError is what a server says that has proven to be the session's.
type refusalError struct{ error }

func (e refusalError) Unwrap() error { return e.error }

// read reads a frame, of which a last one is an error.
func (c *Client) read(r *bufio.Reader) (message, error) {
	m, err := readFrame(r, bodyMost+frameMore)
	if err != nil {
		return nil, err
	}
	b, ok := m.(*bye)
	if !ok {
		return m, nil
	}
	c.mu.Lock()
	mine := c.session
	c.mu.Unlock()
	switch err := b.code.error(b.text); {
	case mine.id == 0 || refused(mine.refusal, b.proofs, b.code, c.nonce):
		return nil, refusalError{err}
	case b.code == codeClosing:
		return nil, err
	default:
		return nil, fmt.Errorf("%w says, without proof: %v", ErrWrongServer, err)
	}
}

// greet begins the session, or goes on with it, and sends what has no reply.
func (c *Client) greet(nc net.Conn, r *bufio.Reader, out *sender, begun chan<- error) error {
	c.mu.Lock()
	mine := c.session
	c.attempt++
	c.mu.Unlock()
	h := &hello{version: version, id: mine.id, nonce: clientNonce(c.life, c.attempt)}
	c.nonce = h.nonce
	if mine.id == 0 {
		h.credentials = c.o.Credentials
		out.send(h)
		w, err := c.welcomed(r)
		if err != nil {
			return err
		}
		if w.id == 0 || len(w.secret) != secretSize || len(w.refusal) != proofSize || w.window == 0 || w.window > WindowMax {
			return fmt.Errorf("%w: malformed welcome", ErrProtocol)
		}
		c.mu.Lock()
		c.session = known{w.id, w.secret, w.refusal, w.window, w.most}
		c.out = out
		c.mu.Unlock()
		err = c.keep(c.ctx, 0, nil)
		begun <- err
		return err
	}
	out.send(h)
	m, err := c.read(r)
	if err != nil {
		return err
	}
	answer, ok := m.(*challenge)
	if !ok {
		return fmt.Errorf("%w: kind %d for a challenge", ErrProtocol, m.kind())
	}
	bound, err := binding(nc)
	if err != nil {
		return err
	}
	if !proves(prove(mine.secret, byServer, mine.id, h.nonce, answer.nonce, bound), answer.proof) {
		return ErrWrongServer
	}
	refusal, floor, slots, err := openState(prove(mine.secret, ofState, mine.id, h.nonce, answer.nonce, bound), answer.state)
	if err != nil {
		return err
	}
	if err := c.behind(refusal, floor, slots); err != nil {
		return err
	}
	c.resend(out, prove(mine.secret, byClient, mine.id, h.nonce, answer.nonce, bound))
	w, err := c.welcomed(r)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.session.most = w.most
	return nil
}

// welcomed reads a welcome.
func (c *Client) welcomed(r *bufio.Reader) (*welcome, error) {
	m, err := c.read(r)
	if err != nil {
		return nil, err
	}
	w, ok := m.(*welcome)
	if !ok {
		return nil, fmt.Errorf("%w: kind %d for a welcome", ErrProtocol, m.kind())
	}
	return w, nil
}

// behind looks whether the server was rolled back, before it does what is sent again: that
// would take the place of what it does not know of.
func (c *Client) behind(refusal []byte, floor uint64, slots []uint64) error {
	c.mu.Lock()
	c.session.refusal = refusal // the server may have another key
	more := c.compare(floor, slots)
	undone := c.undone
	c.mu.Unlock()
	if !more {
		return nil
	}
	return c.kept.tell(c.ctx, undone.Undone, true)
}

// resend proves the session and sends all that has no reply, in the order of the
// numbers. What is asked for from here on goes the same way.
func (c *Client) resend(out *sender, p [proofSize]byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	last := c.last()
	out.send(&proof{proof: p, floor: c.floor, received: c.received, came: last.Number, tag: last.tag})
	for seq := c.low; seq < c.next; seq++ {
		if k, ok := c.calls[seq]; ok && !k.unsent {
			out.send(&request{seq: seq, floor: c.floor, body: k.body})
		}
	}
	c.out = out
}

// take takes in what the server sends.
func (c *Client) take(m message) error {
	switch m := m.(type) {
	case *reply:
		c.replied(m)
		return nil
	case *delivery:
		return c.deliver(m)
	case *pong:
		return nil
	}
	return fmt.Errorf("%w: kind %d here", ErrProtocol, m.kind())
}

// replied ends a call.
func (c *Client) replied(m *reply) {
	c.mu.Lock()
	k, ok := c.calls[m.seq]
	c.mu.Unlock()
	if !ok || k.told {
		return // sent twice, answered twice
	}
	k.reply, k.err = m.body, m.code.error(m.body)
	if k.err != nil {
		k.reply = nil
	}
	if k.recovered && c.o.Recovered != nil {
		c.recover(m.seq, k)
		return
	}
	c.answer(m.seq, k)
}

// recover tells of replies to requests of an earlier life, one after the other, beside all
// else. Until then they have none.
func (c *Client) recover(seq uint64, k *call) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if k.told {
		return // sent twice
	}
	k.told = true
	before, over := c.recovering, make(chan struct{})
	c.recovering = over
	go func() {
		defer close(over)
		if before != nil {
			<-before
		}
		c.o.Recovered(k.body, k.reply, k.err)
		c.answer(seq, k)
	}()
}

// answer ends a call that has a reply.
func (c *Client) answer(seq uint64, k *call) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.calls[seq] != k {
		return // all has ended
	}
	delete(c.calls, seq)
	close(k.done)
	c.remember(seq, k.body)
	if c.kept != nil {
		c.done = append(c.done, seq)
	}
	if seq == c.low {
		c.advance()
	}
}

// advance finds the lowest request without a reply: mu is held.
func (c *Client) advance() {
	if c.failed != nil {
		return // all has ended
	}
	for c.low < c.next && c.calls[c.low] == nil {
		c.low++
	}
	if c.kept == nil {
		c.floor = c.low
	}
	close(c.moved)
	c.moved = make(chan struct{})
}
