package session

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/wakepoint/wakepoint/durable"
)

const (
	// OwedMax is how many deliveries a session may have that were not acknowledged.
	OwedMax = 10_000
	// deliverAhead is how many are sent before the first one is acknowledged.
	deliverAhead = 256
)

// Send owes a session something: it is delivered when the transaction is durable,
// in the order of the calls, as often as it takes, until the client says that it
// has come. Errors: ErrNoSession, ErrExpired, ErrTooLarge, ErrOwed.
func (s *Server) Send(tx *durable.Tx, id uint64, body []byte) error {
	t := s.o.Tables
	r, found := t.sessions.Get(tx, id)
	switch {
	case !found:
		return fmt.Errorf("%w: %d", ErrNoSession, id)
	case r.Ended:
		return fmt.Errorf("%w: %d", ErrExpired, id)
	case len(body) > s.o.Largest:
		return fmt.Errorf("%w: a delivery of %d bytes, at most %d", ErrTooLarge, len(body), s.o.Largest)
	}
	o, _ := t.sent.Get(tx, id)
	for key := range t.owed.Range(tx, owedKey(id, 0), owedKey(id+1, 0)) {
		if o.Last-owedNumber(key) >= OwedMax-1 {
			return fmt.Errorf("%w: %d", ErrOwed, id)
		}
		break
	}
	o.Last++
	t.sent.Put(tx, id, o)
	t.owed.Put(tx, owedKey(id, o.Last), append(binary.BigEndian.AppendUint64(nil, s.life), body...))
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.conns[id]; c != nil {
		c.poke()
	}
	return nil
}

// owes is what is kept of a session's deliveries. Each has a tag beside its body (8 bytes
// before it): the random number of the server's life in which it was sent.
type owes struct {
	Last  uint64 `cbor:"1,keyasint"`           // number of the last one
	Shift uint64 `cbor:"2,keyasint,omitempty"` // by so much the client's numbers are higher
}

// deliveriesMost is more than a session has.
const deliveriesMost = 1 << 62

// came takes away what a client has taken that goes on, and returns behind which number
// it is to be sent what it is still owed. When the last one that has come to it is not the
// one that has its number here, the server was rolled back: then all that is owed is
// sent again, with numbers behind those.
func (t *Tables) came(tx *durable.Tx, id uint64, p *proof) (behind uint64) {
	o, _ := t.sent.Get(tx, id)
	same := p.came <= o.Shift+o.Last
	if same && p.came > o.Shift {
		b, owed := t.owed.Get(tx, owedKey(id, p.came-o.Shift))
		same = !owed || tagOf(b) == p.tag
	}
	if same {
		t.took(tx, id, p.received)
		return p.received
	}
	first := o.Last + 1
	for key := range t.owed.Range(tx, owedKey(id, 0), owedKey(id+1, 0)) {
		first = owedNumber(key)
		break
	}
	o.Shift = p.came + 1 - first
	t.sent.Put(tx, id, o)
	return p.came
}

// took takes away what a client has taken.
func (t *Tables) took(tx *durable.Tx, id, received uint64) {
	o, _ := t.sent.Get(tx, id)
	for key := range t.owed.Range(tx, owedKey(id, 0), owedKey(id+1, 0)) {
		if owedNumber(key)+o.Shift > received {
			break
		}
		t.owed.Delete(tx, key)
	}
}

// next are deliveries behind a number, at most so many.
func (t *Tables) next(tx *durable.Tx, id, behind uint64, most int) (list []*delivery) {
	o, _ := t.sent.Get(tx, id)
	for key, b := range t.owed.Range(tx, owedKey(id, behind-min(behind, o.Shift)+1), owedKey(id+1, 0)) {
		if len(list) == most {
			break
		}
		list = append(list, &delivery{number: owedNumber(key) + o.Shift, tag: tagOf(b), body: b[8:]})
	}
	return list
}

func tagOf(owed []byte) uint64 { return binary.BigEndian.Uint64(owed) }

func (c *conn) poke() {
	select {
	case c.more <- struct{}{}:
	default:
	}
}

// deliver sends what the session is owed, and takes away what has come.
func (c *conn) deliver() {
	taken := c.received.Load()
	for {
		if err := c.deliverAll(&taken); err != nil {
			c.undeliverable(err)
			return
		}
		select {
		case <-c.more:
		case <-c.ctx.Done():
			return
		}
	}
}

// undeliverable ends a connection, to whose client nothing can be delivered.
func (c *conn) undeliverable(err error) {
	switch {
	case c.ctx.Err() != nil:
	case errors.Is(err, ErrExpired):
		c.expired()
	case errors.Is(err, ErrDenied):
		c.leave(codeDenied, "")
	default:
		c.s.o.Logger.Error("what is owed cannot be delivered", "session", c.id, "err", err)
		c.leave(codeClosing, "")
	}
}

func (c *conn) deliverAll(taken *uint64) error {
	t := c.s.o.Tables
	var denied error
	// Whoever poked may not be done with its transaction. This one runs behind it.
	err := c.s.db.Update(c.ctx, func(tx *durable.Tx) error {
		if r, found := t.sessions.Get(tx, c.id); !found || r.Ended {
			return ErrExpired
		}
		if err := c.s.o.Revocations.check(c.row.Principal, c.row.Epoch); err != nil {
			return err
		}
		if n := c.received.Load(); n > *taken {
			t.took(tx, c.id, n)
			*taken = n
		}
		denied = c.s.allows(tx, c.row.Principal)
		return nil
	})
	if err == nil && denied != nil {
		c.s.o.Logger.Info("what is owed waits", "session", c.id, "err", denied)
		return nil
	}
	for err == nil {
		var list []*delivery
		room := deliverAhead - int(c.sent.Load()-c.received.Load())
		err = c.s.db.View(c.ctx, func(tx *durable.Tx) error {
			list = t.next(tx, c.id, c.sent.Load(), room)
			return nil
		})
		if err != nil || len(list) == 0 {
			break
		}
		for _, m := range list {
			c.sent.Store(m.number)
			c.out.send(m)
		}
		if !c.out.room() {
			return context.Canceled
		}
	}
	return err
}
