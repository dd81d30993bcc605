package session

import (
	"context"
	"encoding/binary"
	"errors"
	"path/filepath"
	"sync"
	"testing"

	"github.com/wakepoint/wakepoint/durable"
)

// askAndDie lets a client with a directory ask for five things that nobody answers,
// and ends it.
func askAndDie(t *testing.T, o DialOptions) {
	c, err := Dial(context.Background(), o)
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			if _, err := c.Call(ctx, number(10)); !errors.Is(err, ErrUnknown) {
				t.Errorf("%v", err)
			}
		})
	}
	for kept := 0; kept < 5; {
		must(t, c.kept.db.View(context.Background(), func(tx *durable.Tx) error {
			kept = 0
			for range c.kept.calls.All(tx) {
				kept++
			}
			return nil
		}))
	}
	cancel()
	wg.Wait()
	must(t, c.Close())
}

// TestKept: a client with a directory goes on with its session and what it asked for
// when it was killed, which a copy of its directory stands for; each request counts
// once, and each delivery comes that was not taken.
func TestKept(t *testing.T) {
	s := newSite(t)
	dir := filepath.Join(t.TempDir(), "client")
	o := DialOptions{Dial: s.dial, Credentials: []byte("ann"), Dir: dir}
	c, err := Dial(context.Background(), o)
	must(t, err)
	id := c.ID()
	for range 200 {
		_, err := add(c, 1)
		must(t, err)
	}
	s.owe(id, "first")
	s.owe(id, "second")
	for d, err := range c.Receive(context.Background()) {
		if must(t, err); string(d.Body) != "first" {
			t.Fatalf("%q", d.Body)
		}
		break
	}
	must(t, c.Close())

	s.stop()
	askAndDie(t, o)
	s.begin()

	var mu sync.Mutex
	var sums []uint64
	o.Recovered = func(body, reply []byte, err error) {
		mu.Lock()
		defer mu.Unlock()
		if err != nil || string(body) != string(number(10)) {
			t.Errorf("%q, %v", body, err)
		}
		sums = append(sums, binary.BigEndian.Uint64(reply))
	}
	c, err = Dial(context.Background(), o)
	must(t, err)
	defer c.Close()
	if c.ID() != id {
		t.Fatalf("session %d, not %d", c.ID(), id)
	}
	if n, err := add(c, 1); err != nil || n < 201 {
		t.Fatalf("%d, %v", n, err)
	}
	for n := 0; n < 5; {
		mu.Lock()
		n = len(sums)
		mu.Unlock()
	}
	if n := s.count("ann"); n != 251 {
		t.Fatalf("%d", n)
	}
	for d, err := range c.Receive(context.Background()) {
		if must(t, err); d.Number != 2 || string(d.Body) != "second" {
			t.Fatalf("%d %q", d.Number, d.Body)
		}
		break
	}
	for range 3 * windowDefault { // floors move on
		_, err := add(c, 1)
		must(t, err)
	}
}

// TestKeptAnew: a directory whose session is over says so, and a new one is begun
// only when that is asked for.
func TestKeptAnew(t *testing.T) {
	s := newSite(t)
	o := DialOptions{Dial: s.dial, Credentials: []byte("ann"), Dir: filepath.Join(t.TempDir(), "client")}
	c, err := Dial(context.Background(), o)
	must(t, err)
	id := c.ID()
	must(t, s.db.Update(context.Background(), func(tx *durable.Tx) error { return s.server.End(tx, id) }))
	if _, err := add(c, 1); !errors.Is(err, ErrExpired) {
		t.Fatalf("%v", err)
	}
	must(t, c.Close())
	c, err = Dial(context.Background(), o)
	must(t, err)
	if _, err := add(c, 1); !errors.Is(err, ErrExpired) {
		t.Fatalf("%v", err)
	}
	must(t, c.Close())
	o.Anew = true
	c, err = Dial(context.Background(), o)
	must(t, err)
	defer c.Close()
	if n, err := add(c, 1); err != nil || n != 1 || c.ID() == id {
		t.Fatalf("%d, %v", n, err)
	}
}
