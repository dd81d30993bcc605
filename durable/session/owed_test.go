package session

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/wakepoint/wakepoint/durable"
)

// owe lets the server owe a session something.
func (s *site) owe(id uint64, body string) {
	s.t.Helper()
	must(s.t, s.db.Update(context.Background(), func(tx *durable.Tx) error { return s.server.Send(tx, id, []byte(body)) }))
}

// owed is how many deliveries are kept.
func (s *site) owed() (n int) {
	s.t.Helper()
	must(s.t, s.db.View(context.Background(), func(tx *durable.Tx) error {
		for range s.o.Tables.owed.All(tx) {
			n++
		}
		return nil
	}))
	return n
}

// TestDeliveries: what a session is owed comes in order, each once, while
// connections are cut and the server is ended and begun again, and is not kept
// once it is acknowledged.
func TestDeliveries(t *testing.T) {
	s := newSite(t)
	r := rand.New(rand.NewPCG(3, 4))
	c, err := Dial(context.Background(), DialOptions{Credentials: []byte("ann"), Dial: func(ctx context.Context) (net.Conn, error) {
		c, err := s.dial(ctx)
		if err != nil {
			return nil, err
		}
		return &cut{Conn: c, left: 500 + r.IntN(4000)}, nil
	}})
	must(t, err)
	defer c.Close()
	const count, lives = 1000, 5
	got := make(chan error, 1)
	some := make(chan struct{}, count)
	go func() {
		n := uint64(0)
		for d, err := range c.Receive(context.Background()) {
			if n++; err != nil || d.Number != n || string(d.Body) != fmt.Sprint("message ", n) {
				got <- fmt.Errorf("%d: %q, %w instead of %d", d.Number, d.Body, err, n)
				return
			}
			some <- struct{}{}
			if n == count {
				break
			}
		}
		got <- nil
	}()
	for n := range count {
		s.owe(c.ID(), fmt.Sprint("message ", n+1))
		if n%(count/lives) == 0 && n > 0 {
			<-some
			s.again()
		}
	}
	must(t, <-got)
	for s.owed() > 0 { // the last acknowledgement is on its way, or is asked for by
		_, err := add(c, 1) // one more connection
		must(t, err)
	}
}

// TestOwedLies: acknowledging what was never sent ends the connection; too much is
// not kept for anybody, nor anything for nobody.
func TestOwedLies(t *testing.T) {
	s := newSite(t)
	r, w := s.login("ann")
	r.say(&ack{floor: 1, received: 1})
	r.ends(codeProtocol)
	send := func(id uint64, body []byte) error {
		return s.db.Update(context.Background(), func(tx *durable.Tx) error { return s.server.Send(tx, id, body) })
	}
	if err := send(w.id+1, nil); !errors.Is(err, ErrNoSession) {
		t.Fatalf("%v", err)
	}
	if err := send(w.id, make([]byte, largestDefault+1)); !errors.Is(err, ErrTooLarge) {
		t.Fatalf("%v", err)
	}
	must(t, s.db.Update(context.Background(), func(tx *durable.Tx) error {
		for range OwedMax {
			if err := s.server.Send(tx, w.id, nil); err != nil {
				return err
			}
		}
		return nil
	}))
	if err := send(w.id, nil); !errors.Is(err, ErrOwed) {
		t.Fatalf("%v", err)
	}
	r, _ = s.resume(w)
	for n := range uint64(deliverAhead) { // and no more, before one of them is acknowledged
		if d, ok := r.hear().(*delivery); !ok || d.number != n+1 {
			t.Fatalf("%+v", d)
		}
	}
	r.say(&ping{})
	if m := r.hear(); m.kind() != kindPong {
		t.Fatalf("%+v", m)
	}
	r.say(&ack{floor: 1, received: 2})
	for n := range uint64(2) {
		if d, ok := r.hear().(*delivery); !ok || d.number != deliverAhead+n+1 {
			t.Fatalf("%+v", d)
		}
	}
}

// save copies the state between two lives of the server.
func (s *site) save() (dir string) {
	s.t.Helper()
	s.stop()
	dir = filepath.Join(s.t.TempDir(), "db")
	must(s.t, os.CopyFS(dir, os.DirFS(filepath.Join(s.dir, "db"))))
	s.begin()
	return dir
}

// putBack lets the server go on from a copy.
func (s *site) putBack(dir string) {
	s.t.Helper()
	s.stop()
	must(s.t, os.RemoveAll(filepath.Join(s.dir, "db")))
	must(s.t, os.CopyFS(filepath.Join(s.dir, "db"), os.DirFS(dir)))
	s.begin()
}

// receive takes what is owed.
func receive(t *testing.T, c *Client, want ...string) {
	t.Helper()
	for d, err := range c.Receive(context.Background()) {
		if must(t, err); string(d.Body) != want[0] {
			t.Fatalf("%q instead of %q", d.Body, want)
		}
		if want = want[1:]; len(want) == 0 {
			return
		}
	}
}

// comes waits until a delivery has come, which nobody takes.
func (c *Client) comes(number uint64) {
	for last := uint64(0); last < number; {
		c.mu.Lock()
		last = c.last().Number
		c.mu.Unlock()
	}
}

// TestRollback: when the server comes back with an older state the client is told
// exactly what of its own was undone, once, and goes on when it has accepted that.
func TestRollback(t *testing.T) {
	s := newSite(t)
	c, err := Dial(context.Background(), DialOptions{Dial: s.dial, Credentials: []byte("ann"), Remember: 100})
	must(t, err)
	defer c.Close()
	call := func(n int) {
		t.Helper()
		for range n {
			_, err := add(c, 1)
			must(t, err)
		}
	}
	refused := func() {
		t.Helper()
		if _, err := c.Call(context.Background(), []byte("x")); !errors.As(err, new(*RemoteError)) {
			t.Fatalf("%v", err)
		}
	}
	call(2*windowDefault + 10)
	refused()
	older := s.save()
	call(windowDefault + 7)
	refused()
	s.owe(c.ID(), "lost")
	receive(t, c, "lost")
	s.owe(c.ID(), "waiting")
	c.comes(2)
	s.putBack(older)

	var undone *RolledBackError
	for undone == nil { // the first one may have been on its way before the client knew
		_, err := add(c, 1)
		if err != nil && !errors.As(err, &undone) {
			t.Fatal(err)
		}
	}
	first, last := uint64(2*windowDefault+10+2), uint64(2*windowDefault+10+1+windowDefault+7+1)
	if n := uint64(len(undone.Undone)); n != last-first+1 || undone.Session || !errors.Is(undone, ErrRolledBack) {
		t.Fatalf("%d instead of %d: %v", n, last-first+1, undone)
	}
	for i, u := range undone.Undone {
		if u.Seq != first+uint64(i) || u.Body == nil {
			t.Fatalf("%d is %d", i, u.Seq)
		}
	}
	if _, err := add(c, 1); !errors.Is(err, ErrRolledBack) {
		t.Fatalf("%v", err)
	}
	must(t, c.Accept(context.Background()))
	before := s.count("ann")
	for _, u := range undone.Undone {
		_, _ = c.Call(context.Background(), u.Body) // one of them is refused again
	}
	if n := s.count("ann"); n != before+windowDefault+7 {
		t.Fatalf("%d", n)
	}
	s.owe(c.ID(), "again")
	receive(t, c, "waiting", "again")
	s.again()
	if _, err := add(c, 1); err != nil || c.RolledBack() != nil {
		t.Fatalf("%v", err)
	}
}

// TestRollbackOfSession: a server that comes back without the session says so.
func TestRollbackOfSession(t *testing.T) {
	s := newSite(t)
	older := s.save()
	c := s.client("ann")
	for range 3 {
		_, err := add(c, 1)
		must(t, err)
	}
	s.putBack(older)
	_, err := add(c, 1)
	undone := (*RolledBackError)(nil)
	if !errors.As(err, &undone) || !errors.Is(err, ErrNoSession) || !undone.Session || len(undone.Undone) != 3 {
		t.Fatalf("%v", err)
	}
}

// TestAckEarly: what has come to a client on an earlier connection can be acknowledged
// at once on the next one.
func TestAckEarly(t *testing.T) {
	s := newSite(t)
	r, w := s.login("ann")
	const n = 5
	var tag uint64
	for range n {
		s.owe(w.id, "owed")
		tag = r.hear().(*delivery).tag
	}
	must(t, r.c.Close())
	r, h, a := s.challenged(w, newNonce())
	p := proven(w, h, a)
	p.received, p.came, p.tag = 1, n, tag
	r.say(p, &ack{floor: 1, received: n}, &ping{})
	for {
		switch m := r.hear().(type) {
		case *bye:
			t.Fatalf("code %d: %s", m.code, m.text)
		case *pong:
			return
		}
	}
}
