package session

import (
	"cmp"
	"context"
	"fmt"
	"slices"
)

// Undone is a request whose reply the client has, and whose effect is gone.
type Undone struct {
	Seq  uint64
	Body []byte // nil: it was not remembered, see DialOptions.Remember
}

// A RolledBackError says that the server came back with an older state, of a
// generation before the newest or a backup: it names exactly those requests that
// were done, and answered, and are undone. It is an ErrRolledBack.
type RolledBackError struct {
	Undone  []Undone // in the order of their numbers
	Session bool     // the session itself is gone: it is an ErrNoSession, too
}

func (e *RolledBackError) Error() string {
	if e.Session {
		return fmt.Sprintf("%v: the session is gone, with %d requests", ErrRolledBack, len(e.Undone))
	}
	return fmt.Sprintf("%v: %d requests are undone", ErrRolledBack, len(e.Undone))
}

// Unwrap is what kind of an error it is.
func (e *RolledBackError) Unwrap() []error {
	if e.Session {
		return []error{ErrRolledBack, ErrNoSession}
	}
	return []error{ErrRolledBack}
}

// RolledBack is what was undone and not accepted yet; nil: nothing. Until Accept is
// called every new Call returns it.
func (c *Client) RolledBack() *RolledBackError {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.undone
}

// Accept lets calls go on after a rollback. What is to be done again is the caller's. When
// it returns nil nobody is told of it again; with a directory that is durable.
func (c *Client) Accept(ctx context.Context) error {
	c.mu.Lock()
	undone := c.undone
	c.mu.Unlock()
	if undone == nil || undone.Session {
		return nil
	}
	if err := c.kept.tell(ctx, undone.Undone, false); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.undone == undone { // else there is more by now
		c.undone = nil
	}
	return nil
}

// compare looks for requests that were answered and that the server does not know
// of: mu is held. True: there are some.
func (c *Client) compare(floor uint64, slots []uint64) bool {
	var list []Undone
	for _, from := range behind(c.session.window, floor, slots) {
		list = c.answered(list, from, c.session.window)
	}
	if len(list) > 0 {
		c.undo(list, false)
	}
	return len(list) > 0
}

// behind is for each slot the lowest request from a floor on that it does not know of,
// with all that are a window, two, three behind it. A slot knows of its last request,
// and so of all before that.
func behind(window, floor uint64, slots []uint64) []uint64 {
	list := make([]uint64, window)
	for slot := range list {
		list[slot] = uint64(slot)
	}
	for _, seq := range slots {
		list[seq%window] = seq + window
	}
	for slot, next := range list {
		if next < floor {
			list[slot] += (floor - next + window - 1) / window * window
		}
	}
	return list
}

// answered adds those of every so manieth request from one on that have a reply
// and were not told of as undone: mu is held.
func (c *Client) answered(list []Undone, from, every uint64) []Undone {
	for seq := from; seq < c.next; seq += every {
		if seq > 0 && c.calls[seq] == nil && !c.told[seq] {
			list = append(list, Undone{Seq: seq, Body: c.bodies[seq]})
		}
	}
	return list
}

// undo tells of requests that are undone, once: mu is held.
func (c *Client) undo(list []Undone, session bool) {
	for _, u := range list {
		c.told[u.Seq] = true
	}
	c.undone = c.undone.with(list, session)
}

// with is the error with more that is undone. It may be nil.
func (e *RolledBackError) with(list []Undone, session bool) *RolledBackError {
	if e != nil {
		list = append(slices.Clone(e.Undone), list...)
	}
	slices.SortFunc(list, func(a, b Undone) int { return cmp.Compare(a.Seq, b.Seq) })
	return &RolledBackError{Undone: list, Session: session}
}

// remember keeps the body of a request that has a reply: mu is held.
func (c *Client) remember(seq uint64, body []byte) {
	if c.o.Remember <= 0 {
		return
	}
	c.bodies[seq] = body
	delete(c.bodies, seq-uint64(c.o.Remember))
}
