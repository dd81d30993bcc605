package session

import (
	"context"
	"errors"
	"fmt"

	"github.com/wakepoint/wakepoint/durable"
)

// kept is what a client keeps in a directory of its own, so that it survives its own
// crash: its session, and what it asked for.
//
// A request is kept before it is sent, and let go with the next one behind its reply:
// that needs no flush of its own. So the floor that a server is told of is the one
// that is on the disk.
type kept struct {
	db       *durable.DB
	sessions *durable.Table[string, keptSession] // one: keptName
	calls    *durable.Table[uint64, []byte]
	answered *durable.Table[uint64, []byte] // the last DialOptions.Remember of them
	told     *durable.Table[uint64, bool]   // as Client.told; true: undone, and not accepted yet
}

const keptName = "session"

// keptSession is what is kept of a session.
type keptSession struct {
	ID       uint64 `cbor:"1,keyasint"`
	Secret   []byte `cbor:"2,keyasint"`
	Window   uint64 `cbor:"3,keyasint"`
	Most     uint64 `cbor:"4,keyasint"`
	Next     uint64 `cbor:"5,keyasint"` // requests below it were asked for, but for some of told
	Received uint64 `cbor:"6,keyasint,omitempty"`
	Refusal  []byte `cbor:"7,keyasint"`
	Tag      uint64 `cbor:"8,keyasint,omitempty"` // of Received
}

// openKept opens the directory of a client, if it has one, and takes in what is
// there.
func (c *Client) openKept(ctx context.Context) error {
	if c.o.Dir == "" {
		return nil
	}
	k := &kept{sessions: durable.NewTable[string, keptSession]("session"), calls: durable.NewTable[uint64, []byte]("calls"),
		answered: durable.NewTable[uint64, []byte]("answered"), told: durable.NewTable[uint64, bool]("told")}
	db, _, err := durable.Open(ctx, durable.Options{Dir: c.o.Dir, Logger: c.o.Logger}, k.sessions, k.calls, k.answered, k.told)
	if err != nil {
		return fmt.Errorf("session: directory of the client: %w", err)
	}
	if k.db = db; c.o.Anew {
		err = k.forget(ctx)
	}
	if err == nil {
		err = db.View(ctx, func(tx *durable.Tx) error { return c.takeIn(tx, k) })
	}
	if err != nil {
		return errors.Join(err, db.Close())
	}
	c.kept = k
	return nil
}

// takeIn takes in what is kept.
func (c *Client) takeIn(tx *durable.Tx, k *kept) error {
	s, found := k.sessions.Get(tx, keptName)
	if !found {
		return nil
	}
	if len(s.Secret) != secretSize || len(s.Refusal) != proofSize || s.Window == 0 || s.Window > WindowMax {
		return errors.New("session: the directory of the client is malformed")
	}
	c.session = known{id: s.ID, secret: s.Secret, refusal: s.Refusal, window: s.Window, most: s.Most}
	c.next, c.taken, c.received = s.Next, Delivery{Number: s.Received, tag: s.Tag}, s.Received
	for seq, body := range k.calls.All(tx) {
		c.calls[seq] = &call{body: body, done: make(chan struct{}), recovered: true}
	}
	for seq, body := range k.answered.All(tx) {
		c.bodies[seq] = body
	}
	var undone []Undone
	for seq, pending := range k.told.All(tx) {
		if c.told[seq] = true; pending {
			undone = append(undone, Undone{Seq: seq, Body: c.bodies[seq]})
		}
	}
	if len(undone) > 0 {
		c.undo(undone, false)
	}
	c.advance()
	c.floor = c.low
	return nil
}

// keepCall makes a request durable, and sends it.
func (c *Client) keepCall(ctx context.Context, seq uint64, k *call) error {
	err := c.keep(ctx, seq, k.body)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil && !errors.Is(err, durable.ErrUnknown) {
		delete(c.calls, seq) // it never was
		c.told[seq] = true
		c.advance()
		return err
	}
	if k.unsent = false; c.failed == nil {
		c.send(seq, k)
	}
	if err != nil {
		return errors.Join(ErrUnknown, err)
	}
	return nil
}

// keep makes durable how things stand, with a request that is to be sent, and lets go
// of those that have a reply. Then the server may be told of their floor, and of what
// was taken.
func (c *Client) keep(ctx context.Context, seq uint64, body []byte) error {
	c.mu.Lock()
	if c.kept == nil {
		c.received = c.taken.Number
		c.mu.Unlock()
		return nil
	}
	done, low := c.done, c.low
	c.done = nil
	s := keptSession{ID: c.session.id, Secret: c.session.secret, Refusal: c.session.refusal, Window: c.session.window, Most: c.session.most, Next: 1, Received: c.taken.Number, Tag: c.taken.tag}
	c.mu.Unlock()
	k := c.kept
	err := k.db.Update(ctx, func(tx *durable.Tx) error {
		for _, n := range done {
			k.letGo(tx, n, uint64(max(c.o.Remember, 0)))
		}
		if old, _ := k.sessions.Get(tx, keptName); old.ID == s.ID { // another one may have been faster
			if s.Next = old.Next; s.Received < old.Received {
				s.Received, s.Tag = old.Received, old.Tag
			}
		}
		if seq > 0 {
			k.calls.Put(tx, seq, body)
			k.told.Delete(tx, seq)
		}
		for ; s.Next <= seq; s.Next++ {
			if s.Next < seq {
				k.told.Put(tx, s.Next, false) // it comes later, or never
			}
		}
		k.sessions.Put(tx, keptName, s)
		return nil
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.done = append(c.done, done...) // once more does no harm
		return err
	}
	c.floor, c.received = max(c.floor, low), max(c.received, s.Received)
	return nil
}

// forget lets go of a session, with all that was asked for.
func (k *kept) forget(ctx context.Context) error {
	return k.db.Update(ctx, func(tx *durable.Tx) error {
		k.sessions.Delete(tx, keptName)
		for seq := range k.calls.All(tx) {
			k.calls.Delete(tx, seq)
		}
		for seq := range k.answered.All(tx) {
			k.answered.Delete(tx, seq)
		}
		for seq := range k.told.All(tx) {
			k.told.Delete(tx, seq)
		}
		return nil
	})
}

// letGo lets go of a request that has a reply, but for what is to be remembered.
func (k *kept) letGo(tx *durable.Tx, seq, remember uint64) {
	if body, found := k.calls.Get(tx, seq); found && remember > 0 {
		k.answered.Put(tx, seq, body)
		if seq > remember {
			k.answered.Delete(tx, seq-remember)
		}
	}
	k.calls.Delete(tx, seq)
}

// tell keeps what is undone; pending: it was not accepted yet.
func (k *kept) tell(ctx context.Context, list []Undone, pending bool) error {
	if k == nil {
		return nil
	}
	return k.db.Update(ctx, func(tx *durable.Tx) error {
		for _, u := range list {
			k.told.Put(tx, u.Seq, pending)
		}
		return nil
	})
}
