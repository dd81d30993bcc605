package session

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/wakepoint/wakepoint/durable"
)

// flaky is a transport that loses requests and answers.
type flaky struct {
	base http.RoundTripper
	mu   sync.Mutex
	r    *rand.Rand
	lost int
}

func (f *flaky) loses() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.r.IntN(3) > 0 {
		return false
	}
	f.lost++
	return true
}

func (f *flaky) RoundTrip(h *http.Request) (*http.Response, error) {
	if f.loses() {
		return nil, errors.New("lost on the way there")
	}
	response, err := f.base.RoundTrip(h)
	if err == nil && f.loses() {
		return nil, errors.Join(errors.New("lost on the way back"), response.Body.Close())
	}
	return response, err
}

// overHTTP serves a site's counter over HTTP.
func (s *site) overHTTP(t *testing.T) *httptest.Server {
	return s.behindHTTP(t, http.HandlerFunc(func(w http.ResponseWriter, h *http.Request) {
		r, ok := FromContext(h.Context())
		if !ok {
			t.Error("no request")
			return
		}
		reply, err := s.server.Update(h.Context(), r, func(tx *durable.Tx) ([]byte, error) { return s.o.Handle(tx, r) })
		if err != nil {
			HTTPError(w, err)
			return
		}
		_, _ = w.Write(reply)
	}))
}

// behindHTTP serves a handler behind the Middleware of whatever server the site has.
func (s *site) behindHTTP(t *testing.T, next http.Handler) *httptest.Server {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, h *http.Request) {
		s.server.Middleware(next).ServeHTTP(w, h)
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // of handlers that panic
	server.StartTLS()
	t.Cleanup(server.Close)
	return server
}

// TestHTTP: requests over HTTP count once each, whatever is lost.
func TestHTTP(t *testing.T) {
	s := newSite(t)
	server := s.overHTTP(t)
	c, err := s.server.NewCredential(context.Background(), "ann")
	must(t, err)
	f := &flaky{base: server.Client().Transport, r: rand.New(rand.NewPCG(1, 1))}
	client := &http.Client{Transport: &Transport{Credential: c, Base: f}}
	const callers, each = 4, 40
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for range each {
				response, err := client.Post(server.URL+"/count", "", bytes.NewReader(number(1)))
				if err != nil || response.StatusCode != http.StatusOK {
					t.Errorf("%v, %v", response, err)
					return
				}
			}
		})
	}
	wg.Wait()
	if n := s.count("ann"); n != callers*each || f.lost < 20 {
		t.Fatalf("%d, with %d lost", n, f.lost)
	}
}

// TestHTTPForged: what is not proven, or cannot be, is not done.
func TestHTTPForged(t *testing.T) {
	s := newSite(t)
	server := s.overHTTP(t)
	c, err := s.server.NewCredential(context.Background(), "ann")
	must(t, err)
	life := uint64(1)
	send := func(path string, body []byte, seq, floor uint64, change func(h http.Header)) int {
		h, err := http.NewRequest(http.MethodPost, server.URL+path, bytes.NewReader(body))
		must(t, err)
		h.Header.Set(headerSession, fmt.Sprint(c.Session))
		h.Header.Set(headerRequest, head{seq, floor, life, s.server.life}.seal(c.Secret, http.MethodPost, "/count", number(1)))
		if change != nil {
			change(h.Header)
		}
		response, err := server.Client().Do(h)
		must(t, err)
		_, err = io.Copy(io.Discard, response.Body)
		must(t, errors.Join(err, response.Body.Close()))
		return response.StatusCode
	}
	for _, try := range []struct {
		name string
		got  int
		want int
	}{
		{"right", send("/count", number(1), 1, 1, nil), 200},
		{"again", send("/count", number(1), 1, 1, nil), 200},
		{"another body", send("/count", number(2), 2, 1, nil), 401},
		{"another path", send("/other", number(1), 2, 1, nil), 401},
		{"no proof", send("/count", number(1), 2, 1, func(h http.Header) { h.Del(headerRequest) }), 401},
		{"no session", send("/count", number(1), 2, 1, func(h http.Header) { h.Del(headerSession) }), 401},
		{"unknown session", send("/count", number(1), 2, 1, func(h http.Header) { h.Set(headerSession, "99") }), 401},
		{"another session", send("/count", number(1), 2, 1, func(h http.Header) { h.Set(headerSession, fmt.Sprint(c.Session+1)) }), 401},
		{"outside the window", send("/count", number(1), 99, 1, nil), 409},
		{"number 0", send("/count", number(1), 0, 0, nil), 409},
		{"too large", send("/count", make([]byte, largestDefault+1), 2, 1, nil), 413},
	} {
		if try.got != try.want {
			t.Errorf("%s: %d instead of %d", try.name, try.got, try.want)
		}
	}
	if n := s.count("ann"); n != 1 {
		t.Fatalf("%d", n)
	}
}
