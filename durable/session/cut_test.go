package session

import (
	"bufio"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"
)

// cut is a connection that ends in the middle of what it transfers.
type cut struct {
	net.Conn
	mu   sync.Mutex
	left int // bytes, in both directions
}

var errCut = errors.New("cut")

// some is how many of n bytes are transferred.
func (c *cut) some(n int) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left <= 0 {
		return 0, errors.Join(errCut, c.Conn.Close())
	}
	n = min(n, c.left)
	c.left -= n
	return n, nil
}

func (c *cut) Write(b []byte) (int, error) {
	n, err := c.some(len(b))
	if err == nil {
		n, err = c.Conn.Write(b[:n])
	}
	if err == nil && n < len(b) {
		err = errors.Join(errCut, c.Conn.Close())
	}
	return n, err
}

func (c *cut) Read(b []byte) (int, error) {
	n, err := c.some(min(len(b), 16))
	if err != nil {
		return 0, err
	}
	return c.Conn.Read(b[:n])
}

// TestCuts: connections end anywhere, also in the middle of a frame and in the
// handshake; each call counts once.
func TestCuts(t *testing.T) {
	s := newSite(t)
	r := rand.New(rand.NewPCG(1, 2))
	var mu sync.Mutex
	cuts := 0
	dial := func(ctx context.Context) (net.Conn, error) {
		c, err := s.dial(ctx)
		if err != nil {
			return nil, err
		}
		mu.Lock()
		defer mu.Unlock()
		cuts++
		return &cut{Conn: c, left: r.IntN(3000)}, nil
	}
	c, err := Dial(context.Background(), DialOptions{Dial: dial, Credentials: []byte("ann")})
	must(t, err)
	defer c.Close()
	const callers, each = 8, 150
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for range each {
				if _, err := add(c, 1); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if n := s.count("ann"); n != callers*each || cuts < 20 {
		t.Fatalf("%d of %d, with %d connections", n, callers*each, cuts)
	}
}

// in is the site for a part of a test.
func (s *site) in(t testing.TB) *site {
	c := *s
	c.t = t
	return &c
}

// raw is a client that says what it likes.
type raw struct {
	t testing.TB
	c net.Conn
	r *bufio.Reader
}

func (s *site) raw() *raw {
	s.t.Helper()
	c, err := s.dial(context.Background())
	must(s.t, err)
	must(s.t, c.SetDeadline(time.Now().Add(time.Minute)))
	s.t.Cleanup(func() { _ = c.Close() })
	return &raw{s.t, c, bufio.NewReader(c)}
}

func (r *raw) say(list ...message) {
	r.t.Helper()
	var b []byte
	for _, m := range list {
		b = appendFrame(b, m)
	}
	if _, err := r.c.Write(b); err != nil {
		r.t.Fatal(err)
	}
}

func (r *raw) hear() message {
	r.t.Helper()
	m, err := readFrame(r.r, 1<<20)
	must(r.t, err)
	return m
}

// ends hears a last frame with a code, and that the connection is closed.
func (r *raw) ends(why code) {
	r.t.Helper()
	for {
		m, err := readFrame(r.r, 1<<20)
		if err != nil {
			r.t.Fatalf("%v instead of code %d", err, why)
		}
		if b, ok := m.(*bye); ok {
			if b.code != why {
				r.t.Fatalf("code %d (%s) instead of %d", b.code, b.text, why)
			}
			break
		}
	}
	if _, err := r.r.ReadByte(); !errors.Is(err, io.EOF) {
		r.t.Fatalf("%v", err)
	}
}

// login begins a session.
func (s *site) login(who string) (*raw, *welcome) {
	s.t.Helper()
	r := s.raw()
	r.say(&hello{version: version, nonce: newNonce(), credentials: []byte(who)})
	w, ok := r.hear().(*welcome)
	if !ok {
		s.t.Fatal("no welcome")
	}
	return r, w
}

// challenged begins to go on with a session, up to the server's proof.
func (s *site) challenged(w *welcome, nonce [nonceSize]byte) (*raw, *hello, *challenge) {
	s.t.Helper()
	r, h := s.raw(), &hello{version: version, id: w.id, nonce: nonce}
	r.say(h)
	a, ok := r.hear().(*challenge)
	if !ok || !proves(prove(w.secret, byServer, w.id, nonce, a.nonce, nil), a.proof) {
		s.t.Fatal("the server does not know the session")
	}
	return r, h, a
}

// proven is a proof that is right.
func proven(w *welcome, h *hello, a *challenge) *proof {
	return &proof{proof: prove(w.secret, byClient, w.id, h.nonce, a.nonce, nil), floor: 1}
}

// resume goes on with a session up to the welcome.
func (s *site) resume(w *welcome) (*raw, *welcome) {
	s.t.Helper()
	r, h, a := s.challenged(w, newNonce())
	r.say(proven(w, h, a))
	back, ok := r.hear().(*welcome)
	if !ok {
		s.t.Fatal("no welcome")
	}
	return r, back
}

func one(seq, floor uint64) *request { return &request{seq: seq, floor: floor, body: number(1)} }

// TestLies: a client that lies about numbers and floors, uses a number again or
// floods its window is told so, and nothing is done twice.
func TestLies(t *testing.T) {
	s := newSite(t)
	ends := map[string][]*request{
		"number 0":                     {one(0, 0)},
		"floor 0":                      {one(1, 0)},
		"floor above the request":      {one(1, 2)},
		"outside the window":           {one(windowDefault+1, 1)},
		"far outside the window":       {one(^uint64(0), 1)},
		"the whole window, and more":   append(window(windowDefault), one(windowDefault+1, 1)),
		"floor and number at the end":  {one(^uint64(0), 0)},
		"behind what was acknowledged": {one(9, 9), one(1, 5)},
	}
	for name, list := range ends {
		t.Run(name, func(t *testing.T) {
			r, _ := s.in(t).login(name)
			for _, m := range list {
				r.say(m)
			}
			r.ends(codeProtocol)
		})
	}
	t.Run("a number again", func(t *testing.T) {
		r, _ := s.in(t).login("again")
		for range 3 {
			r.say(one(1, 1))
			if m, ok := r.hear().(*reply); !ok || m.code != codeOK || string(m.body) != string(number(1)) {
				t.Fatalf("%+v", m)
			}
		}
		r.say(&request{seq: 1, floor: 1, body: number(2)})
		if m, ok := r.hear().(*reply); !ok || m.code != codeReused {
			t.Fatalf("%+v", m)
		}
		r.say(one(1+windowDefault, 2))
		if m, ok := r.hear().(*reply); !ok || m.code != codeOK {
			t.Fatalf("%+v", m)
		}
		r.say(one(1, 1))
		if m, ok := r.hear().(*reply); !ok || m.code != codeStale {
			t.Fatalf("%+v", m)
		}
		if n := s.count("again"); n != 2 {
			t.Fatalf("%d", n)
		}
	})
	t.Run("an old number on a new connection", func(t *testing.T) {
		s := s.in(t)
		r, w := s.login("old")
		r.say(one(1, 1))
		r.hear()
		r.say(one(1+windowDefault, 2))
		r.hear()
		r, _ = s.resume(w)
		r.say(one(1, 1))
		if m, ok := r.hear().(*reply); !ok || m.code != codeStale {
			t.Fatalf("%+v", m)
		}
		if n := s.count("old"); n != 2 {
			t.Fatalf("%d", n)
		}
	})
}

func window(n uint64) (list []*request) {
	for seq := range n {
		list = append(list, one(seq+1, 1))
	}
	return list
}
