package session

import (
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"time"

	"github.com/wakepoint/wakepoint/durable"
)

// The keys of TLS session tickets are kept, sealed, so that clients that come back
// after a restart need no whole handshake each. A new one is made every day in
// which a server runs, and a ticket is good for as long as three are kept.
const (
	ticketsKept  = 3
	ticketsEvery = 24 * time.Hour
	ticketSize   = 32
	// ticketsLook is how often a server looks whether it is time.
	ticketsLook = time.Hour
)

// TLS returns a configuration like another one, whose session tickets outlive the
// server. It is for one listener of this server.
func (s *Server) TLS(config *tls.Config) (*tls.Config, error) {
	c := config.Clone()
	keys, err := s.ticketKeys()
	if err != nil {
		return nil, err
	}
	c.SetSessionTicketKeys(keys)
	if !s.begin(func() { s.keepTickets(c) }) {
		return nil, ErrClosed
	}
	return c, nil
}

func (s *Server) keepTickets(c *tls.Config) {
	ticker := time.NewTicker(ticketsLook)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-s.closing:
			return
		}
		keys, err := s.ticketKeys()
		if err != nil {
			s.o.Logger.Error("no new key for session tickets", "err", err)
			continue
		}
		c.SetSessionTicketKeys(keys)
	}
}

// ticketKeys are those that are good now, the newest first, which is made if it is
// time for one. The key of the table is when that was, on the servers' clock.
func (s *Server) ticketKeys() (keys [][ticketSize]byte, err error) {
	t := s.o.Tables
	err = s.db.Update(s.ctx, func(tx *durable.Tx) error {
		keys = nil
		clock, _ := t.meta.Get(tx, metaClock)
		var made []uint64
		for at, sealed := range t.tickets.All(tx) {
			key, err := s.seals.open(sealed, ticketPurpose(at))
			if err != nil || len(key) != ticketSize { // of a key that was changed: a handshake more
				if clock-at > uint64(ticketsKept*ticketsEvery.Milliseconds()) {
					t.tickets.Delete(tx, at)
				}
				continue
			}
			keys = append([][ticketSize]byte{[ticketSize]byte(key)}, keys...)
			made = append([]uint64{at}, made...)
		}
		if len(made) > 0 && clock-made[0] < uint64(ticketsEvery.Milliseconds()) {
			return nil
		}
		var key [ticketSize]byte
		_, _ = rand.Read(key[:]) // never fails
		t.tickets.Put(tx, clock, s.seals.seal(key[:], ticketPurpose(clock)))
		keys = append([][ticketSize]byte{key}, keys...)
		for len(keys) > ticketsKept {
			t.tickets.Delete(tx, made[len(made)-1])
			keys, made = keys[:len(keys)-1], made[:len(made)-1]
		}
		return nil
	})
	return keys, err
}

func ticketPurpose(at uint64) string { return fmt.Sprintf("TLS ticket key of %d", at) }
