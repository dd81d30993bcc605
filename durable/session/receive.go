package session

import (
	"context"
	"fmt"
	"iter"
)

// Delivery is what the server owed the session.
type Delivery struct {
	Number uint64 // in the session, from 1
	Body   []byte

	tag uint64
}

// ackEvery is how many deliveries are acknowledged together when more have come.
const ackEvery = 16

// Receive yields what the server owes the session, in order, each once, as long as
// the context goes on. A delivery is acknowledged when the loop's body has ended, also
// by break or return; what is not is delivered again to whoever goes on with the
// session. One loop at a time.
//
// The error, with which it ends, is that of the context or why the session is over.
func (c *Client) Receive(ctx context.Context) iter.Seq2[Delivery, error] {
	return func(yield func(Delivery, error) bool) {
		for {
			d, err := c.delivered(ctx)
			if err != nil {
				yield(Delivery{}, err)
				return
			}
			more := yield(d, nil)
			err = c.took(d)
			if !more {
				return
			}
			if err != nil {
				yield(Delivery{}, err)
				return
			}
		}
	}
}

// delivered waits for the next delivery.
func (c *Client) delivered(ctx context.Context) (Delivery, error) {
	for {
		c.mu.Lock()
		if len(c.came) > 0 {
			defer c.mu.Unlock()
			return c.came[0], nil
		}
		arrived, err := c.arrived, c.failed
		c.mu.Unlock()
		if err != nil {
			return Delivery{}, err
		}
		select {
		case <-arrived:
		case <-ctx.Done():
			return Delivery{}, ctx.Err()
		}
	}
}

// took says that a delivery was taken.
func (c *Client) took(d Delivery) error {
	c.mu.Lock()
	if len(c.came) == 0 || c.came[0].Number != d.Number {
		defer c.mu.Unlock()
		return nil // another loop has it
	}
	c.came = c.came[1:]
	c.taken = Delivery{Number: d.Number, tag: d.tag}
	c.mu.Unlock()
	if err := c.keep(c.ctx, 0, nil); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.out != nil && (len(c.came) == 0 || d.Number%ackEvery == 0) {
		c.out.send(&ack{floor: c.floor, received: c.received})
	}
	return nil
}

// last is the last delivery that has come: mu is held.
func (c *Client) last() Delivery {
	if n := len(c.came); n > 0 {
		return c.came[n-1]
	}
	return c.taken
}

// deliver takes in a delivery, once.
func (c *Client) deliver(m *delivery) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	last := c.last().Number
	if m.number <= last {
		return nil // sent again
	}
	if m.number != last+1 {
		return fmt.Errorf("%w: delivery %d behind %d", ErrProtocol, m.number, last)
	}
	c.came = append(c.came, Delivery{Number: m.number, Body: m.body, tag: m.tag})
	close(c.arrived)
	c.arrived = make(chan struct{})
	return nil
}
