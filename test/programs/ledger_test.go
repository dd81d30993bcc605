//go:build linux

package programs

import (
	"context"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// ledger is what unit after unit makes of a table: the same arithmetic in
// every language under testdata. Unit n changes slot (n * 2654435761 mod 2^32)
// >> 20 to slot * 31 + n mod 2^32. The digest is FNV-1a over the 4096 slots,
// a slot at a time, 32 bits.
type ledger struct {
	n     uint64
	slots [4096]uint32
}

// advance brings the ledger forward to unit n.
func (l *ledger) advance(n uint64) {
	for l.n < n {
		l.n++
		slot := uint32(l.n) * 2654435761 >> 20
		l.slots[slot] = l.slots[slot]*31 + uint32(l.n)
	}
}

func (l *ledger) digest() uint32 {
	h := uint32(offsetBasis)
	for _, v := range l.slots {
		h = word(h, v)
	}
	return h
}

const offsetBasis = 2166136261

// word takes one more word into the hash.
func word(h, v uint32) uint32 { return (h ^ v) * 16777619 }

// TestLedgerHash holds the reference: one word in FNV-1a differs from the
// standard's by hashing words, not bytes.
func TestLedgerHash(t *testing.T) {
	h := fnv.New32a()
	h.Write([]byte{7})
	if got := word(offsetBasis, 7); got != h.Sum32() {
		t.Fatalf("%x, not %x", got, h.Sum32())
	}
}

// server is the client of servers that keep a ledger: POST /step?n=N does unit
// N, which must be the next, and answers N; GET /state answers "N DIGEST";
// POST /rest ends the noise beside it until the next unit.
type server struct {
	base     string
	http     *http.Client
	model    ledger
	position uint64 // of the server, as far as it has answered
	reached  atomic.Uint64
}

func newServer(port int) *server {
	return &server{
		base: "http://127.0.0.1:" + strconv.Itoa(port),
		http: &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 4}},
	}
}

func (s *server) ask(method, path string) (string, error) {
	request, err := http.NewRequestWithContext(context.Background(), method, s.base+path, nil)
	if err != nil {
		return "", err
	}
	response, err := s.http.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s: %s: %s", method, path, response.Status, text)
	}
	return strings.TrimSpace(string(text)), err
}

func (s *server) step() (uint64, error) {
	n := s.position + 1
	s.reached.Store(n)
	answer, err := s.ask(http.MethodPost, "/step?n="+strconv.FormatUint(n, 10))
	if err != nil {
		return 0, err
	}
	if answer != strconv.FormatUint(n, 10) {
		return 0, fmt.Errorf("unit %d was answered by %q", n, answer)
	}
	s.position = n
	return n, nil
}

func (s *server) sent() uint64 { return s.reached.Load() }

func (s *server) check() (uint64, error) {
	s.http.CloseIdleConnections()
	answer, err := s.ask(http.MethodGet, "/state")
	if err != nil {
		return 0, err
	}
	var n uint64
	var digest uint32
	if _, err := fmt.Sscanf(answer, "%d %d", &n, &digest); err != nil {
		return 0, fmt.Errorf("state %q: %w", answer, err)
	}
	if n < s.model.n {
		return 0, fmt.Errorf("at unit %d, which is before the recovery of the cycle before, %d", n, s.model.n)
	}
	s.model.advance(n)
	if want := s.model.digest(); digest != want {
		return 0, fmt.Errorf("the digest after unit %d is %d, not %d", n, digest, want)
	}
	s.position = n
	return n, nil
}

func (s *server) rest() error {
	if _, err := s.ask(http.MethodPost, "/rest"); err != nil {
		return err
	}
	s.http.CloseIdleConnections()
	time.Sleep(1500 * time.Millisecond)
	return nil
}

func (s *server) close() { s.http.CloseIdleConnections() }

// freePort chooses a port of 127.0.0.1 that nobody listens on, outside of the
// range from which outgoing connections take theirs.
func freePort(t *testing.T) int {
	t.Helper()
	for range 100 {
		port := 12000 + rand.IntN(18000)
		l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port))
		if err == nil {
			l.Close()
			return port
		}
	}
	t.Fatal("no free port")
	return 0
}
