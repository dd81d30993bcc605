package session

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/wakepoint/wakepoint/durable"
)

// DialOptions says how a client reaches its server. Dial is needed.
type DialOptions struct {
	// Dial connects with the server: TCP, a UNIX socket, TLS, whatever is a net.Conn.
	Dial func(ctx context.Context) (net.Conn, error)
	// Credentials are what the server's Login gets when the session begins, at most 16,000
	// bytes.
	Credentials []byte
	// Dir is a directory of the client's own in which its session and its requests are
	// kept, so that they survive its crash; "": in memory. The secret lies open in it.
	Dir string
	// Anew begins a new session also where Dir has one, which is forgotten.
	Anew bool
	// Recovered is told the replies to requests of an earlier life that are in Dir; nil:
	// they are done, and nobody hears of it. One call follows the other; a crash before it
	// returns repeats it.
	Recovered func(body, reply []byte, err error)
	// Remember is how many of the last requests with a reply are kept, for a
	// RolledBackError; 0: none.
	Remember int
	Logger   *slog.Logger // nil: none
}

// Client is one end of a session. Any number of goroutines may use it.
type Client struct {
	o    DialOptions
	ctx  context.Context // until it is closed
	end  context.CancelFunc
	over chan struct{} // closed when nothing runs any more
	kept *kept         // nil: only in memory
	life uint64        // a random number

	attempt uint64          // of run: connections so far
	nonce   [nonceSize]byte // of run: of the connection

	mu         sync.Mutex // guards the rest
	session    known
	next       uint64            // number of the next request
	low        uint64            // the lowest without a reply
	floor      uint64            // what the server is told of that: with a directory what is there
	done       []uint64          // that have a reply, and are in the directory
	calls      map[uint64]*call  // that have no reply
	out        *sender           // of the connection; nil: there is none
	came       []Delivery        // and were not taken
	taken      Delivery          // the last one that was taken, without its body
	received   uint64            // what the server is told of that: with a directory what is there
	arrived    chan struct{}     // closed when there is one, or it is over
	recovering chan struct{}     // closed when Recovered has returned that was called last; nil: it was not
	undone     *RolledBackError  // not accepted yet
	told       map[uint64]bool   // numbers of requests that are undone, or that never were
	bodies     map[uint64][]byte // of requests that have a reply, as far as they are remembered
	moved      chan struct{}     // closed when the floor has moved, or it is over
	failed     error             // why there is no session any more
	cause      error             // why there is no connection
}

// known is what a client knows of its session.
type known struct {
	id      uint64
	secret  []byte
	refusal []byte // see proof.go
	window  uint64
	most    uint64 // size of a body
}

// call is a request on its way.
type call struct {
	body  []byte
	done  chan struct{} // closed when there is a reply
	reply []byte
	err   error

	unsent    bool // it is not in the directory yet
	recovered bool // of an earlier life
	told      bool // Recovered is told of it
}

// credentialsMost is what has room in the first frame.
const credentialsMost = 16_000

const (
	againLeast = 5 * time.Millisecond // from one try to connect to the next
	againMost  = 2 * time.Second
)

// Dial begins a session, or goes on with that of DialOptions.Dir. It returns when
// there is one: ctx bounds that, and nothing later.
func Dial(ctx context.Context, o DialOptions) (*Client, error) {
	if o.Dial == nil {
		return nil, errors.New("session: no Dial")
	}
	if n := len(o.Credentials); n > credentialsMost {
		return nil, fmt.Errorf("%w: credentials of %d bytes, at most %d", ErrTooLarge, n, credentialsMost)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	c := &Client{o: o, over: make(chan struct{}), life: rand.Uint64(), next: 1, low: 1, floor: 1, calls: map[uint64]*call{},
		told: map[uint64]bool{}, bodies: map[uint64][]byte{}, arrived: make(chan struct{}), moved: make(chan struct{})}
	c.ctx, c.end = context.WithCancel(context.Background())
	if err := c.openKept(ctx); err != nil {
		return nil, err
	}
	begun := make(chan error, 2)
	if c.session.id > 0 {
		begun <- nil
	}
	go c.run(begun)
	select {
	case err := <-begun:
		if err != nil {
			return nil, errors.Join(err, c.Close())
		}
		return c, nil
	case <-ctx.Done():
		c.mu.Lock()
		cause := c.cause
		c.mu.Unlock()
		_ = c.Close() // nothing was asked for
		return nil, errors.Join(ctx.Err(), cause)
	}
}

// ID is the number of the session.
func (c *Client) ID() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.session.id
}

// Call lets the server do a request, once, whatever becomes of connections and of
// the server meanwhile, and returns its reply. Where the context ends first the
// request may be done all the same: ErrUnknown.
//
// Errors: *RemoteError is the handler's own, and ErrDenied, ErrTooLarge: nothing was
// changed. ErrExpired, ErrNoSession, ErrReplaced, ErrClosed: the session is over,
// and what was on its way is unknown. *RolledBackError: nothing was asked for, see
// Accept.
func (c *Client) Call(ctx context.Context, body []byte) ([]byte, error) {
	k, err := c.begin(ctx, body)
	if err != nil {
		return nil, err
	}
	select {
	case <-k.done:
		return k.reply, k.err
	case <-ctx.Done():
		c.mu.Lock()
		defer c.mu.Unlock()
		return nil, errors.Join(ErrUnknown, ctx.Err(), c.cause)
	}
}

// begin puts a request on its way, when the window has room for it.
func (c *Client) begin(ctx context.Context, body []byte) (*call, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	for {
		c.mu.Lock()
		switch {
		case c.failed != nil:
			defer c.mu.Unlock()
			return nil, c.failed
		case c.undone != nil:
			defer c.mu.Unlock()
			return nil, c.undone
		case uint64(len(body)) > c.session.most:
			defer c.mu.Unlock()
			return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, len(body), c.session.most)
		case c.next-c.floor < c.session.window:
			seq, k := c.next, &call{body: append([]byte{}, body...), done: make(chan struct{}), unsent: c.kept != nil}
			c.calls[seq] = k
			c.next++
			if k.unsent {
				c.mu.Unlock()
				return k, c.keepCall(ctx, seq, k)
			}
			c.send(seq, k)
			c.mu.Unlock()
			return k, nil
		}
		moved, lag := c.moved, c.kept != nil && c.low > c.floor
		c.mu.Unlock()
		if lag {
			if err := c.keep(ctx, 0, nil); err != nil {
				return nil, err
			}
			continue
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// send sends a request, if there is a connection: mu is held.
func (c *Client) send(seq uint64, k *call) {
	if c.out != nil {
		c.out.send(&request{seq: seq, floor: c.floor, body: k.body})
	}
}

// Close ends the client. The session stays with the server until it expires; what
// has no reply is unknown.
func (c *Client) Close() error {
	c.end()
	<-c.over
	if c.kept == nil {
		return nil
	}
	if err := c.kept.db.Close(); !errors.Is(err, durable.ErrClosed) {
		return err
	}
	return nil
}

// run keeps a connection until the session is over.
func (c *Client) run(begun chan<- error) {
	defer close(c.over)
	wait := againLeast
	for {
		ok, err := c.connect(begun)
		if ok {
			wait = againLeast
		}
		c.mu.Lock()
		c.out, c.cause = nil, err
		fresh := c.session.id == 0
		c.mu.Unlock()
		if c.ctx.Err() != nil {
			err = ErrClosed
		}
		if final(err, ok || fresh) || c.ctx.Err() != nil {
			err = c.fail(err)
			if fresh {
				begun <- err
			}
			return
		}
		c.o.Logger.Info("no connection", "err", err)
		select {
		case <-time.After(wait/2 + rand.N(wait)):
		case <-c.ctx.Done():
		}
		wait = min(wait*9/8, againMost)
	}
}

// final says that it is of no use to come again. Before the server has proven itself its
// frames may be somebody's.
func final(err error, proven bool) bool {
	if proven && (errors.Is(err, ErrProtocol) || errors.Is(err, errFrame)) {
		return true
	}
	if said := (refusalError{}); !errors.As(err, &said) {
		return false
	}
	return !errors.Is(err, ErrClosed)
}

// fail ends all calls, and returns why.
func (c *Client) fail(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if errors.Is(err, errBehind) {
		c.undo(c.answered(nil, 1, 1), true)
		err = c.undone
	}
	c.failed = err
	for seq, k := range c.calls {
		if !k.told {
			k.err = errors.Join(err, ErrUnknown)
		}
		close(k.done)
		delete(c.calls, seq)
	}
	close(c.moved)
	close(c.arrived)
	return err
}
