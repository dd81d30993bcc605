package session

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/wakepoint/wakepoint/durable"
)

// row is what is kept of a session.
func (s *site) row(id uint64) (r row, found bool) {
	s.t.Helper()
	must(s.t, s.db.View(context.Background(), func(tx *durable.Tx) error {
		r, found = s.o.Tables.sessions.Get(tx, id)
		return nil
	}))
	return r, found
}

// pass lets so much time pass for sessions.
func (s *site) pass(d time.Duration) {
	s.t.Helper()
	must(s.t, s.server.sweep(context.Background(), d))
}

// TestExpiry: a session that nobody uses ends, not sooner than was said, and its
// client is told, by a server that proves that it knew it; one that has a connection
// goes on, and the time in which no server runs does not count.
func TestExpiry(t *testing.T) {
	s := newSite(t, func(o *Options) { o.Expiry = 30 * time.Minute })
	r, idle := s.login("ann")
	r.say(one(1, 1))
	r.hear()
	must(t, r.c.Close())
	used := s.client("bob")
	for s.attached() > 1 {
		time.Sleep(time.Millisecond)
	}
	s.pass(29 * time.Minute)
	s.again()
	s.pass(time.Minute - time.Millisecond)
	if kept, found := s.row(idle.id); !found || kept.Ended {
		t.Fatalf("%+v", kept)
	}
	if _, err := add(used, 1); err != nil {
		t.Fatal(err)
	}
	for range 4 { // lives that are much shorter than it takes until sessions are looked at
		s.pass(time.Minute)
		s.again()
		if _, err := add(used, 1); err != nil { // it is connected again
			t.Fatal(err)
		}
	}
	if kept, found := s.row(idle.id); !found || !kept.Ended {
		t.Fatalf("%+v", kept)
	}
	raw, h, a := s.challenged(idle, newNonce())
	raw.say(proven(idle, h, a))
	raw.ends(codeExpired)
	for range 10 {
		s.pass(29 * time.Minute)
	}
	if _, err := add(used, 1); err != nil { // it was connected all the time
		t.Fatal(err)
	}
	if _, found := s.row(idle.id); found {
		t.Fatal("it is remembered for ever")
	}
	raw = s.raw()
	raw.say(h)
	raw.ends(codeUnknown)
}

func (s *site) attached() int {
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	return len(s.server.conns)
}

// TestFloorKept: what a client has acknowledged is not kept when it has gone, and
// is not done again all the same.
func TestFloorKept(t *testing.T) {
	s := newSite(t)
	r, w := s.login("ann")
	for seq := uint64(1); seq <= 10; seq++ {
		r.say(one(seq, seq))
		r.hear()
	}
	r.say(&ack{floor: 11})
	r.say(&ping{})
	r.hear()
	must(t, r.c.Close())
	for s.attached() > 0 {
		time.Sleep(time.Millisecond)
	}
	for kept := uint64(0); kept < 11; {
		got, _ := s.row(w.id)
		kept = got.Floor
	}
	must(t, s.db.View(context.Background(), func(tx *durable.Tx) error {
		if list := s.o.Tables.slots(tx, w.id); len(list) > 0 {
			t.Errorf("%v", list)
		}
		return nil
	}))
	s.again()
	r, _ = s.resume(w)
	r.say(one(10, 10))
	if m, ok := r.hear().(*reply); !ok || m.code != codeStale {
		t.Fatalf("%+v", m)
	}
	if n := s.count("ann"); n != 10 {
		t.Fatalf("%d", n)
	}
}

// TestFloorMoves: what is said of a session in a challenge is of one instant, also when
// its other connection ends meanwhile, and nothing is done twice for that.
func TestFloorMoves(t *testing.T) {
	s := newSite(t)
	older, w := s.login("ann")
	for seq := uint64(1); seq <= 10; seq++ {
		older.say(one(seq, seq))
		older.hear()
	}
	state := func(h *hello, a *challenge) (uint64, []uint64) {
		_, floor, slots, err := openState(prove(w.secret, ofState, w.id, h.nonce, a.nonce, nil), a.state)
		must(t, err)
		return floor, slots
	}
	r, h, a := s.challenged(w, newNonce())
	if floor, slots := state(h, a); floor != 1 || len(slots) != 10 {
		t.Fatalf("%d, %d", floor, slots)
	}
	older.say(&ack{floor: 11})
	must(t, older.c.Close())
	for kept := uint64(0); kept < 11; {
		got, _ := s.row(w.id)
		kept = got.Floor
	}
	r.say(&proof{proof: prove(w.secret, byClient, w.id, h.nonce, a.nonce, nil), floor: 11})
	if m := r.hear(); m.kind() != kindWelcome {
		t.Fatalf("%+v", m)
	}
	r.say(one(10, 10))
	if m, ok := r.hear().(*reply); !ok || m.code != codeStale {
		t.Fatalf("%+v", m)
	}
	_, h, a = s.challenged(w, newNonce())
	if floor, slots := state(h, a); floor != 11 || len(slots) > 0 {
		t.Fatalf("%d, %d", floor, slots)
	}
}

// TestRevoke: who is revoked is so at once, and stays so when the server comes back
// with an older state; allowed again, the old sessions stay void.
func TestRevoke(t *testing.T) {
	ctx := context.Background()
	dir := filepath.Join(t.TempDir(), "revocations")
	open := func() *Revocations {
		r, err := OpenRevocations(ctx, durable.Options{Dir: dir})
		must(t, err)
		return r
	}
	revoked := open()
	s := newSite(t, func(o *Options) { o.Revocations = revoked })
	ann, bob := s.client("ann"), s.client("bob")
	_, err := add(ann, 1)
	must(t, err)
	older := s.save()
	must(t, revoked.Revoke(ctx, "ann"))
	if _, err := add(ann, 1); !errors.Is(err, ErrDenied) {
		t.Fatalf("%v", err)
	}
	s.login("carl")
	s.putBack(older)
	s.stop()
	must(t, revoked.Close())
	revoked = open()
	defer func() { must(t, revoked.Close()) }()
	s.o.Revocations = revoked
	s.begin()
	for _, name := range []string{"resume", "begin"} {
		if _, err := Dial(ctx, DialOptions{Dial: s.dial, Credentials: []byte("ann")}); !errors.Is(err, ErrDenied) {
			t.Fatalf("%s: %v", name, err)
		}
	}
	if list := revoked.List(); len(list) != 1 || list[0] != "ann" {
		t.Fatalf("%q", list)
	}
	if _, err := add(bob, 1); err != nil {
		t.Fatal(err)
	}
	must(t, revoked.Revoke(ctx, "dora"))
	must(t, revoked.Allow(ctx, "dora"))
	r, w2 := s.login("dora")
	must(t, revoked.Revoke(ctx, "dora"))
	r.ends(codeDenied)
	must(t, revoked.Allow(ctx, "dora"))
	again, h, a := s.challenged(w2, newNonce())
	again.say(proven(w2, h, a))
	again.ends(codeDenied)
	s.login("dora")
}
