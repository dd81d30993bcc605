package session

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wakepoint/wakepoint/durable"
)

// TestTooLate: a request that waits, while another try of it is done and acknowledged,
// is not done again.
func TestTooLate(t *testing.T) {
	ctx := context.Background()
	s := newSite(t)
	_, w := s.login("ann")
	ask := func(seq, floor uint64) *Request {
		r, err := s.server.Request(ctx, w.id, seq, floor, number(1))
		must(t, err)
		return r
	}
	do := func(r *Request) error {
		return s.db.Update(ctx, func(tx *durable.Tx) error {
			_, err := s.server.Do(tx, r, func() ([]byte, error) { return s.o.Handle(tx, r) })
			return err
		})
	}
	late := ask(1, 1)
	must(t, do(ask(1, 1)))
	must(t, s.db.Update(ctx, func(tx *durable.Tx) error {
		s.o.Tables.used(tx, w.id, 2)
		return nil
	}))
	if err := do(late); !errors.Is(err, ErrStale) || s.count("ann") != 1 {
		t.Fatalf("%v", err)
	}
	late = ask(2, 2)
	must(t, s.db.Update(ctx, func(tx *durable.Tx) error { return s.server.End(tx, w.id) }))
	if err := do(late); !errors.Is(err, ErrExpired) || s.count("ann") != 1 {
		t.Fatalf("%v", err)
	}
}

// TestEndInHandler: a request can end its own session: it gets its reply, and others that
// are on their way are not done any more.
func TestEndInHandler(t *testing.T) {
	var s *site
	s = newSite(t, func(o *Options) {
		count := o.Handle
		o.Handle = func(tx *durable.Tx, r *Request) ([]byte, error) {
			if string(r.Body) == "logout" {
				return []byte("bye"), s.server.End(tx, r.Session)
			}
			return count(tx, r)
		}
	})
	for range 20 {
		c := s.client("ann")
		before := s.count("ann")
		var done atomic.Uint64
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				if _, err := add(c, 1); err == nil {
					done.Add(1)
				} else if !errors.Is(err, ErrExpired) {
					t.Error(err)
				}
			})
		}
		if b, err := c.Call(context.Background(), []byte("logout")); err != nil || string(b) != "bye" {
			t.Fatalf("%q, %v", b, err)
		}
		wg.Wait()
		if n := s.count("ann") - before; n != done.Load() {
			t.Fatalf("%d were done, %d were answered", n, done.Load())
		}
		if _, err := add(c, 1); !errors.Is(err, ErrExpired) {
			t.Fatalf("%v", err)
		}
	}
}

// TestSmaller: what was asked for or owed before Options.Largest was made smaller ends
// nobody's session.
func TestSmaller(t *testing.T) {
	s := newSite(t)
	w := &way{s: s}
	c, err := Dial(context.Background(), DialOptions{Dial: w.dial, Credentials: []byte("ann")})
	must(t, err)
	defer c.Close()
	w.shut.Store(true)
	s.owe(c.ID(), strings.Repeat("x", 5000))
	s.stop()
	large := make(chan error, 1)
	go func() {
		_, err := c.Call(context.Background(), make([]byte, 5000))
		large <- err
	}()
	c.flies(1)
	s.o.Largest = 100
	s.begin()
	w.shut.Store(false)
	if err := <-large; !errors.Is(err, ErrTooLarge) {
		t.Fatalf("%v", err)
	}
	receive(t, c, strings.Repeat("x", 5000))
	_, err = add(c, 1)
	must(t, err)
}

// flies waits until so many calls have no reply.
func (c *Client) flies(want int) {
	for n := 0; n < want; {
		c.mu.Lock()
		n = len(c.calls)
		c.mu.Unlock()
	}
}

// TestRecoveredCalls: what is told of replies of an earlier life can ask for more.
func TestRecoveredCalls(t *testing.T) {
	s := newSite(t)
	o := DialOptions{Dial: s.dial, Credentials: []byte("ann"), Dir: filepath.Join(t.TempDir(), "client")}
	c, err := Dial(context.Background(), o)
	must(t, err)
	must(t, c.Close())
	s.stop()
	askAndDie(t, o)
	s.begin()
	ready, told := make(chan struct{}), make(chan error, 5)
	o.Recovered = func(_, _ []byte, err error) {
		<-ready
		_, more := add(c, 1)
		told <- errors.Join(err, more)
	}
	c, err = Dial(context.Background(), o)
	must(t, err)
	close(ready)
	for range 5 {
		must(t, <-told)
	}
	must(t, c.Close())
	must(t, c.Close())
	if n := s.count("ann"); n != 55 {
		t.Fatalf("%d", n)
	}
}

// slow takes little at a time, and its time for it.
type slow struct{ net.Conn }

func (c slow) Write(b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		time.Sleep(100 * time.Millisecond)
		var m int
		m, err = c.Conn.Write(b[n:min(len(b), n+1000)])
		n += m
	}
	return n, err
}

// TestSlow: a connection on which something comes is not given up, however long a frame
// takes.
func TestSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		o := Options{Tables: NewTables(), Keys: [][]byte{make([]byte, KeySize)},
			Login:  func(context.Context, Peer) (string, error) { return "ann", nil },
			Handle: func(_ *durable.Tx, r *Request) ([]byte, error) { return number(uint64(len(r.Body))), nil }}
		db, _, err := durable.Open(ctx, durable.Options{Dir: t.TempDir()}, o.Tables.All()...)
		must(t, err)
		server, err := NewServer(db, o)
		must(t, err)
		dials := 0
		c, err := Dial(ctx, DialOptions{Dial: func(context.Context) (net.Conn, error) {
			dials++
			near, far := net.Pipe()
			go func() { _ = server.ServeConn(far) }()
			return slow{near}, nil
		}})
		must(t, err)
		const size = 900_000 // a minute and a half
		if b, err := c.Call(ctx, make([]byte, size)); err != nil || !bytes.Equal(b, number(size)) {
			t.Fatalf("%v", err)
		}
		if dials != 1 {
			t.Errorf("%d connections", dials)
		}
		must(t, c.Close())
		must(t, server.Close())
		must(t, db.Close())
	})
}

// deaf says nothing until it is given less than a second for it.
type deaf struct {
	net.Conn
	over chan struct{}
	once sync.Once
}

func (d *deaf) Read([]byte) (int, error) {
	<-d.over
	return 0, os.ErrDeadlineExceeded
}

func (d *deaf) SetDeadline(at time.Time) error {
	if time.Until(at) < time.Second {
		d.once.Do(func() { close(d.over) })
	}
	return nil
}

// TestDialSilent: a Dial whose context ends gives the connection up, also when the other
// end of TLS says nothing.
func TestDialSilent(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	_, err := Dial(ctx, DialOptions{Dial: func(context.Context) (net.Conn, error) {
		near, far := net.Pipe()
		go func() { _, _ = io.Copy(io.Discard, far) }()
		return tls.Client(&deaf{Conn: near, over: make(chan struct{})}, &tls.Config{InsecureSkipVerify: true}), nil
	}})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("%v", err)
	}
}
