package session

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/wakepoint/wakepoint/durable"
)

// way leads to a site, or to nobody, or to somebody else.
type way struct {
	s     *site
	shut  atomic.Bool
	other atomic.Pointer[func(context.Context) (net.Conn, error)]
}

func (w *way) dial(ctx context.Context) (net.Conn, error) {
	if other := w.other.Load(); other != nil {
		return (*other)(ctx)
	}
	if w.shut.Load() {
		return nil, errors.New("no way")
	}
	return w.s.dial(ctx)
}

// liar says something to whoever comes.
func liar(b []byte) func(context.Context) (net.Conn, error) {
	return func(context.Context) (net.Conn, error) {
		near, far := net.Pipe()
		go func() {
			_, _ = far.Write(b)
			_ = far.Close()
		}()
		go func() { _, _ = io.Copy(io.Discard, far) }()
		return near, nil
	}
}

// TestOnlyItsOwn: nobody but its own server ends a session, or says that it was undone.
func TestOnlyItsOwn(t *testing.T) {
	s := newSite(t)
	younger := newSite(t, func(o *Options) { o.Keys = [][]byte{bytes.Repeat([]byte{9}, KeySize)} })
	w := &way{s: s}
	c, err := Dial(context.Background(), DialOptions{Dial: w.dial, Credentials: []byte("ann")})
	must(t, err)
	defer c.Close()
	want := uint64(0)
	for name, other := range map[string]func(context.Context) (net.Conn, error){
		"a younger server": younger.dial,
		"a proxy":          liar([]byte("HTTP/1.1 503 Service Unavailable\r\n\r\n")),
		"expired":          liar(appendFrame(nil, &bye{code: codeExpired})),
		"behind":           liar(appendFrame(nil, &bye{code: codeBehind, proofs: make([]byte, 2*proofSize)})),
		"replaced":         liar(appendFrame(nil, &bye{code: codeReplaced, proofs: make([]byte, 7)})),
		"welcome":          liar(appendFrame(nil, &welcome{id: 1, window: 1})),
	} {
		t.Run(name, func(t *testing.T) {
			n, err := add(c, 1)
			if want++; err != nil || n != want {
				t.Fatalf("%d, %v", n, err)
			}
			tries := make(chan bool, 100)
			counted := func(ctx context.Context) (net.Conn, error) {
				select {
				case tries <- true:
				default:
				}
				return other(ctx)
			}
			w.other.Store(&counted)
			s.again()
			<-tries
			<-tries // it has heard the first one
			w.other.Store(nil)
		})
	}
	keys := s.o.Keys
	s.stop()
	s.o.Keys = younger.o.Keys // the right ones are not there for a while
	s.begin()
	if _, err := c.Call(c.until(ErrWrongServer), number(1)); !errors.Is(err, ErrUnknown) {
		t.Fatalf("%v", err)
	}
	s.stop()
	s.o.Keys = keys
	s.begin()
	if n, err := add(c, 1); err != nil || n < want+1 || n > want+2 {
		t.Fatalf("%d, %v", n, err)
	}
}

// TestKeyChanged: with a new key before it a key can be left out as soon as the sessions
// have been gone on with.
func TestKeyChanged(t *testing.T) {
	s := newSite(t)
	c := s.client("ann")
	_, err := add(c, 1)
	must(t, err)
	older, newer := s.o.Keys[0], bytes.Repeat([]byte{7}, KeySize)
	for _, keys := range [][][]byte{{newer, older}, {newer}} {
		s.stop()
		s.o.Keys = keys
		s.begin()
		_, err := add(c, 1)
		must(t, err)
	}
	must(t, s.db.Update(context.Background(), func(tx *durable.Tx) error { return s.server.End(tx, c.ID()) }))
	if _, err := add(c, 1); !errors.Is(err, ErrExpired) { // which it believes by the newer one
		t.Fatalf("%v", err)
	}
}

// TestAllowed: a denial now is one of the request, not of the session.
func TestAllowed(t *testing.T) {
	var denied atomic.Bool
	s := newSite(t, func(o *Options) {
		o.Allow = func(*durable.Tx, string) error {
			if denied.Load() {
				return errors.New("not today")
			}
			return nil
		}
	})
	c := s.client("ann")
	_, err := add(c, 1)
	must(t, err)
	denied.Store(true)
	s.again()
	if _, err := add(c, 1); !errors.Is(err, ErrDenied) {
		t.Fatalf("%v", err)
	}
	s.owe(c.ID(), "later")
	denied.Store(false)
	if n, err := add(c, 1); err != nil || n != 2 {
		t.Fatalf("%d, %v", n, err)
	}
	s.owe(c.ID(), "and now")
	receive(t, c, "later", "and now")
}

// TestRevocationsLost: without the revocations that were there when it began no session
// goes on.
func TestRevocationsLost(t *testing.T) {
	ctx := context.Background()
	open := func() *Revocations {
		r, err := OpenRevocations(ctx, durable.Options{Dir: filepath.Join(t.TempDir(), "revocations")})
		must(t, err)
		t.Cleanup(func() { must(t, r.Close()) })
		return r
	}
	revoked := open()
	must(t, revoked.Revoke(ctx, "ann"))
	must(t, revoked.Allow(ctx, "ann"))
	s := newSite(t, func(o *Options) { o.Revocations = revoked })
	c := s.client("ann")
	_, err := add(c, 1)
	must(t, err)
	s.stop()
	s.o.Revocations = open() // empty
	s.begin()
	if _, err := add(c, 1); !errors.Is(err, ErrDenied) {
		t.Fatalf("%v", err)
	}
}

// TestLoginPanics: who makes Login panic is denied, and the server goes on.
func TestLoginPanics(t *testing.T) {
	s := newSite(t, func(o *Options) {
		o.Login = func(_ context.Context, p Peer) (string, error) { return string(p.Credentials[:3]), nil }
	})
	if _, err := Dial(context.Background(), DialOptions{Dial: s.dial, Credentials: []byte("x")}); !errors.Is(err, ErrDenied) {
		t.Fatalf("%v", err)
	}
	s.client("ann")
}
