package session

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"runtime/debug"
	"sync"
	"time"

	"github.com/wakepoint/wakepoint/durable"
)

// A Peer is who wants a session.
type Peer struct {
	Conn        net.Conn // its address, and what TLS knows of it; not to be read from
	Credentials []byte   // the client's DialOptions.Credentials
}

// Options says what a server does. Tables, Keys, Login and Handle are needed.
type Options struct {
	Tables *Tables
	// Keys seal the secrets of sessions in the store, with KeySize bytes each. The
	// first one seals; all unseal, so that keys can be changed.
	Keys [][]byte
	// Login says who a peer is, when a session begins and never again: an error is
	// told to the client as ErrDenied. A Dial that loses its connection meanwhile logs
	// in again.
	Login func(ctx context.Context, p Peer) (principal string, err error)
	// Handle does a request in a transaction, once, however often it is sent. When
	// it returns an error nothing was changed, and the client gets a *RemoteError
	// with its text. As a closure of Update it must not block.
	Handle func(tx *durable.Tx, r *Request) ([]byte, error)
	// Allow is asked in the transactions in which a session begins and in which a request
	// is done, and before deliveries, which wait as long as it has an error; that of a
	// request is told as ErrDenied. nil: whoever has a session.
	Allow func(tx *durable.Tx, principal string) error
	// Revocations say whose sessions are void; nil: nobody's.
	Revocations *Revocations
	// Expiry is after how long without a connection a session ends, of the time in
	// which a server runs; 0: 30 days.
	Expiry time.Duration
	// Window is how many requests of a session may be in flight, at most WindowMax; 0: 64.
	Window int
	// Largest is the size of the largest request and reply, in bytes; 0: 1 MiB.
	Largest int
	Logger  *slog.Logger // nil: none
}

const (
	windowDefault  = 64
	largestDefault = 1 << 20
	// frameMore is what a frame has beside a body.
	frameMore = 64
	// handshakeMost is how long a peer may take to say who it is.
	handshakeMost = 10 * time.Second
	// silence is after how long without a frame a connection is taken for dead;
	// clients say something each pingAfter.
	silence   = time.Minute
	pingAfter = silence / 4
)

func (o Options) filled() (Options, error) {
	switch {
	case o.Tables == nil || o.Login == nil || o.Handle == nil:
		return o, errors.New("session: Tables, Login and Handle are needed")
	case o.Window < 0 || o.Window > WindowMax:
		return o, fmt.Errorf("session: a window of %d, at most %d", o.Window, WindowMax)
	case o.Largest < 0 || o.Largest > durable.TransactionMax/2:
		return o, fmt.Errorf("session: bodies of %d bytes, at most %d", o.Largest, durable.TransactionMax/2)
	}
	if o.Window == 0 {
		o.Window = windowDefault
	}
	if o.Largest == 0 {
		o.Largest = largestDefault
	}
	if o.Expiry <= 0 {
		o.Expiry = expiryDefault
	}
	o.Expiry = max(o.Expiry, sweeps*time.Millisecond)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o, nil
}

// Server keeps the sessions of a database and serves them over connections.
type Server struct {
	o     Options
	db    *durable.DB
	seals sealer
	end   context.CancelFunc
	ctx   context.Context // of all that runs for connections
	wg    sync.WaitGroup  // connections
	life  uint64          // a random number

	mu        sync.Mutex // guards the rest
	conns     map[uint64]*conn
	all       map[*conn]bool // also those that have no session yet
	listeners map[net.Listener]bool
	closed    bool
	closing   chan struct{} // closed with it
}

// NewServer returns a server for a database that was opened with Options.Tables. There
// is one for a database at a time.
func NewServer(db *durable.DB, o Options) (*Server, error) {
	o, err := o.filled()
	if err != nil {
		return nil, err
	}
	seals, err := newSealer(o.Keys)
	if err != nil {
		return nil, err
	}
	s := &Server{o: o, db: db, seals: seals, life: rand.Uint64(), conns: map[uint64]*conn{}, all: map[*conn]bool{}, listeners: map[net.Listener]bool{}, closing: make(chan struct{})}
	s.ctx, s.end = context.WithCancel(context.Background())
	s.wg.Go(s.keepSweeping)
	o.Revocations.tell(s, true)
	return s, nil
}

// Serve serves the connections of a listener until it or the server is closed, and
// closes it.
func (s *Server) Serve(l net.Listener) error {
	defer l.Close() // Close may have done it, and tells of errors
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return ErrClosed
	}
	s.listeners[l] = true
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.listeners, l)
		s.mu.Unlock()
	}()
	for wait := acceptLeast; ; {
		c, err := l.Accept()
		switch {
		case err == nil:
			wait = acceptLeast
			if !s.begin(func() { s.serve(c) }) {
				return errors.Join(ErrClosed, c.Close())
			}
		case s.over():
			return ErrClosed
		case errors.Is(err, net.ErrClosed):
			return err
		default: // too many files, or a connection that was gone again
			s.o.Logger.Warn("a connection cannot be accepted", "err", err)
			select {
			case <-time.After(wait):
			case <-s.ctx.Done():
				return ErrClosed
			}
			wait = min(2*wait, acceptMost)
		}
	}
}

const acceptLeast, acceptMost = 5 * time.Millisecond, time.Second

func (s *Server) over() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// begin runs f for a connection, if the server is open.
func (s *Server) begin(f func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.wg.Go(f)
	return true
}

// ServeConn serves a connection until it ends, and closes it.
func (s *Server) ServeConn(c net.Conn) error {
	over := make(chan struct{})
	if !s.begin(func() { s.serve(c); close(over) }) {
		return errors.Join(ErrClosed, c.Close())
	}
	<-over
	return nil
}

// Close ends all connections and waits until nothing of theirs runs. Clients take
// it as a reason to come again. The database stays open.
func (s *Server) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return ErrClosed
	}
	s.closed = true
	close(s.closing)
	var err error
	for l := range s.listeners {
		err = errors.Join(err, l.Close())
	}
	for c := range s.all {
		c.leave(codeClosing, "")
	}
	s.mu.Unlock()
	s.o.Revocations.tell(s, false)
	s.wg.Wait()
	s.end()
	return err
}

// login asks who a peer is. When that panics it is nobody: the server goes on.
func (s *Server) login(ctx context.Context, p Peer) (principal string, err error) {
	defer func() {
		if p := recover(); p != nil {
			s.o.Logger.Error("Login panicked", "panic", p, "stack", string(debug.Stack()))
			err = errors.New("the login panicked")
		}
	}()
	return s.o.Login(ctx, p)
}

// create makes a session.
func (s *Server) create(ctx context.Context, principal string) (id uint64, r row, secret []byte, err error) {
	secret = newSecret()
	t := s.o.Tables
	err = s.db.Update(ctx, func(tx *durable.Tx) error {
		last, _ := t.meta.Get(tx, metaLast)
		epoch, err := s.o.Revocations.epoch(principal)
		if err != nil {
			return err
		}
		if err := s.allowed(tx, principal, epoch); err != nil {
			return err
		}
		t.meta.Put(tx, metaLast, last+1)
		id = newID(last + 1)
		r = row{Principal: principal, Secret: s.seals.seal(secret, purpose(id)), Window: uint64(s.o.Window), Epoch: epoch}
		r.Used, _ = t.meta.Get(tx, metaClock)
		t.sessions.Put(tx, id, r)
		return nil
	})
	return id, r, secret, err
}

// find looks for a session that a client goes on with, and calls more for what is needed
// of it as of the same instant.
func (s *Server) find(ctx context.Context, id uint64, more func(tx *durable.Tx)) (r row, why code, err error) {
	t := s.o.Tables
	err = s.db.View(ctx, func(tx *durable.Tx) error {
		found := false
		if r, found = t.sessions.Get(tx, id); found {
			r.clock, _ = t.meta.Get(tx, metaClock)
			more(tx)
			return nil
		}
		why = t.why(tx, id)
		return nil
	})
	return r, why, err
}

// allowed asks what is so now.
func (s *Server) allowed(tx *durable.Tx, principal string, epoch uint64) error {
	if err := s.o.Revocations.check(principal, epoch); err != nil {
		return err
	}
	return s.allows(tx, principal)
}

func (s *Server) allows(tx *durable.Tx, principal string) error {
	if s.o.Allow == nil {
		return nil
	}
	if err := s.o.Allow(tx, principal); err != nil {
		return fmt.Errorf("%w: %w", ErrDenied, err)
	}
	return nil
}

// Do does a request once in a transaction of one's own: f's changes and its reply
// are kept together, and a request that was done gets the reply that is kept. When
// it returns an error the transaction must end with that, and a refusal is not kept:
// who asks again may get another answer. Update keeps it.
func (s *Server) Do(tx *durable.Tx, r *Request, f func() ([]byte, error)) ([]byte, error) {
	if err := s.allowed(tx, r.Principal, r.epoch); err != nil {
		return nil, err
	}
	return s.o.Tables.do(tx, r, func() ([]byte, error) {
		if len(r.Body) > s.o.Largest {
			return nil, fmt.Errorf("%w: a request of %d bytes, at most %d", ErrTooLarge, len(r.Body), s.o.Largest)
		}
		reply, err := f()
		if err == nil && len(reply) > s.o.Largest {
			err = fmt.Errorf("%w: a reply of %d bytes, at most %d", ErrTooLarge, len(reply), s.o.Largest)
		}
		return reply, err
	})
}
