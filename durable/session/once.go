package session

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"github.com/wakepoint/wakepoint/durable"
)

// A session has as many slots as its window has requests. The request with number
// n is of slot n modulo the window, which keeps the reply of the last one. A
// client sends n only when it has the replies of all up to n less the window, so
// that nobody needs a reply any more that is written over. (RIFL, SOSP 2015,
// section 3, has records with lists of what is acknowledged; the slots need none.)
//
// The value of a slot:
//
//	offset  size
//	0             uvarint: number of the request
//	        8     beginning of the SHA-256 of its body
//	              reply
const sumSize = 8

// WindowMax is how many requests of a session can be in flight at most.
const WindowMax = 256

// Request is a request that a handler is to do.
type Request struct {
	Session   uint64 // number of the session
	Principal string
	Seq       uint64 // number in the session, from 1
	Body      []byte

	floor  uint64
	window uint64
}

// check says whether the numbers of a request can be. floor is the highest that
// was heard of.
func (r *Request) check(floor uint64) error {
	switch {
	case r.Seq == 0 || r.floor == 0 || r.floor > r.Seq:
		return fmt.Errorf("%w: request %d with floor %d", ErrProtocol, r.Seq, r.floor)
	case r.Seq-r.floor >= r.window:
		return fmt.Errorf("%w: request %d is outside the window of %d behind %d", ErrProtocol, r.Seq, r.window, r.floor)
	case r.Seq < floor:
		return ErrStale
	}
	return nil
}

// do does a request once: f runs, and its reply is kept in the same transaction,
// or else the reply is the one that is kept. When f returns an error nothing is
// kept: the transaction must end with that.
func (t *Tables) do(tx *durable.Tx, r *Request, f func() ([]byte, error)) ([]byte, error) {
	sum := sha256.Sum256(r.Body)
	key := slotKey(r.Session, r.Seq%r.window)
	if kept, found := t.replies.Get(tx, key); found {
		seq, sumKept, reply, err := parseSlot(kept)
		switch {
		case err != nil:
			return nil, err
		case seq > r.Seq:
			return nil, ErrStale
		case seq == r.Seq && !bytes.Equal(sumKept, sum[:sumSize]):
			return nil, ErrReused
		case seq == r.Seq:
			return reply, nil
		}
	}
	reply, err := f()
	if err != nil {
		return nil, err
	}
	kept := binary.AppendUvarint(make([]byte, 0, binary.MaxVarintLen64+sumSize+len(reply)), r.Seq)
	t.replies.Put(tx, key, append(append(kept, sum[:sumSize]...), reply...))
	return reply, nil
}

func parseSlot(b []byte) (seq uint64, sum, reply []byte, err error) {
	seq, n := binary.Uvarint(b)
	if n <= 0 || len(b) < n+sumSize {
		return 0, nil, nil, fmt.Errorf("session: malformed slot")
	}
	return seq, b[n : n+sumSize], b[n+sumSize:], nil
}

// slots are the numbers of the last requests of all slots that have one.
func (t *Tables) slots(tx *durable.Tx, id uint64) (list []uint64, err error) {
	for _, kept := range t.replies.Range(tx, slotKey(id, 0), slotKey(id+1, 0)) {
		seq, _, _, err := parseSlot(kept)
		if err != nil {
			return nil, err
		}
		list = append(list, seq)
	}
	return list, nil
}
