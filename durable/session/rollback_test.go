package session

import (
	"bytes"
	"context"
	"errors"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// toxic lets so much of a connection be read, and then ends it.
type toxic struct {
	net.Conn
	left int
}

func (c *toxic) Read(b []byte) (int, error) {
	if c.left == 0 {
		return 0, errors.Join(errors.New("cut"), c.Close())
	}
	n, err := c.Conn.Read(b[:min(len(b), c.left)])
	c.left -= n
	return n, err
}

// TestRollbackCut: what is sent again does not hide what was undone, wherever in the
// handshake the connection is cut.
func TestRollbackCut(t *testing.T) {
	const lost, flying = 30, windowDefault
	for cutAt := 1; cutAt < 200; cutAt += 40 {
		s := newSite(t)
		w := &way{s: s}
		var cutNext atomic.Int64
		c, err := Dial(context.Background(), DialOptions{Credentials: []byte("ann"), Dial: func(ctx context.Context) (net.Conn, error) {
			nc, err := w.dial(ctx)
			if err != nil {
				return nil, err
			}
			if n := cutNext.Swap(0); n > 0 {
				return &toxic{nc, int(n)}, nil
			}
			return nc, nil
		}})
		must(t, err)
		for range 100 {
			_, err := add(c, 1)
			must(t, err)
		}
		older := s.save()
		for range lost {
			_, err := add(c, 1)
			must(t, err)
		}
		w.shut.Store(true)
		s.putBack(older)
		var wg sync.WaitGroup
		for range flying {
			wg.Go(func() { _, _ = c.Call(context.Background(), number(1)) })
		}
		c.flies(flying)
		cutNext.Store(int64(cutAt))
		w.shut.Store(false)
		wg.Wait()
		var undone *RolledBackError
		if _, err := add(c, 1); !errors.As(err, &undone) || len(undone.Undone) != lost || undone.Undone[0].Seq != 101 {
			t.Fatalf("cut at %d: %v", cutAt, err)
		}
		must(t, c.Close())
	}
}

// TestAcceptKept: a client with a directory is told of what was undone until it accepts
// that, with the bodies that it remembers, and never again.
func TestAcceptKept(t *testing.T) {
	ctx := context.Background()
	s := newSite(t)
	o := DialOptions{Dial: s.dial, Credentials: []byte("ann"), Dir: filepath.Join(t.TempDir(), "client"), Remember: 10}
	c, err := Dial(ctx, o)
	must(t, err)
	again := func() {
		t.Helper()
		must(t, c.Close())
		c, err = Dial(ctx, o)
		must(t, err)
	}
	for range 10 {
		_, err := add(c, 1)
		must(t, err)
	}
	older := s.save()
	for range 5 {
		_, err := add(c, 1)
		must(t, err)
	}
	again()
	_, err = add(c, 0)
	must(t, err)
	s.putBack(older)
	for try := range 3 {
		var undone *RolledBackError
		for undone == nil {
			if _, err := add(c, 0); err != nil && !errors.As(err, &undone) {
				t.Fatal(err)
			}
		}
		for i, u := range undone.Undone[:5] {
			if u.Seq != uint64(11+i) || !bytes.Equal(u.Body, number(1)) {
				t.Fatalf("%d: %+v", try, u)
			}
		}
		again()
	}
	must(t, c.Accept(ctx))
	for range 5 {
		_, err := add(c, 1)
		must(t, err)
	}
	for range 3 {
		again()
		if n, err := add(c, 0); err != nil || n != 15 {
			t.Fatalf("%d, %v", n, err)
		}
	}
	must(t, c.Close())
}

// TestKeptGaps: numbers that a client took and never sent are nobody's requests.
func TestKeptGaps(t *testing.T) {
	s := newSite(t)
	o := DialOptions{Dial: s.dial, Credentials: []byte("ann"), Dir: filepath.Join(t.TempDir(), "client")}
	for life := range 10 {
		c, err := Dial(context.Background(), o)
		must(t, err)
		if _, err := add(c, 0); err != nil {
			t.Fatalf("life %d: %v", life, err)
		}
		var wg sync.WaitGroup
		for i := range 40 {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(context.Background(), time.Duration(i)*40*time.Microsecond)
				defer cancel()
				_, _ = c.Call(ctx, number(1))
			})
		}
		wg.Wait()
		must(t, c.Close())
	}
}

// TestOwedRollback: what a server owes that was rolled back comes, also when it has the
// numbers of what was undone.
func TestOwedRollback(t *testing.T) {
	s := newSite(t)
	w := &way{s: s}
	c, err := Dial(context.Background(), DialOptions{Dial: w.dial, Credentials: []byte("ann")})
	must(t, err)
	defer c.Close()
	owe := func(list ...string) {
		for _, body := range list {
			s.owe(c.ID(), body)
		}
	}
	taken := func() {
		for s.owed() > 0 {
			_, err := add(c, 0)
			must(t, err)
		}
	}
	owe("one", "two")
	receive(t, c, "one", "two")
	taken()
	older := s.save()
	owe("three", "four", "five")
	receive(t, c, "three", "four", "five")
	w.shut.Store(true)
	s.putBack(older)
	owe("new three", "new four", "new five", "new six")
	w.shut.Store(false)
	receive(t, c, "new three", "new four", "new five", "new six")
	owe("seven")
	receive(t, c, "seven")
	s.again()
	owe("eight")
	receive(t, c, "eight")
	taken()
}

// TestNumberTaken: a session of which a server that was rolled back knows nothing is told
// so, also when others have begun since.
func TestNumberTaken(t *testing.T) {
	s := newSite(t)
	w := &way{s: s}
	older := s.save()
	c, err := Dial(context.Background(), DialOptions{Dial: w.dial, Credentials: []byte("ann")})
	must(t, err)
	defer c.Close()
	_, err = add(c, 1)
	must(t, err)
	w.shut.Store(true)
	s.putBack(older)
	s.login("bob")
	s.login("carl")
	w.shut.Store(false)
	var undone *RolledBackError
	if _, err := add(c, 1); !errors.As(err, &undone) || !undone.Session || len(undone.Undone) != 1 {
		t.Fatalf("%v", err)
	}
}
