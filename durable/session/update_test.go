package session

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wakepoint/wakepoint/durable"
)

// TestRefusedForAnother: what a handler returns is a refusal, also where it is an error
// of another database, or of another session.
func TestRefusedForAnother(t *testing.T) {
	for _, why := range []error{durable.ErrClosed, durable.ErrFull, durable.ErrPoisoned, durable.ErrUnknown, &durable.DamageError{Why: errors.New("torn")},
		ErrStale, ErrReused, ErrExpired, ErrNoSession, context.Canceled} {
		t.Run(why.Error(), func(t *testing.T) {
			var ran atomic.Int64
			s := newSite(t, func(o *Options) {
				o.Handle = func(*durable.Tx, *Request) ([]byte, error) {
					ran.Add(1)
					return nil, fmt.Errorf("the archive: %w", why)
				}
			})
			c := s.client("ann")
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			defer cancel()
			var remote *RemoteError
			if _, err := c.Call(ctx, number(1)); !errors.As(err, &remote) || remote.Text != "the archive: "+why.Error() {
				t.Fatalf("%v", err)
			}
			if n := ran.Load(); n != 1 {
				t.Fatalf("ran %d times", n)
			}
		})
	}
}

// TestUpdate: in a transaction of its own a request is done once, and refused once.
func TestUpdate(t *testing.T) {
	ctx := context.Background()
	s := newSite(t)
	credential, err := s.server.NewCredential(ctx, "ann")
	must(t, err)
	do := func(seq uint64, f func(tx *durable.Tx) ([]byte, error)) (string, error) {
		t.Helper()
		r, err := s.server.Request(ctx, credential.Session, seq, 1, number(seq))
		must(t, err)
		reply, err := s.server.Update(ctx, r, f)
		return string(reply), err
	}
	done := func(tx *durable.Tx) ([]byte, error) {
		s.counts.Put(tx, "ann", 1)
		return []byte("done"), nil
	}
	refused := func(tx *durable.Tx) ([]byte, error) {
		s.counts.Put(tx, "ann", 2)
		return nil, errors.New("no")
	}
	panics := func(tx *durable.Tx) ([]byte, error) {
		s.counts.Put(tx, "ann", 3)
		panic("oh")
	}
	large := func(tx *durable.Tx) ([]byte, error) {
		s.counts.Put(tx, "ann", 4)
		return make([]byte, largestDefault+1), nil
	}
	for _, try := range []struct {
		name string
		seq  uint64
		f    func(tx *durable.Tx) ([]byte, error)
		want string
	}{
		{"done", 1, done, "done <nil>"},
		{"done, then refused", 1, refused, "done <nil>"},
		{"refused", 2, refused, " no"},
		{"refused, then done", 2, done, " no"},
		{"panics", 3, panics, " the handler panicked"},
		{"panics, then done", 3, done, " the handler panicked"},
		{"too large", 4, large, " " + ErrTooLarge.Error()},
		{"too large, then done", 4, done, " " + ErrTooLarge.Error()},
		{"far on", 5, done, "done <nil>"},
	} {
		reply, err := do(try.seq, try.f)
		if got := fmt.Sprint(reply, " ", err); got != try.want {
			t.Errorf("%s: %q instead of %q", try.name, got, try.want)
		}
		if n := s.count("ann"); n != 1 {
			t.Errorf("%s: changed to %d", try.name, n)
		}
	}
}

// TestUpdateUnable: what the database cannot do is not refused, and can be done later.
func TestUpdateUnable(t *testing.T) {
	ctx := context.Background()
	s := newSite(t)
	credential, err := s.server.NewCredential(ctx, "ann")
	must(t, err)
	r, err := s.server.Request(ctx, credential.Session, 1, 1, nil)
	must(t, err)
	gone, cancel := context.WithCancel(ctx)
	refuses := func(*durable.Tx) ([]byte, error) { cancel(); return nil, ErrDenied }
	if _, err := s.server.Update(gone, r, refuses); !errors.Is(err, context.Canceled) || errors.Is(err, ErrDenied) {
		t.Fatalf("%v", err)
	}
	reply, err := s.server.Update(ctx, r, func(*durable.Tx) ([]byte, error) { return []byte("done"), nil })
	if err != nil || string(reply) != "done" {
		t.Fatalf("%q, %v", reply, err)
	}
}
