package session

import (
	"crypto/tls"
	"net"
	"path/filepath"
	"testing"
)

// TestTickets: who comes back over TLS after a restart needs no whole handshake, and
// keys change.
func TestTickets(t *testing.T) {
	s := newSite(t)
	cert, pool := certificate(t)
	config := &tls.Config{RootCAs: pool, ServerName: "localhost", ClientSessionCache: tls.NewLRUClientSessionCache(4)}
	come := func() (resumed bool) {
		t.Helper()
		name := filepath.Join(t.TempDir(), "tls")
		l, err := net.Listen("unix", name)
		must(t, err)
		mine, err := s.server.TLS(&tls.Config{Certificates: []tls.Certificate{cert}})
		must(t, err)
		over := make(chan error, 1)
		go func() { over <- s.server.Serve(tls.NewListener(l, mine)) }()
		c, err := net.Dial("unix", name)
		must(t, err)
		secure := tls.Client(c, config)
		r := &raw{t, secure, nil}
		r.say(&hello{version: version + 1})
		if _, err := secure.Read(make([]byte, 100)); err != nil { // the ticket comes with it
			t.Fatal(err)
		}
		resumed = secure.ConnectionState().DidResume
		must(t, l.Close())
		<-over
		return resumed
	}
	if come() {
		t.Fatal("resumed at first")
	}
	s.again()
	if !come() {
		t.Fatal("not resumed after a restart")
	}
	before, err := s.server.ticketKeys()
	must(t, err)
	for range ticketsKept {
		s.pass(ticketsEvery)
		_, err = s.server.ticketKeys()
		must(t, err)
	}
	after, err := s.server.ticketKeys()
	must(t, err)
	if len(after) != ticketsKept {
		t.Fatalf("%d keys", len(after))
	}
	for _, k := range after {
		if k == before[0] {
			t.Fatal("an old key is good for ever")
		}
	}
}
