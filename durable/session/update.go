package session

import (
	"context"
	"errors"
	"runtime/debug"

	"github.com/wakepoint/wakepoint/durable"
)

// Update does a request once in a transaction of its own, as that of a connection is
// done: f's changes and its reply are kept together. When f returns an error, or
// panics, nothing is changed, and that is kept: whoever asks again gets the same.
//
// Errors: *RemoteError is what f returned, and ErrDenied, ErrTooLarge; ErrStale, ErrReused;
// ErrExpired and ErrNoSession say that the session has ended. With any other error the database could do nothing, or nobody knows
// whether it did: the request may be done later.
func (s *Server) Update(ctx context.Context, r *Request, f func(tx *durable.Tx) ([]byte, error)) ([]byte, error) {
	kept, err := s.update(ctx, r, f)
	if err == nil {
		err = kept.code.error(kept.body)
	}
	if err != nil {
		return nil, err
	}
	return kept.body, nil
}

// update does a request, or refuses it. An error says that neither is kept.
func (s *Server) update(ctx context.Context, r *Request, f func(tx *durable.Tx) ([]byte, error)) (kept slot, err error) {
	defer func() {
		if err != nil {
			r.stamp.set(stampOpen)
		}
	}()
	reply, err := s.attempt(ctx, r, f)
	if err == nil {
		return slot{seq: r.Seq, code: codeOK, body: reply}, nil
	}
	if no, ok := err.(*refusing); ok { // itself: with another error beside it the transaction failed for that
		err = no.why
	} else if unable(err) {
		return slot{}, err
	}
	if ctx.Err() != nil {
		return slot{}, ctx.Err() // nobody is told
	}
	why, text := codeOf(err)
	text = text[:min(len(text), s.o.Largest)]
	err = s.db.Update(ctx, func(tx *durable.Tx) (err error) {
		kept, err = s.o.Tables.settle(tx, r, why, text)
		return err
	})
	for _, c := range []code{codeStale, codeReused} {
		if errors.Is(err, c.sentinel()) {
			return slot{code: c}, nil
		}
	}
	return kept, err
}

// refusing is an error that the transaction of a request was ended with. It does not
// say what it wraps: that may be an error of another database.
type refusing struct{ why error }

func (r *refusing) Error() string { return r.why.Error() }

// attempt runs the transaction of a request.
func (s *Server) attempt(ctx context.Context, r *Request, f func(tx *durable.Tx) ([]byte, error)) (reply []byte, err error) {
	defer func() {
		if p := recover(); p != nil { // nothing was changed, and the server goes on: the client would only come again with it
			s.o.Logger.Error("a handler panicked", "session", r.Session, "request", r.Seq, "panic", p, "stack", string(debug.Stack()))
			reply, err = nil, &refusing{errors.New("the handler panicked")}
		}
	}()
	err = s.db.Update(ctx, func(tx *durable.Tx) (err error) {
		if reply, err = s.Do(tx, r, func() ([]byte, error) { return f(tx) }); err != nil {
			return &refusing{err}
		}
		return nil
	})
	return reply, err
}

// unable says that an error is the database's: the request may be done later.
func unable(err error) bool {
	if damage := (*durable.DamageError)(nil); errors.As(err, &damage) {
		return true
	}
	for _, e := range []error{durable.ErrFull, durable.ErrPoisoned, durable.ErrClosed, durable.ErrUnknown} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
