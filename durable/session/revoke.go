package session

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/wakepoint/wakepoint/durable"
)

// Revocations say whose sessions are void. They lie in a directory of their own,
// which is not to be rolled back with the database of the sessions: what was revoked
// stays so, whatever older state a server comes back with. For that the table is
// monotonic: each principal has an epoch that only grows, and a session is good
// only in the epoch in which it began.
type Revocations struct {
	db    *durable.DB
	table *durable.Table[string, revocation]

	mu      sync.RWMutex // guards the rest; taken before a server's
	known   map[string]revocation
	servers map[*Server]bool
}

// revocation is what is known of a principal.
type revocation struct {
	Epoch   uint64 `cbor:"1,keyasint"`
	Revoked bool   `cbor:"2,keyasint,omitempty"` // none may begin either
}

// OpenRevocations opens the revocations of a directory, or makes them.
func OpenRevocations(ctx context.Context, o durable.Options) (*Revocations, error) {
	r := &Revocations{table: durable.NewTable[string, revocation]("revocations"), known: map[string]revocation{}, servers: map[*Server]bool{}}
	db, _, err := durable.Open(ctx, o, r.table)
	if err != nil {
		return nil, err
	}
	r.db = db
	err = db.View(ctx, func(tx *durable.Tx) error {
		maps.Insert(r.known, r.table.All(tx))
		return nil
	})
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return r, nil
}

// Revoke makes all sessions of a principal void, and lets none begin. When it
// returns nil that is durable, and no request of theirs begins any more.
func (r *Revocations) Revoke(ctx context.Context, principal string) error {
	return r.change(ctx, principal, func(v revocation) revocation { return revocation{v.Epoch + 1, true} })
}

// Allow lets sessions of a principal begin again. Those that were revoked stay void.
func (r *Revocations) Allow(ctx context.Context, principal string) error {
	return r.change(ctx, principal, func(v revocation) revocation { return revocation{Epoch: v.Epoch} })
}

// List is who is revoked.
func (r *Revocations) List() (list []string) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for p, v := range r.known {
		if v.Revoked {
			list = append(list, p)
		}
	}
	slices.Sort(list)
	return list
}

// Close closes the directory. Servers that use it are to be closed first.
func (r *Revocations) Close() error { return r.db.Close() }

func (r *Revocations) change(ctx context.Context, principal string, f func(revocation) revocation) error {
	var v revocation
	err := r.db.Update(ctx, func(tx *durable.Tx) error {
		v, _ = r.table.Get(tx, principal)
		v = f(v)
		r.table.Put(tx, principal, v)
		if v.Revoked {
			r.learn(principal, v) // also when nobody learns whether it is durable
		}
		return nil
	})
	if err == nil {
		r.learn(principal, v)
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	for s := range r.servers {
		s.drop(func(c *conn) bool { return c.row.Principal == principal && r.void(principal, c.row.Epoch) }, codeDenied)
	}
	return err
}

// learn takes in what is so from now on, unless something newer is.
func (r *Revocations) learn(principal string, v revocation) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if old := r.known[principal]; v.Epoch > old.Epoch || v.Epoch == old.Epoch && !v.Revoked {
		r.known[principal] = v
	}
}

// epoch is in which a session of a principal begins.
func (r *Revocations) epoch(principal string) (uint64, error) {
	if r == nil {
		return 0, nil
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	v := r.known[principal]
	if v.Revoked {
		return 0, fmt.Errorf("%w: %s is revoked", ErrDenied, principal)
	}
	return v.Epoch, nil
}

// void says whether a session of an epoch is: mu is held. One of an epoch that is yet to
// come shows that revocations were lost.
func (r *Revocations) void(principal string, epoch uint64) bool {
	v := r.known[principal]
	return v.Revoked || epoch != v.Epoch
}

// check is the error of a session that is void.
func (r *Revocations) check(principal string, epoch uint64) error {
	if r == nil {
		return nil
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.void(principal, epoch) {
		return fmt.Errorf("%w: the session is revoked", ErrDenied)
	}
	return nil
}

// tell lets a server hear of what is revoked; off: no longer.
func (r *Revocations) tell(s *Server, on bool) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if on {
		r.servers[s] = true
	} else {
		delete(r.servers, s)
	}
}

// drop ends the connections for which f is true.
func (s *Server) drop(f func(c *conn) bool, why code) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		if f(c) {
			c.leave(why, "")
		}
	}
}
