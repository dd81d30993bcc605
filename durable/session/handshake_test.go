package session

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/wakepoint/wakepoint/durable"
)

// TestForged: nobody goes on with a session without its secret, with a proof that
// was used before, with half of one, or with another session's.
func TestForged(t *testing.T) {
	s := newSite(t)
	_, w := s.login("ann")
	_, other := s.login("eve")
	var old *proof
	right := func(h *hello, a *challenge) *proof { return proven(w, h, a) }
	with := func(f func(h *hello, a *challenge) message) func(h *hello, a *challenge) []byte {
		return func(h *hello, a *challenge) []byte { return appendFrame(nil, f(h, a)) }
	}
	for _, c := range []struct {
		name   string
		answer func(h *hello, a *challenge) []byte
		want   code
	}{
		{"right", with(func(h *hello, a *challenge) message { old = right(h, a); return old }), codeOK},
		{"used before", with(func(*hello, *challenge) message { return old }), codeDenied},
		{"another secret", with(func(h *hello, a *challenge) message {
			return &proof{proof: prove(other.secret, byClient, w.id, h.nonce, a.nonce, nil), floor: 1}
		}), codeDenied},
		{"another session's", with(func(h *hello, a *challenge) message {
			return &proof{proof: prove(other.secret, byClient, other.id, h.nonce, a.nonce, nil), floor: 1}
		}), codeDenied},
		{"the server's own", with(func(_ *hello, a *challenge) message { return &proof{proof: a.proof, floor: 1} }), codeDenied},
		{"a bit", with(func(h *hello, a *challenge) message { p := right(h, a); p.proof[proofSize-1] ^= 1; return p }), codeDenied},
		{"half", func(h *hello, a *challenge) []byte {
			b := appendFrame(nil, right(h, a))
			b[3] -= 8
			return b[:len(b)-8]
		}, codeProtocol},
		{"floor 0", with(func(h *hello, a *challenge) message { p := right(h, a); p.floor = 0; return p }), codeProtocol},
		{"a request before the proof", with(func(*hello, *challenge) message { return one(1, 1) }), codeProtocol},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, h, a := s.in(t).challenged(w, newNonce())
			_, err := r.c.Write(c.answer(h, a))
			must(t, err)
			if c.want != codeOK {
				r.ends(c.want)
			} else if _, ok := r.hear().(*welcome); !ok {
				t.Fatal("not welcome")
			}
		})
	}
}

// TestFirst: what cannot come first ends the connection with its reason.
func TestFirst(t *testing.T) {
	s := newSite(t)
	for _, c := range []struct {
		name  string
		first message
		want  code
	}{
		{"a request", one(1, 1), codeProtocol},
		{"a session that never was", &hello{version: version, id: 1 << 40, nonce: newNonce()}, codeBehind},
		{"a newer version", &hello{version: version + 1, nonce: newNonce()}, codeVersion},
		{"version 0", &hello{nonce: newNonce()}, codeProtocol},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := s.in(t).raw()
			r.say(c.first)
			r.ends(c.want)
		})
	}
}

// TestOneRoundTrip: to go on costs one: what is asked for with the proof is answered.
func TestOneRoundTrip(t *testing.T) {
	s := newSite(t)
	_, w := s.login("ann")
	r, h, a := s.challenged(w, newNonce())
	r.say(proven(w, h, a), one(1, 1))
	if m := r.hear(); m.kind() != kindWelcome {
		t.Fatalf("%+v", m)
	}
	if m, ok := r.hear().(*reply); !ok || m.code != codeOK || string(m.body) != string(number(1)) {
		t.Fatalf("%+v", m)
	}
}

// TestWrongServer: a client says nothing to a server that does not know its
// session's secret, and finds the right one again.
func TestWrongServer(t *testing.T) {
	s := newSite(t)
	wrong := newSite(t, func(o *Options) { o.Keys[0][0]++ })
	wrong.login("somebody") // has the number of the first session there
	at := s
	var conn net.Conn
	c, err := Dial(context.Background(), DialOptions{Credentials: []byte("ann"), Dial: func(ctx context.Context) (_ net.Conn, err error) {
		conn, err = at.dial(ctx)
		return conn, err
	}})
	must(t, err)
	defer c.Close()
	if _, err := add(c, 1); err != nil {
		t.Fatal(err)
	}
	at = wrong
	must(t, conn.Close())
	ctx := c.until(ErrWrongServer)
	if _, err := c.Call(ctx, number(1)); !errors.Is(err, ErrWrongServer) || !errors.Is(err, ErrUnknown) {
		t.Fatalf("%v", err)
	}
	if wrong.count("ann") != 0 || wrong.count("somebody") != 0 {
		t.Fatal("the wrong server has done it")
	}
}

// until is a context that ends when a connection could not be had for a reason.
func (c *Client) until(why error) context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer cancel()
		for cause := error(nil); !errors.Is(cause, why); {
			c.mu.Lock()
			cause = c.cause
			c.mu.Unlock()
			time.Sleep(time.Millisecond)
		}
	}()
	return ctx
}

// TestReplaced: of two connections with one session the newer one has it, and the
// older one is told.
func TestReplaced(t *testing.T) {
	s := newSite(t)
	r, w := s.login("ann")
	r.say(one(1, 1))
	r.hear()
	newer, _ := s.resume(w)
	r.ends(codeReplaced)
	newer.say(one(1, 1), one(2, 1))
	got := map[uint64]string{}
	for range 2 {
		m, ok := newer.hear().(*reply)
		if !ok || m.code != codeOK {
			t.Fatalf("%+v", m)
		}
		got[m.seq] = string(m.body)
	}
	if got[1] != string(number(1)) || got[2] != string(number(2)) {
		t.Fatalf("%v", got)
	}
}

// TestLate: a connection that a client has given up, and whose handshake comes late,
// does not take the session from its newer one.
func TestLate(t *testing.T) {
	s := newSite(t)
	_, w := s.login("ann")
	begin := func(attempt uint64) (*raw, *proof) {
		r, h, a := s.challenged(w, clientNonce(7, attempt))
		return r, proven(w, h, a)
	}
	late, old := begin(1)
	newer, p := begin(2)
	newer.say(p)
	if m := newer.hear(); m.kind() != kindWelcome {
		t.Fatalf("%+v", m)
	}
	late.say(old)
	late.ends(codeClosing)
	newer.say(one(1, 1))
	if m, ok := newer.hear().(*reply); !ok || m.code != codeOK {
		t.Fatalf("%+v", m)
	}
	newest, p := begin(3)
	newest.say(p)
	newer.ends(codeReplaced)
}

// TestStolen: what lies on the disk has no secret in it, and without the key a
// server cannot go on with anybody.
func TestStolen(t *testing.T) {
	s := newSite(t)
	_, w := s.login("ann")
	must(t, s.db.Checkpoint(context.Background()))
	must(t, s.db.View(context.Background(), func(tx *durable.Tx) error {
		r, _ := s.o.Tables.sessions.Get(tx, w.id)
		if bytes.Contains(r.Secret, w.secret[:8]) {
			t.Error("the secret lies open")
		}
		return nil
	}))
	s.stop()
	key := s.o.Keys[0]
	s.o.Keys = [][]byte{bytes.Repeat([]byte{1}, KeySize)}
	s.begin()
	r := s.raw()
	r.say(&hello{version: version, id: w.id, nonce: newNonce()})
	r.ends(codeUnknown)
	s.stop()
	s.o.Keys = append(s.o.Keys, key) // changed: the old one unseals
	s.begin()
	s.resume(w)
}

// certificate is one for localhost.
func certificate(t *testing.T) (tls.Certificate, *x509.CertPool) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	c := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	must(t, err)
	pool := x509.NewCertPool()
	parsed, err := x509.ParseCertificate(der)
	must(t, err)
	pool.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

// TestBinding: over TLS a proof is good for its own connection only: who stands
// between the two ends, with a certificate that both take, cannot pass it on.
func TestBinding(t *testing.T) {
	s := newSite(t)
	cert, pool := certificate(t)
	inner, err := net.Listen("unix", filepath.Join(s.dir, "tls"))
	must(t, err)
	served := make(chan error, 1)
	go func() {
		served <- s.server.Serve(tls.NewListener(inner, &tls.Config{Certificates: []tls.Certificate{cert}}))
	}()
	t.Cleanup(func() { must(t, inner.Close()); <-served })
	config := &tls.Config{RootCAs: pool, ServerName: "localhost"}
	direct := func(ctx context.Context) (net.Conn, error) {
		c, err := net.Dial("unix", filepath.Join(s.dir, "tls"))
		if err != nil {
			return nil, err
		}
		return tls.Client(c, config), nil
	}
	through := direct
	var conn net.Conn
	c, err := Dial(context.Background(), DialOptions{Credentials: []byte("ann"), Dial: func(ctx context.Context) (_ net.Conn, err error) {
		conn, err = through(ctx)
		return conn, err
	}})
	must(t, err)
	defer c.Close()
	if _, err := add(c, 1); err != nil {
		t.Fatal(err)
	}
	must(t, conn.Close())
	if _, err := add(c, 1); err != nil { // resumed over TLS
		t.Fatal(err)
	}
	through = func(ctx context.Context) (net.Conn, error) {
		near, far := net.Pipe()
		onward, err := direct(ctx)
		if err != nil {
			return nil, err
		}
		middle := tls.Server(far, &tls.Config{Certificates: []tls.Certificate{cert}})
		go pass(middle, onward)
		go pass(onward, middle)
		return tls.Client(near, config), nil
	}
	must(t, conn.Close())
	ctx := c.until(ErrWrongServer)
	if _, err := c.Call(ctx, number(1)); !errors.Is(err, ErrWrongServer) {
		t.Fatalf("%v", err)
	}
	if n := s.count("ann"); n != 2 {
		t.Fatalf("%d", n)
	}
}

func pass(from, to net.Conn) {
	defer to.Close()
	_, _ = bufio.NewReader(from).WriteTo(to)
}

// TestOptions: what cannot work is refused at once.
func TestOptions(t *testing.T) {
	s := newSite(t)
	for name, change := range map[string]func(*Options){
		"no tables":     func(o *Options) { o.Tables = nil },
		"no key":        func(o *Options) { o.Keys = nil },
		"short key":     func(o *Options) { o.Keys = [][]byte{make([]byte, KeySize-1)} },
		"no login":      func(o *Options) { o.Login = nil },
		"no handler":    func(o *Options) { o.Handle = nil },
		"large window":  func(o *Options) { o.Window = WindowMax + 1 },
		"large request": func(o *Options) { o.Largest = durable.TransactionMax },
	} {
		o := s.o
		change(&o)
		if _, err := NewServer(s.db, o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := Dial(context.Background(), DialOptions{}); err == nil {
		t.Error("no dial: no error")
	}
	s.o.Login = func(context.Context, Peer) (string, error) { return "", fmt.Errorf("who are you?") }
	s.again()
	if _, err := Dial(context.Background(), DialOptions{Dial: s.dial}); !errors.Is(err, ErrDenied) {
		t.Errorf("%v", err)
	}
}

// FuzzServe: whatever a client sends, the server stays as it is.
func FuzzServe(f *testing.F) {
	f.Add(appendFrame(nil, &hello{version: version, credentials: []byte("ann")}))
	f.Add(appendFrame(appendFrame(nil, &hello{version: version}), one(1, 1)))
	f.Add(appendFrame(nil, &hello{version: version, id: 1}))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 5})
	f.Add([]byte{0, 0, 0, 0})
	s := newSite(f)
	s.login("somebody")
	f.Fuzz(func(t *testing.T, b []byte) {
		near, far := net.Pipe()
		go func() {
			_, _ = near.Write(b)
			_ = near.Close()
		}()
		go func() { _, _ = bufio.NewReader(near).WriteTo(bytes.NewBuffer(nil)) }()
		if err := s.server.ServeConn(far); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzParse: a frame that can be read is what it is written as.
func FuzzParse(f *testing.F) {
	for _, m := range []message{&hello{version: 1, id: 2, credentials: []byte("x")}, &challenge{state: []byte("x")}, &proof{floor: 1, received: 3, came: 4, tag: 5},
		&welcome{id: 1, secret: make([]byte, secretSize), refusal: make([]byte, proofSize), window: 64, most: 1},
		one(1, 1), &reply{seq: 1, code: codeStale, body: []byte("x")}, &delivery{number: 1, tag: 2}, &ack{1, 2}, &bye{code: codeBehind, proofs: []byte("x"), text: []byte("y")}, &ping{}, &pong{}} {
		f.Add(appendFrame(nil, m)[frameHead:])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) == 0 {
			return
		}
		m, err := parse(b)
		if err != nil {
			return
		}
		again, err := parse(appendFrame(nil, m)[frameHead:])
		if err != nil || fmt.Sprintf("%+v", again) != fmt.Sprintf("%+v", m) {
			t.Fatalf("%+v, %v instead of %+v", again, err, m)
		}
	})
}
