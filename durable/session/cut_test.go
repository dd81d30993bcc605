package session

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// cutter makes connections that end in the middle of what they transfer, and counts
// where that was.
type cutter struct {
	most int // bytes of a connection, in both directions

	mu   sync.Mutex // guards the rest
	rand *rand.Rand
	made int

	sending, receiving, between int // ended within a frame of the client's, of the server's, and within none
}

// inside is how many connections were ended when a part of a frame had gone through,
// and not all of it.
func (k *cutter) inside() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.sending + k.receiving
}

// dial is for one client. Its first connection goes on until there is a session: who has
// none logs in again.
func (k *cutter) dial(dial func(context.Context) (net.Conn, error)) func(context.Context) (net.Conn, error) {
	least := 1000
	return func(ctx context.Context) (net.Conn, error) {
		c, err := dial(ctx)
		if err != nil {
			return nil, err
		}
		k.mu.Lock()
		defer k.mu.Unlock()
		left := least + k.rand.IntN(k.most)
		k.made, least = k.made+1, 1
		return &cut{Conn: c, k: k, left: left}, nil
	}
}

// cut is a connection that ends when so much has gone through, wherever that is.
type cut struct {
	net.Conn
	k *cutter // nil: nobody counts

	mu      sync.Mutex // guards the rest
	left    int        // bytes, in both directions
	out, in frames
	ended   bool
}

// frames is where in its frames one direction is.
type frames struct {
	head []byte // of the frame, as far as it has gone through
	left int    // what is missing behind the head, in bytes
}

func (f *frames) add(b []byte) {
	for len(b) > 0 {
		if n := min(frameHead-len(f.head), len(b)); n > 0 {
			f.head, b = append(f.head, b[:n]...), b[n:]
			if len(f.head) == frameHead {
				f.left = int(binary.BigEndian.Uint32(f.head))
			}
			continue
		}
		n := min(f.left, len(b))
		if f.left, b = f.left-n, b[n:]; f.left == 0 {
			f.head = f.head[:0]
		}
	}
}

func (f *frames) inside() bool { return len(f.head) > 0 }

var errCut = errors.New("cut")

// end ends the connection, and counts it: mu is held.
func (c *cut) end() error {
	if !c.ended && c.k != nil {
		c.ended = true
		c.k.mu.Lock()
		defer c.k.mu.Unlock()
		switch {
		case c.out.inside():
			c.k.sending++
		case c.in.inside():
			c.k.receiving++
		default:
			c.k.between++
		}
	}
	return errors.Join(errCut, c.Conn.Close())
}

func (c *cut) Write(b []byte) (int, error) {
	c.mu.Lock()
	some := min(len(b), max(c.left, 0))
	c.mu.Unlock()
	n, err := c.Conn.Write(b[:some])
	c.mu.Lock()
	defer c.mu.Unlock()
	c.out.add(b[:n])
	if c.left -= n; err == nil && c.left <= 0 {
		err = c.end()
	}
	return n, err
}

// Read loses what has come and is too much: so it ends within a frame also when that
// was waited for.
func (c *cut) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b[:min(len(b), 16)])
	c.mu.Lock()
	defer c.mu.Unlock()
	n = min(n, max(c.left, 0))
	c.in.add(b[:n])
	if c.left -= n; err == nil && c.left <= 0 {
		err = c.end()
	}
	return n, err
}

// journal is a logger that writes into a file.
func journal(name string) (*slog.Logger, error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	return slog.New(slog.NewTextHandler(f, nil)), err
}

// brokenOff is of how many connections a server's journal says that they ended within
// a frame. They are fewer than were cut so: one that is cut within the four bytes of a
// length can look otherwise.
func brokenOff(t testing.TB, name string) int {
	t.Helper()
	b, err := os.ReadFile(name)
	must(t, err)
	return strings.Count(string(b), io.ErrUnexpectedEOF.Error())
}

// TestCuts: connections end anywhere, also in the middle of a frame and in the
// handshake; each call counts once.
func TestCuts(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	s := newSite(t, func(o *Options) {
		var err error
		o.Logger, err = journal(log)
		must(t, err)
	})
	k := &cutter{most: 3000, rand: rand.New(rand.NewPCG(1, 2))}
	c, err := Dial(context.Background(), DialOptions{Dial: k.dial(s.dial), Credentials: []byte("ann")})
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
	if n := s.count("ann"); n != callers*each {
		t.Fatalf("%d of %d", n, callers*each)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.sending+k.receiving < 10 || k.sending == 0 || k.receiving == 0 || brokenOff(t, log) == 0 {
		t.Fatalf("%d connections cut within a frame of the client's, %d within one of the server's, which noticed %d; %d between frames",
			k.sending, k.receiving, brokenOff(t, log), k.between)
	}
}

// TestFrames: it is known where in its frames a direction is, however they come apart.
func TestFrames(t *testing.T) {
	sent := appendFrame(appendFrame(nil, &ping{}), one(1, 1))
	first := frameHead + 1
	for step := 1; step <= len(sent); step++ {
		var f frames
		for at := 0; at < len(sent); {
			n := min(step, len(sent)-at)
			f.add(sent[at : at+n])
			at += n
			if f.inside() != (at != first && at != len(sent)) {
				t.Fatalf("%d bytes at a time, behind %d: %v", step, at, f.inside())
			}
		}
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
