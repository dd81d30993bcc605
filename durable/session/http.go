package session

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/wakepoint/wakepoint/durable"
)

// An existing HTTP server gets sessions by a pair of headers and a middleware.
// Requests over HTTP have no window of their own kind: they are those of any
// session, with the numbers in a header, and a proof in it that they are from who
// knows the secret.
//
//	Wakepoint-Session: 7
//	Wakepoint-Request: 12 9 kJ0x...
//
// The second has the number of the request, the floor, and the HMAC-SHA256 of
// the version, both, the method, the URI and the SHA-256 of the body, in base64 (RFC
// 4648, section 5). It is to be used over TLS.
const (
	headerSession = "Wakepoint-Session"
	headerRequest = "Wakepoint-Request"
)

// Credential is what a client has to have for a session over HTTP. It is secret.
type Credential struct {
	Session uint64 `json:"session"`
	Secret  []byte `json:"secret"`
	Window  uint64 `json:"window"`
}

// NewCredential begins a session for a principal that the program has
// authenticated itself. It is to be told to nobody else.
func (s *Server) NewCredential(ctx context.Context, principal string) (Credential, error) {
	id, r, secret, err := s.create(ctx, principal)
	return Credential{id, secret, r.Window}, err
}

type requestKey struct{}

// FromContext is the request that Middleware has found, for Do; false: none.
func FromContext(ctx context.Context) (*Request, bool) {
	r, ok := ctx.Value(requestKey{}).(*Request)
	return r, ok
}

// Middleware lets only requests of sessions through, which next finds by FromContext
// and does by Do. The answer is 401 where the proof is wrong or the session is
// none, 403 where the principal may not go on, 409 where numbers cannot be, 413 where
// the body is too large.
func (s *Server) Middleware(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, h *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, h.Body, int64(s.o.Largest)))
		if err != nil {
			http.Error(w, "body cannot be read", http.StatusRequestEntityTooLarge)
			return
		}
		r, err := s.httpRequest(h, body)
		if err != nil {
			http.Error(w, err.Error(), httpStatus(err))
			return
		}
		h = h.WithContext(context.WithValue(h.Context(), requestKey{}, r))
		h.Body = io.NopCloser(bytes.NewReader(body))
		next.ServeHTTP(w, h)
	})
}

// HTTPError answers with what an error of Do means over HTTP.
func HTTPError(w http.ResponseWriter, err error) { http.Error(w, err.Error(), httpStatus(err)) }

func httpStatus(err error) int {
	switch {
	case errors.Is(err, errUnproven), errors.Is(err, ErrNoSession), errors.Is(err, ErrExpired):
		return http.StatusUnauthorized
	case errors.Is(err, ErrDenied):
		return http.StatusForbidden
	case errors.Is(err, ErrStale), errors.Is(err, ErrReused), errors.Is(err, ErrProtocol):
		return http.StatusConflict
	case errors.Is(err, ErrTooLarge):
		return http.StatusRequestEntityTooLarge
	case unable(err), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return http.StatusServiceUnavailable
	}
	return http.StatusUnprocessableEntity
}

var errUnproven = errors.New("session: no proof")

// httpRequest finds the session of a request, and checks its proof.
func (s *Server) httpRequest(h *http.Request, body []byte) (*Request, error) {
	var id uint64
	r := &Request{Body: body}
	var text string
	if _, err := fmt.Sscanf(h.Header.Get(headerSession), "%d", &id); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", errUnproven, headerSession, err)
	}
	if _, err := fmt.Sscanf(h.Header.Get(headerRequest), "%d %d %s", &r.Seq, &r.floor, &text); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", errUnproven, headerRequest, err)
	}
	given, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUnproven, err)
	}
	kept, err := s.kept(h.Context(), id)
	if err != nil {
		return nil, err
	}
	secret, err := s.seals.open(kept.Secret, purpose(id))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUnproven, err)
	}
	if want := httpProof(secret, r.Seq, r.floor, h.Method, h.URL.RequestURI(), body); !hmac.Equal(want, given) {
		return nil, errUnproven
	}
	return s.request(h.Context(), id, kept, r)
}

// Request is a request of a session that came by a transport of one's own, which has
// made sure that it is from who the session is for. The floor is the lowest number to
// which the client has no reply. Errors: ErrNoSession, ErrExpired, ErrStale, ErrProtocol.
func (s *Server) Request(ctx context.Context, session, seq, floor uint64, body []byte) (*Request, error) {
	kept, err := s.kept(ctx, session)
	if err != nil {
		return nil, err
	}
	return s.request(ctx, session, kept, &Request{Seq: seq, Body: body, floor: floor})
}

// kept is what is kept of a session.
func (s *Server) kept(ctx context.Context, id uint64) (row, error) {
	kept, _, why, err := s.find(ctx, id)
	if err == nil {
		err = why.error(nil)
	}
	return kept, err
}

func (s *Server) request(ctx context.Context, id uint64, kept row, r *Request) (*Request, error) {
	if kept.Ended {
		return nil, ErrExpired
	}
	r.Session, r.Principal, r.window, r.epoch, r.sum = id, kept.Principal, kept.Window, kept.Epoch, sumOf(r.Body)
	if err := r.check(max(kept.Floor, 1)); err != nil {
		return nil, err
	}
	if kept.Used == kept.clock {
		return r, nil
	}
	return r, s.db.Update(ctx, func(tx *durable.Tx) error { // it is used without a connection, which is said now and then
		s.o.Tables.used(tx, id, r.floor)
		return nil
	})
}

func httpProof(secret []byte, seq, floor uint64, method, uri string, body []byte) []byte {
	sum := sha256.Sum256(body)
	m := hmac.New(sha256.New, secret)
	fmt.Fprintf(m, "wakepoint http %d %d %d %s %q ", version, seq, floor, method, uri)
	m.Write(sum[:])
	return m.Sum(nil)
}

// Transport is a http.RoundTripper by which a client's requests are done once each:
// it gives them their numbers and proofs, and sends them again until there is an
// answer that says what became of them, or their context ends. Answers are read as
// a whole. Any number of goroutines may use it.
type Transport struct {
	Credential Credential
	Base       http.RoundTripper // nil: http.DefaultTransport

	mu      sync.Mutex
	next    uint64
	flying  map[uint64]bool
	changed chan struct{} // closed when one has an answer
}

// RoundTrip implements http.RoundTripper.
func (t *Transport) RoundTrip(h *http.Request) (*http.Response, error) {
	var body []byte
	if h.Body != nil {
		var err error
		body, err = io.ReadAll(h.Body)
		if err = errors.Join(err, h.Body.Close()); err != nil {
			return nil, err
		}
	}
	seq, err := t.take(h.Context())
	if err != nil {
		return nil, err
	}
	for wait := againLeast; ; wait = min(wait*9/8, againMost) {
		response, err := t.once(h, seq, body)
		if err == nil && response.StatusCode != http.StatusServiceUnavailable {
			t.give(seq)
			return response, nil
		}
		select {
		case <-time.After(wait):
		case <-h.Context().Done():
			t.give(seq) // should it come later, it is done or it is too late
			return nil, errors.Join(ErrUnknown, h.Context().Err(), err)
		}
	}
}

// once sends a request, and reads the answer as a whole.
func (t *Transport) once(h *http.Request, seq uint64, body []byte) (*http.Response, error) {
	t.mu.Lock()
	floor := t.floor()
	t.mu.Unlock()
	again := h.Clone(h.Context())
	again.Body, again.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	proof := httpProof(t.Credential.Secret, seq, floor, h.Method, h.URL.RequestURI(), body)
	again.Header.Set(headerSession, fmt.Sprint(t.Credential.Session))
	again.Header.Set(headerRequest, fmt.Sprint(seq, floor, " ", base64.RawURLEncoding.EncodeToString(proof)))
	base := t.Base
	if base == nil {
		base = http.DefaultTransport
	}
	response, err := base.RoundTrip(again)
	if err != nil {
		return nil, err
	}
	all, err := io.ReadAll(response.Body)
	if err = errors.Join(err, response.Body.Close()); err != nil {
		return nil, err
	}
	response.Body = io.NopCloser(bytes.NewReader(all))
	return response, nil
}

// take takes the next number, when the window has room for it.
func (t *Transport) take(ctx context.Context) (uint64, error) {
	for {
		t.mu.Lock()
		if t.flying == nil {
			t.next, t.flying, t.changed = 1, map[uint64]bool{}, make(chan struct{})
		}
		if t.next-t.floor() < t.Credential.Window {
			defer t.mu.Unlock()
			seq := t.next
			t.flying[seq] = true
			t.next++
			return seq, nil
		}
		changed := t.changed
		t.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

// floor is the lowest number without an answer: mu is held.
func (t *Transport) floor() uint64 {
	low := t.next
	for seq := range t.flying {
		low = min(low, seq)
	}
	return low
}

func (t *Transport) give(seq uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.flying, seq)
	close(t.changed)
	t.changed = make(chan struct{})
}
