package session

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

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
//	        1     what became of it, as in a reply
//	              reply
const sumSize = 8

// slot is what is kept of a request.
type slot struct {
	seq  uint64
	sum  [sumSize]byte
	code code
	body []byte
}

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
	epoch  uint64
	sum    [sumSize]byte // of Body, and over HTTP of more
	stamp  *stamp        // of an answer over HTTP; nil: it came otherwise
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
// kept: the transaction must end with that, and settle keeps it.
func (t *Tables) do(tx *durable.Tx, r *Request, f func() ([]byte, error)) ([]byte, error) {
	if kept, found, err := t.find(tx, r); found || err != nil {
		return kept.body, errors.Join(err, kept.code.error(kept.body))
	}
	t.ending = t.ending[:0]
	reply, err := f()
	if err != nil {
		return nil, err
	}
	if !slices.Contains(t.ending, r.Session) {
		t.keep(tx, r, codeOK, reply)
	}
	return reply, nil
}

// settle keeps that a request was refused, unless it was done meanwhile, and
// returns what is kept.
func (t *Tables) settle(tx *durable.Tx, r *Request, why code, text []byte) (slot, error) {
	if kept, found, err := t.find(tx, r); found || err != nil {
		return kept, err
	}
	t.keep(tx, r, why, text)
	return slot{seq: r.Seq, code: why, body: text}, nil
}

// find looks for what is kept of a request.
func (t *Tables) find(tx *durable.Tx, r *Request) (kept slot, found bool, err error) {
	kept, found = t.replies.Get(tx, r.place())
	switch {
	case !found:
		return slot{}, false, t.open(tx, r)
	case kept.seq < r.Seq: // a session that has ended has no slots
		return slot{}, false, nil
	case kept.seq > r.Seq:
		r.stamp.set(stampStale)
		return slot{}, false, ErrStale
	case kept.sum != r.sum:
		r.stamp.set(stampReused)
		return slot{}, false, ErrReused
	}
	r.stamp.set(stampKept)
	return kept, true, nil
}

// open says whether a request that has no slot can be done: it may have had one, when
// it came, that is not needed any more, and its session may have ended since.
func (t *Tables) open(tx *durable.Tx, r *Request) error {
	switch now, found := t.sessions.Get(tx, r.Session); {
	case !found:
		return ErrNoSession
	case now.Ended:
		return ErrExpired
	case r.Seq < now.Floor:
		r.stamp.set(stampStale)
		return ErrStale
	}
	return nil
}

func (t *Tables) keep(tx *durable.Tx, r *Request, c code, body []byte) {
	r.stamp.set(stampKept)
	t.replies.Put(tx, r.place(), slot{seq: r.Seq, sum: r.sum, code: c, body: body})
}

func (r *Request) place() place { return place{r.Session, byte(r.Seq % r.window)} }

func sumOf(body []byte) [sumSize]byte {
	sum := sha256.Sum256(body)
	return [sumSize]byte(sum[:])
}

// place is a slot of a session: 8 bytes of the session and one of the slot.
type place struct {
	session uint64
	slot    byte
}

// all are the places of a session: from the first one up to the second one.
func all(id uint64) (from, to place) { return place{id, 0}, place{id + 1, 0} }

var errSlot = errors.New("session: malformed slot")

// placeCodec and slotCodec are those of the table of slots.
type placeCodec struct{}

func (placeCodec) Name() string { return "session place" }

func (placeCodec) Append(dst []byte, p place) ([]byte, error) {
	return append(binary.BigEndian.AppendUint64(dst, p.session), p.slot), nil
}

func (placeCodec) Decode(b []byte) (place, error) {
	if len(b) != 9 {
		return place{}, errSlot
	}
	return place{binary.BigEndian.Uint64(b), b[8]}, nil
}

type slotCodec struct{}

func (slotCodec) Name() string { return "session slot" }

func (slotCodec) Append(dst []byte, s slot) ([]byte, error) {
	dst = append(binary.AppendUvarint(dst, s.seq), s.sum[:]...)
	return append(append(dst, byte(s.code)), s.body...), nil
}

func (slotCodec) Decode(b []byte) (s slot, err error) {
	seq, n := binary.Uvarint(b)
	if n <= 0 || len(b) < n+sumSize+1 || code(b[n+sumSize]) > codeMost {
		return s, errSlot
	}
	return slot{seq, [sumSize]byte(b[n:]), code(b[n+sumSize]), slices.Clone(b[n+sumSize+1:])}, nil
}

// done says whether all requests below a floor were done. If not they are undone,
// and the client, which has replies to them, is to be told: their floor is not to be
// kept.
func (t *Tables) done(tx *durable.Tx, id uint64, r row, floor uint64) bool {
	last := make([]uint64, r.Window)
	for _, seq := range t.slots(tx, id) {
		last[seq%r.Window] = seq
	}
	for seq := floor - min(floor, r.Window); seq < floor; seq++ {
		if seq >= max(r.Floor, 1) && last[seq%r.Window] < seq {
			return false
		}
	}
	return true
}

// slots are the numbers of the last requests of all slots that have one.
func (t *Tables) slots(tx *durable.Tx, id uint64) (list []uint64) {
	from, to := all(id)
	for _, kept := range t.replies.Range(tx, from, to) {
		list = append(list, kept.seq)
	}
	return list
}
