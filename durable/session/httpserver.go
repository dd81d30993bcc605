package session

import (
	"bytes"
	"context"
	"crypto/hmac"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/wakepoint/wakepoint/durable"
)

type requestKey struct{}

// FromContext is the request that Middleware has found, for Update or Do; false: none.
func FromContext(ctx context.Context) (*Request, bool) {
	r, ok := ctx.Value(requestKey{}).(*Request)
	return r, ok
}

// Middleware lets only requests of sessions through whose principals may go on, which
// next finds by FromContext and does by Update. Else the answer is 400 where the body is
// cut short, 401 where the proof is wrong or the session is none, 403 where the principal
// may not go on, 409 where numbers cannot be, 413 where the body is too large.
//
// It stamps all answers, so that a Transport knows them from those that are made on
// the way. A 503 says that the request is to be sent again, also that of next; any
// other answer of next is the last one.
func (s *Server) Middleware(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, h *http.Request) {
		a := &answer{ResponseWriter: w}
		r, body, err := s.httpRequest(a, h)
		if err != nil {
			HTTPError(a, err)
			return
		}
		h = h.WithContext(context.WithValue(h.Context(), requestKey{}, r))
		h.Body = io.NopCloser(bytes.NewReader(body))
		next.ServeHTTP(a, h)
		a.mark()
	})
}

// answer stamps what a handler answers.
type answer struct {
	http.ResponseWriter
	stamp  stamp
	seq    uint64
	marked bool
}

func (a *answer) mark() {
	if !a.marked {
		a.marked = true
		a.Header().Set(headerReply, a.stamp.on(a.seq))
	}
}

func (a *answer) WriteHeader(status int) {
	if status >= http.StatusOK {
		a.mark()
	}
	a.ResponseWriter.WriteHeader(status)
}

func (a *answer) Write(b []byte) (int, error) {
	a.mark()
	return a.ResponseWriter.Write(b)
}

func (a *answer) FlushError() error {
	a.mark()
	return http.NewResponseController(a.ResponseWriter).Flush()
}

// Flush is that of a http.Flusher, which has no error.
func (a *answer) Flush() { _ = a.FlushError() }

// Unwrap is for http.ResponseController.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// HTTPError answers with what an error of Update means over HTTP.
func HTTPError(w http.ResponseWriter, err error) { http.Error(w, err.Error(), httpStatus(err)) }

func httpStatus(err error) int {
	switch remote := (*RemoteError)(nil); {
	case errors.As(err, &remote):
		return http.StatusUnprocessableEntity
	case errors.Is(err, errShort):
		return http.StatusBadRequest
	case errors.Is(err, errUnproven), errors.Is(err, ErrNoSession), errors.Is(err, ErrExpired):
		return http.StatusUnauthorized
	case errors.Is(err, ErrDenied):
		return http.StatusForbidden
	case errors.Is(err, ErrStale), errors.Is(err, ErrReused), errors.Is(err, ErrProtocol), errors.Is(err, errUnknowing):
		return http.StatusConflict
	case errors.Is(err, ErrTooLarge):
		return http.StatusRequestEntityTooLarge
	case unable(err), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return http.StatusServiceUnavailable
	}
	return http.StatusUnprocessableEntity
}

var (
	errShort     = errors.New("session: the body is cut short")
	errUnknowing = errors.New("session: the client is to know first how things stand")
)

// httpRequest finds the session of a request, and looks whether it may be done. What is
// not proven is not told anything.
func (s *Server) httpRequest(a *answer, h *http.Request) (*Request, []byte, error) {
	id, err := strconv.ParseUint(h.Header.Get(headerSession), 10, 64)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %s: %w", errUnproven, headerSession, err)
	}
	d, proof, err := parseHead(h.Header.Get(headerRequest))
	if err != nil {
		return nil, nil, err
	}
	a.seq = d.seq
	body, err := s.httpBody(a, h)
	if err != nil {
		return nil, nil, err
	}
	uri := h.RequestURI // as it was sent: others may have changed the URL
	if !strings.HasPrefix(uri, "/") {
		uri = h.URL.RequestURI()
	}
	var kept row
	t := s.o.Tables
	err = s.db.View(h.Context(), func(tx *durable.Tx) (err error) {
		found := false
		if kept, found = t.sessions.Get(tx, id); !found {
			return t.why(tx, id).error(nil)
		}
		kept.clock, _ = t.meta.Get(tx, metaClock)
		secret, err := s.seals.open(kept.Secret, purpose(id))
		switch {
		case err != nil:
			return fmt.Errorf("%w: %w", errUnproven, err)
		case !hmac.Equal(proof, d.proof(secret, h.Method, uri, body)):
			return errUnproven
		case kept.Ended:
			return ErrExpired
		}
		if err := s.allowed(tx, kept.Principal, kept.Epoch); err != nil {
			return err
		}
		if d.server != s.life {
			a.Header().Set(headerState, standing{s.life, kept.Floor, t.slots(tx, id)}.String())
			return errUnknowing
		}
		return nil
	})
	if errors.Is(err, errBehind) {
		a.stamp.set(stampBehind)
	}
	if err != nil {
		return nil, nil, err
	}
	r := &Request{Seq: d.seq, Body: body, floor: d.floor, sum: d.sum(h.Method, uri, body), stamp: &a.stamp}
	r, err = s.request(h.Context(), id, kept, r)
	if errors.Is(err, ErrStale) {
		a.stamp.set(stampStale)
	}
	return r, body, err
}

// httpBody reads a body as a whole.
func (s *Server) httpBody(a *answer, h *http.Request) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(a.ResponseWriter, h.Body, int64(s.o.Largest)))
	if large := (*http.MaxBytesError)(nil); errors.As(err, &large) {
		return nil, fmt.Errorf("%w: a body, at most %d bytes", ErrTooLarge, s.o.Largest)
	} else if err != nil {
		a.stamp.set(stampAgain)
		return nil, fmt.Errorf("%w: %w", errShort, err)
	}
	return body, nil
}

// Request is a request of a session that came by a transport of one's own, which has
// made sure that it is from who the session is for. The floor is the lowest number to
// which the client has no reply. Errors: ErrNoSession, ErrExpired, ErrStale, ErrProtocol.
func (s *Server) Request(ctx context.Context, session, seq, floor uint64, body []byte) (*Request, error) {
	kept, why, err := s.find(ctx, session, func(*durable.Tx) {})
	if err == nil {
		err = why.error(nil)
	}
	if err != nil {
		return nil, err
	}
	return s.request(ctx, session, kept, &Request{Seq: seq, Body: body, floor: floor, sum: sumOf(body)})
}

func (s *Server) request(ctx context.Context, id uint64, kept row, r *Request) (*Request, error) {
	if kept.Ended {
		return nil, ErrExpired
	}
	r.Session, r.Principal, r.window, r.epoch = id, kept.Principal, kept.Window, kept.Epoch
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
