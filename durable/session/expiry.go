package session

import (
	"context"
	"time"

	"github.com/wakepoint/wakepoint/durable"
)

// Sessions expire by a clock that counts only the time in which a server runs: no
// clock that jumps, and no outage, ends anybody's session. It is kept in the
// database, in milliseconds.

const (
	expiryDefault = 30 * 24 * time.Hour
	// sweeps are how often in the time after which a session expires it is looked
	// for such: it may last longer by one part of so many.
	sweeps = 10
	// clockEvery is how often the clock is kept, at least: so much of a server's life
	// may not count.
	clockEvery = time.Minute
	// sweepMost is how many sessions are changed in a transaction.
	sweepMost = 500
	// remembered is for how many times as long the server knows that a session has
	// expired, and can prove it.
	remembered = 4
)

// End ends a session. Its client is told that it has expired.
func (s *Server) End(tx *durable.Tx, id uint64) error {
	r, found := s.o.Tables.sessions.Get(tx, id)
	if !found || r.Ended {
		return nil
	}
	s.o.Tables.end(tx, id, r)
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.conns[id]; c != nil {
		c.poke() // when the transaction is done it looks whether its session is
	}
	return nil
}

// end makes a session one that has ended, and lets go of all that it had.
func (t *Tables) end(tx *durable.Tx, id uint64, r row) {
	r.Ended = true
	r.Used, _ = t.meta.Get(tx, metaClock)
	t.sessions.Put(tx, id, r)
	t.empty(tx, id)
	t.ending = append(t.ending, id)
}

// empty lets go of all that a session has.
func (t *Tables) empty(tx *durable.Tx, id uint64) {
	from, to := all(id)
	for key := range t.replies.Range(tx, from, to) {
		t.replies.Delete(tx, key)
	}
	for key := range t.owed.Range(tx, owedKey(id, 0), owedKey(id+1, 0)) {
		t.owed.Delete(tx, key)
	}
	t.sent.Delete(tx, id)
}

// used says that a session is used now, and that replies below a floor have come:
// they are not kept any more.
func (t *Tables) used(tx *durable.Tx, id, floor uint64) {
	r, found := t.sessions.Get(tx, id)
	if !found || r.Ended {
		return
	}
	clock, _ := t.meta.Get(tx, metaClock)
	if r.Used == clock && r.Floor >= floor {
		return
	}
	if r.Used = clock; floor > r.Floor && t.done(tx, id, r, floor) {
		r.Floor = floor
		from, to := all(id)
		for key, kept := range t.replies.Range(tx, from, to) {
			if kept.seq < floor {
				t.replies.Delete(tx, key)
			}
		}
	}
	t.sessions.Put(tx, id, r)
}

// keepSweeping looks for sessions that have expired, until the server is closed.
func (s *Server) keepSweeping() {
	ticker := time.NewTicker(min(s.o.Expiry/sweeps, clockEvery))
	defer ticker.Stop()
	last := time.Now()
	for {
		select {
		case <-ticker.C:
		case <-s.closing:
			return
		}
		now := time.Now()
		if err := s.sweep(s.ctx, now.Sub(last)); err != nil {
			s.o.Logger.Error("sessions that have expired cannot be ended", "err", err)
		}
		last = now
	}
}

// sweep lets the clock go on, and ends what has expired when it is time to look.
func (s *Server) sweep(ctx context.Context, passed time.Duration) error {
	t := s.o.Tables
	var clock uint64
	var due bool
	err := s.db.Update(ctx, func(tx *durable.Tx) error {
		clock, _ = t.meta.Get(tx, metaClock)
		swept, _ := t.meta.Get(tx, metaSwept)
		clock += uint64(passed.Milliseconds())
		t.meta.Put(tx, metaClock, clock)
		if due = clock-swept >= uint64((s.o.Expiry / sweeps).Milliseconds()); due {
			t.meta.Put(tx, metaSwept, clock)
		}
		return nil
	})
	if err != nil || !due {
		return err
	}
	s.mu.Lock()
	var attached []uint64
	for id := range s.conns {
		attached = append(attached, id)
	}
	s.mu.Unlock()
	if err := s.some(ctx, attached, func(tx *durable.Tx, id uint64) { t.used(tx, id, 0) }); err != nil {
		return err
	}
	var old []uint64
	err = s.db.View(ctx, func(tx *durable.Tx) error {
		for id, r := range t.sessions.All(tx) {
			if s.expired(r, clock) {
				old = append(old, id)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return s.some(ctx, old, func(tx *durable.Tx, id uint64) {
		switch r, found := t.sessions.Get(tx, id); {
		case !found || !s.expired(r, clock):
		case r.Ended:
			t.sessions.Delete(tx, id)
		default:
			t.end(tx, id, r)
			s.o.Logger.Info("a session has expired", "session", id, "principal", r.Principal)
		}
	})
}

// expired says that it is time to end a session, or to forget it.
func (s *Server) expired(r row, clock uint64) bool {
	after := uint64(s.o.Expiry.Milliseconds())
	if r.Ended {
		after *= remembered
	}
	return clock > r.Used && clock-r.Used > after
}

// some runs f for each of a list, a number of them in a transaction.
func (s *Server) some(ctx context.Context, list []uint64, f func(tx *durable.Tx, id uint64)) error {
	for len(list) > 0 {
		n := min(len(list), sweepMost)
		err := s.db.Update(ctx, func(tx *durable.Tx) error {
			for _, id := range list[:n] {
				f(tx, id)
			}
			return nil
		})
		if err != nil {
			return err
		}
		list = list[n:]
	}
	return nil
}
