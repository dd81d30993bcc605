package session

import (
	"context"
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
	n, _ := t.sent.Get(tx, id)
	for key := range t.owed.Range(tx, owedKey(id, 0), owedKey(id+1, 0)) {
		if n-owedNumber(key) >= OwedMax-1 {
			return fmt.Errorf("%w: %d", ErrOwed, id)
		}
		break
	}
	n++
	t.sent.Put(tx, id, n)
	t.owed.Put(tx, owedKey(id, n), body)
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.conns[id]; c != nil {
		c.poke()
	}
	return nil
}

// came takes away what was acknowledged. A client to which more has come than was
// ever sent knows of deliveries that were undone: the next ones get numbers behind
// those.
func (t *Tables) came(tx *durable.Tx, id, received, last uint64) {
	for key := range t.owed.Range(tx, owedKey(id, 0), owedKey(id+1, 0)) {
		if owedNumber(key) > received {
			break
		}
		t.owed.Delete(tx, key)
	}
	if n, _ := t.sent.Get(tx, id); n < last {
		t.sent.Put(tx, id, last)
	}
}

// next are deliveries behind a number, at most so many.
func (t *Tables) next(tx *durable.Tx, id, behind uint64, most int) (list []*delivery) {
	for key, body := range t.owed.Range(tx, owedKey(id, behind+1), owedKey(id+1, 0)) {
		if len(list) == most {
			break
		}
		list = append(list, &delivery{number: owedNumber(key), body: body})
	}
	return list
}

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
		c.leave(codeExpired, "")
	case errors.Is(err, ErrDenied):
		c.leave(codeDenied, "")
	default:
		c.s.o.Logger.Error("what is owed cannot be delivered", "session", c.id, "err", err)
		c.leave(codeClosing, "")
	}
}

func (c *conn) deliverAll(taken *uint64) error {
	t := c.s.o.Tables
	// Whoever poked may not be done with its transaction. This one runs behind it.
	err := c.s.db.Update(c.ctx, func(tx *durable.Tx) error {
		if r, found := t.sessions.Get(tx, c.id); !found || r.Ended {
			return ErrExpired
		}
		if err := c.s.allowed(tx, c.row.Principal, c.row.Epoch); err != nil {
			return err
		}
		if n := c.received.Load(); n > *taken {
			t.came(tx, c.id, n, n)
			*taken = n
		}
		return nil
	})
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
