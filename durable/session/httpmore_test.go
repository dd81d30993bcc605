package session

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/wakepoint/wakepoint/durable"
)

// trip is a transport that a test does something to.
type trip func(h *http.Request) (*http.Response, error)

func (f trip) RoundTrip(h *http.Request) (*http.Response, error) { return f(h) }

func (s *site) credential(who string) Credential {
	s.t.Helper()
	c, err := s.server.NewCredential(context.Background(), who)
	must(s.t, err)
	return c
}

// post adds a number, and returns the status and the answer.
func post(t testing.TB, by http.RoundTripper, url string, n uint64) (status int, text []byte, err error) {
	t.Helper()
	response, err := (&http.Client{Transport: by}).Post(url, "", bytes.NewReader(number(n)))
	if err != nil {
		return 0, nil, err
	}
	text, err = io.ReadAll(response.Body)
	must(t, errors.Join(err, response.Body.Close()))
	return response.StatusCode, text, nil
}

// counts adds one, and wants a sum.
func counts(t testing.TB, by http.RoundTripper, url string, want uint64) {
	t.Helper()
	status, text, err := post(t, by, url, 1)
	if err != nil || status != http.StatusOK || len(text) != 8 || binary.BigEndian.Uint64(text) != want {
		t.Fatalf("%d, %q, %v instead of %d", status, text, err, want)
	}
}

// TestHTTPAgain: a program that was started again goes on with its Credential, and never
// gets an answer of its earlier life.
func TestHTTPAgain(t *testing.T) {
	s := newSite(t)
	server := s.overHTTP(t)
	c, base := s.credential("ann"), server.Client().Transport
	want := uint64(0)
	for range 4 {
		by := &Transport{Credential: c, Base: base}
		for range 3 {
			want++
			counts(t, by, server.URL, want)
		}
	}
	by := &Transport{Credential: c, Base: base}
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if status, _, err := post(t, by, server.URL, 1); err != nil || status != http.StatusOK {
				t.Errorf("%d, %v", status, err)
			}
		})
	}
	wg.Wait()
	if n := s.count("ann"); n != want+20 {
		t.Fatalf("%d instead of %d", n, want+20)
	}
}

// TestHTTPLate: a request of an earlier life that comes late takes a number; the one that
// wants it is done with another, though it asks for the same.
func TestHTTPLate(t *testing.T) {
	s := newSite(t)
	server := s.overHTTP(t)
	c, base := s.credential("ann"), server.Client().Transport
	ctx, cancel := context.WithCancel(context.Background())
	var late *http.Request
	earlier := &Transport{Credential: c, Base: trip(func(h *http.Request) (*http.Response, error) {
		if late == nil && !strings.HasPrefix(h.Header.Get(headerRequest), "0 ") {
			late = h.Clone(context.Background())
			late.Body, _ = h.GetBody()
			cancel()
			return nil, errors.New("on its way")
		}
		return base.RoundTrip(h)
	})}
	h, err := http.NewRequestWithContext(ctx, http.MethodPost, server.URL, bytes.NewReader(number(1)))
	must(t, err)
	if response, err := earlier.RoundTrip(h); !errors.Is(err, ErrUnknown) {
		t.Fatalf("%v, %v", response, err)
	}
	delivered := false
	by := &Transport{Credential: c, Base: trip(func(h *http.Request) (*http.Response, error) {
		if !delivered && !strings.HasPrefix(h.Header.Get(headerRequest), "0 ") {
			delivered = true
			response, err := base.RoundTrip(late)
			must(t, err)
			if must(t, response.Body.Close()); response.StatusCode != http.StatusOK {
				t.Errorf("%s", response.Status)
			}
		}
		return base.RoundTrip(h)
	})}
	counts(t, by, server.URL, 2)
	counts(t, by, server.URL, 3)
	if !delivered {
		t.Fatal("nothing was late")
	}
}

// TestHTTPBetween: what someone on the way answers with 5xx says nothing; what the server
// answers is the last word, but for 503.
func TestHTTPBetween(t *testing.T) {
	s := newSite(t)
	ran := map[string]int{}
	server := s.behindHTTP(t, http.HandlerFunc(func(w http.ResponseWriter, h *http.Request) {
		ran[h.URL.Path]++
		if h.URL.Path == "/busy" && ran[h.URL.Path] == 3 {
			return
		}
		w.WriteHeader(map[string]int{"/busy": 503, "/broken": 500, "/none": 404, "/unready": 502}[h.URL.Path])
	}))
	counter := s.overHTTP(t)
	for _, status := range []int{http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout} {
		times := 0
		by := &Transport{Credential: s.credential(fmt.Sprint(status)), Base: trip(func(h *http.Request) (*http.Response, error) {
			response, err := counter.Client().Transport.RoundTrip(h)
			if times++; err == nil && times < 5 {
				must(t, response.Body.Close())
				return &http.Response{StatusCode: status, Header: http.Header{}, Body: http.NoBody}, nil
			}
			return response, err
		})}
		counts(t, by, counter.URL, 1)
		counts(t, by, counter.URL, 2)
	}
	for _, try := range []struct {
		path      string
		status, n int
	}{{"/busy", 200, 3}, {"/broken", 500, 1}, {"/none", 404, 1}, {"/unready", 502, 1}} {
		by := &Transport{Credential: s.credential("ann"), Base: server.Client().Transport}
		status, _, err := post(t, by, server.URL+try.path, 1)
		if err != nil || status != try.status || ran[try.path] != try.n {
			t.Errorf("%s: %d, %v, ran %d times", try.path, status, err, ran[try.path])
		}
	}
}

// TestHTTPRefused: a refusal that was lost is the same when it is asked for again.
func TestHTTPRefused(t *testing.T) {
	ran, lost := 0, false
	s := newSite(t, func(o *Options) {
		o.Handle = func(*durable.Tx, *Request) ([]byte, error) {
			if ran++; ran == 1 {
				return nil, errors.New("not yet")
			}
			return nil, nil
		}
	})
	server := s.overHTTP(t)
	by := &Transport{Credential: s.credential("ann"), Base: trip(func(h *http.Request) (*http.Response, error) {
		response, err := server.Client().Transport.RoundTrip(h)
		if err == nil && response.StatusCode == http.StatusUnprocessableEntity && !lost {
			lost = true
			return nil, errors.Join(errors.New("lost"), response.Body.Close())
		}
		return response, err
	})}
	for range 2 { // the second one is another request
		status, text, err := post(t, by, server.URL, 1)
		if want := map[int]int{1: http.StatusUnprocessableEntity, 2: http.StatusOK}[ran]; err != nil || status != want {
			t.Fatalf("%d, %q, %v; ran %d times", status, text, err, ran)
		}
	}
	if ran != 2 {
		t.Fatalf("ran %d times", ran)
	}
}

// TestHTTPRevoked: who may not go on does not come to a handler, with or without Do.
func TestHTTPRevoked(t *testing.T) {
	ctx := context.Background()
	barred := atomic.Bool{}
	dir := filepath.Join(t.TempDir(), "revocations")
	s := newSite(t, func(o *Options) {
		var err error
		o.Revocations, err = OpenRevocations(ctx, durable.Options{Dir: dir})
		must(t, err)
		o.Allow = func(*durable.Tx, string) error {
			if barred.Load() {
				return errors.New("barred")
			}
			return nil
		}
	})
	t.Cleanup(func() { must(t, s.o.Revocations.Close()) })
	server := s.behindHTTP(t, http.HandlerFunc(func(w http.ResponseWriter, h *http.Request) {
		r, _ := FromContext(h.Context())
		_, _ = fmt.Fprintf(w, "secret page for %s", r.Principal)
	}))
	by := &Transport{Credential: s.credential("ann"), Base: server.Client().Transport}
	sees := func(want int) {
		t.Helper()
		status, text, err := post(t, by, server.URL, 1)
		if err != nil || status != want || status != http.StatusOK && bytes.Contains(text, []byte("secret")) {
			t.Fatalf("%d, %q, %v instead of %d", status, text, err, want)
		}
	}
	sees(http.StatusOK)
	barred.Store(true)
	sees(http.StatusForbidden)
	barred.Store(false)
	sees(http.StatusOK)
	must(t, s.o.Revocations.Revoke(ctx, "ann"))
	sees(http.StatusForbidden)
	s.again()
	sees(http.StatusForbidden)
}

// TestHTTPShort: a body that does not come as a whole is not too large.
func TestHTTPShort(t *testing.T) {
	s := newSite(t)
	server := s.overHTTP(t)
	plain := &http.Server{Handler: server.Config.Handler}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	served := make(chan error, 1)
	go func() { served <- plain.Serve(l) }()
	c, err := net.Dial("tcp", l.Addr().String())
	must(t, err)
	credential := s.credential("ann")
	_, err = fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n%s: %d\r\n%s: %s\r\n\r\nshort",
		headerSession, credential.Session, headerRequest, head{1, 1, 1, s.server.life}.seal(credential.Secret, "POST", "/", []byte("short")))
	must(t, err)
	must(t, c.(*net.TCPConn).CloseWrite())
	text, err := io.ReadAll(c)
	if !strings.HasPrefix(string(text), "HTTP/1.1 400 ") || !strings.Contains(string(text), headerReply+": 1 again\r\n") {
		t.Errorf("%q, %v", text, err)
	}
	must(t, errors.Join(c.Close(), plain.Close()))
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		t.Fatal(err)
	}
}

// TestHTTPPrefix: a proof is of the path that was sent, whatever a server makes of it.
func TestHTTPPrefix(t *testing.T) {
	s := newSite(t)
	server := s.overHTTP(t)
	server.Config.Handler = http.StripPrefix("/api", server.Config.Handler)
	counts(t, &Transport{Credential: s.credential("ann"), Base: server.Client().Transport}, server.URL+"/api/count?of=%2Fx", 1)
}

// TestHTTPPanic: a handler that panics keeps nothing, and its request is done when it
// comes again.
func TestHTTPPanic(t *testing.T) {
	s := newSite(t)
	ran := 0
	server := s.behindHTTP(t, http.HandlerFunc(func(w http.ResponseWriter, h *http.Request) {
		r, _ := FromContext(h.Context())
		_ = s.db.Update(h.Context(), func(tx *durable.Tx) error {
			reply, err := s.server.Do(tx, r, func() ([]byte, error) { return s.o.Handle(tx, r) })
			if ran++; ran < 3 {
				panic("oh")
			}
			_, _ = w.Write(reply)
			return err
		})
	}))
	counts(t, &Transport{Credential: s.credential("ann"), Base: server.Client().Transport}, server.URL, 1)
	if ran != 3 {
		t.Fatalf("ran %d times", ran)
	}
}

// TestHTTPRollback: when the server comes back with an older state the client is told
// which requests are undone, once; those of which nothing was kept are none.
func TestHTTPRollback(t *testing.T) {
	s := newSite(t, func(o *Options) { o.Window = 4 })
	server := s.behindHTTP(t, http.HandlerFunc(func(w http.ResponseWriter, h *http.Request) {
		r, _ := FromContext(h.Context())
		if h.URL.Path == "/look" {
			_, _ = w.Write(number(0))
			return
		}
		reply, err := s.server.Update(h.Context(), r, func(tx *durable.Tx) ([]byte, error) { return s.o.Handle(tx, r) })
		if err != nil {
			HTTPError(w, err)
			return
		}
		_, _ = w.Write(reply)
	}))
	by := &Transport{Credential: s.credential("ann"), Base: server.Client().Transport}
	look := func() {
		t.Helper()
		if status, _, err := post(t, by, server.URL+"/look", 1); err != nil || status != http.StatusOK {
			t.Fatalf("%d, %v", status, err)
		}
	}
	told := func(want ...uint64) {
		t.Helper()
		_, _, err := post(t, by, server.URL, 1)
		back := (*RolledBackError)(nil)
		if !errors.As(err, &back) || back.Session {
			t.Fatalf("%v", err)
		}
		var got []uint64
		for _, u := range back.Undone {
			got = append(got, u.Seq)
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("%v instead of %v", got, want)
		}
	}
	before := s.save()
	for n := range uint64(7) {
		counts(t, by, server.URL, n+1) // 1 to 7
	}
	look() // 8
	older := s.save()
	look()                                                   // 9
	counts(t, by, server.URL, 8)                             // 10
	look()                                                   // 11
	if _, _, err := post(t, by, server.URL, 1); err != nil { // 12
		t.Fatal(err)
	}
	s.again()
	counts(t, by, server.URL, 10) // 13
	s.putBack(older)
	told(10, 12, 13)
	told(10, 12, 13)
	if n := s.count("ann"); n != 7 {
		t.Fatalf("%d", n)
	}
	by.Accept()
	counts(t, by, server.URL, 8) // 15
	s.again()
	counts(t, by, server.URL, 9) // 16
	s.putBack(older)
	told(15, 16)
	by.Accept()
	look()
	s.putBack(before)
	told(1, 2, 3, 4, 5, 6, 7)
}

// TestHTTPRestarts: requests count once each, whatever is lost and however often the server
// is begun again, and nothing is taken for undone that is not.
func TestHTTPRestarts(t *testing.T) {
	s := newSite(t)
	var up sync.RWMutex // held for reading by requests
	server := s.overHTTP(t)
	inner := server.Config.Handler
	server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, h *http.Request) {
		up.RLock()
		defer up.RUnlock()
		inner.ServeHTTP(w, h)
	})
	f := &flaky{base: server.Client().Transport, r: rand.New(rand.NewPCG(1, 1))}
	by := &Transport{Credential: s.credential("ann"), Base: f}
	const callers, each, restarts = 4, 40, 6
	did := make(chan struct{}, callers*each)
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for n := range uint64(each) {
				if status, _, err := post(t, by, server.URL, 1+n%2); err != nil || status != http.StatusOK {
					t.Errorf("%d, %v", status, err)
				}
				did <- struct{}{}
			}
		})
	}
	for range restarts {
		for range callers * each / (restarts + 1) {
			<-did
		}
		up.Lock()
		s.again()
		up.Unlock()
	}
	wg.Wait()
	if n := s.count("ann"); n != callers*each*3/2 {
		t.Fatalf("%d instead of %d", n, callers*each*3/2)
	}
}

// TestHTTPBehind: a server that was rolled back to before the session began says so.
func TestHTTPBehind(t *testing.T) {
	s := newSite(t)
	server := s.overHTTP(t)
	before := s.save()
	by := &Transport{Credential: s.credential("ann"), Base: server.Client().Transport}
	counts(t, by, server.URL, 1)
	counts(t, by, server.URL, 2)
	s.putBack(before)
	for range 2 {
		_, _, err := post(t, by, server.URL, 1)
		back := (*RolledBackError)(nil)
		if !errors.As(err, &back) || !back.Session || len(back.Undone) != 2 || !errors.Is(err, ErrNoSession) {
			t.Fatalf("%v", err)
		}
		by.Accept()
	}
}

// TestSpans: what is added is in, and nothing else.
func TestSpans(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var s spans
		in := map[uint64]bool{}
		for range 1 + r.IntN(40) {
			n := r.Uint64N(50)
			s.add(n)
			in[n] = true
		}
		for n := range uint64(52) {
			if s.has(n) != in[n] {
				t.Fatalf("%v: %d is in: %v", s, n, s.has(n))
			}
		}
		for i := 1; i < len(s); i++ {
			if s[i-1].to >= s[i].from {
				t.Fatalf("%v", s)
			}
		}
	}
}

// FuzzHTTPHeaders: what can be read of a header is what it is written as.
func FuzzHTTPHeaders(f *testing.F) {
	st := &stamp{}
	st.set(stampKept)
	f.Add(head{12, 9, 1, 2}.seal([]byte("key"), "POST", "/", nil))
	f.Add(st.on(12))
	f.Add(standing{1, 3, []uint64{12, 11, 10}}.String())
	f.Add("1 18446744073709551615 0")
	f.Fuzz(func(t *testing.T, text string) {
		if d, proof, err := parseHead(text); err == nil {
			if again, p, err := parseHead(fmt.Sprint(d, " ", base64.RawURLEncoding.EncodeToString(proof))); err != nil || again != d || !bytes.Equal(p, proof) {
				t.Fatalf("%v, %v", again, err)
			}
		}
		if seq, what, ok := parseStamp(text); ok {
			st := &stamp{}
			st.set(what)
			if s, w, ok := parseStamp(st.on(seq)); !ok || s != seq || w != what {
				t.Fatalf("%d, %d", s, w)
			}
		}
		if s, err := parseStanding(text); err == nil {
			if again, err := parseStanding(s.String()); err != nil || fmt.Sprint(again) != fmt.Sprint(s) {
				t.Fatalf("%v, %v", again, err)
			}
			behind(4, s.floor, s.slots)
		}
	})
}
