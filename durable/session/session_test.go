package session

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"testing"

	"github.com/wakepoint/wakepoint/durable"
)

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// site is a server with its database, which can be ended and begun again.
type site struct {
	t      testing.TB
	dir    string
	o      Options
	counts *durable.Table[string, uint64]

	db     *durable.DB
	server *Server
	served chan error
}

// newSite begins a server that counts for each principal: a request is what is
// added, the reply is the sum.
func newSite(t testing.TB, change ...func(*Options)) *site {
	s := &site{t: t, dir: t.TempDir(), counts: durable.NewTable[string, uint64]("counts")}
	s.o = Options{
		Keys:  [][]byte{make([]byte, KeySize)},
		Login: func(_ context.Context, p Peer) (string, error) { return string(p.Credentials), nil },
		Handle: func(tx *durable.Tx, r *Request) ([]byte, error) {
			n, _ := s.counts.Get(tx, r.Principal)
			if len(r.Body) != 8 {
				s.counts.Put(tx, r.Principal, 0) // nothing of this stays
				return nil, errors.New("not a number")
			}
			n += binary.BigEndian.Uint64(r.Body)
			s.counts.Put(tx, r.Principal, n)
			return number(n), nil
		},
	}
	for _, f := range change {
		f(&s.o)
	}
	s.begin()
	t.Cleanup(s.stop)
	return s
}

func number(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

func (s *site) begin() {
	s.t.Helper()
	s.o.Tables = NewTables()
	var err error
	s.db, _, err = durable.Open(context.Background(), durable.Options{Dir: filepath.Join(s.dir, "db")}, append(s.o.Tables.All(), s.counts)...)
	must(s.t, err)
	s.server, err = NewServer(s.db, s.o)
	must(s.t, err)
	l, err := net.Listen("unix", s.socket())
	must(s.t, err)
	s.served = make(chan error, 1)
	go func() { s.served <- s.server.Serve(l) }()
}

func (s *site) socket() string { return filepath.Join(s.dir, "socket") }

func (s *site) stop() {
	s.t.Helper()
	must(s.t, s.server.Close())
	if err := <-s.served; !errors.Is(err, ErrClosed) {
		s.t.Fatal(err)
	}
	must(s.t, s.db.Close())
}

// again ends the server and begins it with what is on the disk.
func (s *site) again() {
	s.t.Helper()
	s.stop()
	s.begin()
}

func (s *site) dial(ctx context.Context) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "unix", s.socket())
}

func (s *site) client(who string) *Client {
	s.t.Helper()
	c, err := Dial(context.Background(), DialOptions{Dial: s.dial, Credentials: []byte(who)})
	must(s.t, err)
	s.t.Cleanup(func() { must(s.t, c.Close()) })
	return c
}

func (s *site) count(who string) (n uint64) {
	s.t.Helper()
	must(s.t, s.db.View(context.Background(), func(tx *durable.Tx) error {
		n, _ = s.counts.Get(tx, who)
		return nil
	}))
	return n
}

func add(c *Client, n uint64) (uint64, error) {
	b, err := c.Call(context.Background(), number(n))
	if err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint64(b), nil
}

// TestCall: calls are done in the name of who the session is for, one after the
// other and many at once; what a handler refuses changes nothing.
func TestCall(t *testing.T) {
	s := newSite(t)
	ann, bob := s.client("ann"), s.client("bob")
	for want := range uint64(100) {
		if got, err := add(ann, 1); err != nil || got != want+1 {
			t.Fatalf("%d, %v instead of %d", got, err, want+1)
		}
	}
	var wg sync.WaitGroup
	for range 200 {
		wg.Go(func() {
			if _, err := add(bob, 2); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	var remote *RemoteError
	if _, err := ann.Call(context.Background(), []byte("one")); !errors.As(err, &remote) || remote.Text != "not a number" {
		t.Fatalf("%v", err)
	}
	if a, b := s.count("ann"), s.count("bob"); a != 100 || b != 400 {
		t.Fatalf("ann has %d, bob %d", a, b)
	}
	if _, err := ann.Call(context.Background(), make([]byte, largestDefault+1)); !errors.Is(err, ErrTooLarge) {
		t.Fatalf("%v", err)
	}
	if _, err := ann.Call(context.Background(), make([]byte, largestDefault)); !errors.As(err, &remote) {
		t.Fatalf("%v", err)
	}
}

// TestRestart: a session goes on with a server that was ended and begun again,
// while calls are made; each counts once, and nobody logs in again.
func TestRestart(t *testing.T) {
	var mu sync.Mutex
	logins := map[string]int{}
	s := newSite(t, func(o *Options) {
		o.Login = func(_ context.Context, p Peer) (string, error) {
			mu.Lock()
			defer mu.Unlock()
			logins[string(p.Credentials)]++
			return string(p.Credentials), nil
		}
	})
	const clients, each, restarts = 4, 300, 10
	did := make(chan struct{}, clients*each)
	var wg sync.WaitGroup
	for i := range clients {
		who := fmt.Sprint("client ", i)
		c := s.client(who)
		wg.Go(func() {
			var last uint64
			for range each {
				n, err := add(c, 1)
				if err != nil || n != last+1 {
					t.Errorf("%s: %d behind %d, %v", who, n, last, err)
					return
				}
				last = n
				did <- struct{}{}
			}
		})
	}
	for range restarts {
		for range clients * each / (restarts + 1) {
			<-did
		}
		s.again()
	}
	wg.Wait()
	for i := range clients {
		who := fmt.Sprint("client ", i)
		if n := s.count(who); n != each || logins[who] != 1 {
			t.Errorf("%s has %d of %d, and logged in %d times", who, n, each, logins[who])
		}
	}
}
