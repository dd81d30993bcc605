package session

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/wakepoint/wakepoint/durable"
)

// Tables are what a server keeps in the database, beside the tables of the program
// whose sessions they are: All is given to Open together with those.
type Tables struct {
	sessions *durable.Table[uint64, row]
	replies  *durable.Table[place, slot]
	owed     *durable.Table[[]byte, []byte] // by session and number
	sent     *durable.Table[uint64, owes]
	tickets  *durable.Table[uint64, []byte] // keys, sealed
	meta     *durable.Table[string, uint64]

	ending []uint64 // sessions that were ended in what do has called; of whoever is in an Update
}

// NewTables returns the tables of a database's sessions.
func NewTables() *Tables {
	return &Tables{
		sessions: durable.NewTable("session", durable.WithValues[uint64](rowCodec{})),
		replies:  durable.NewTable("session/replies", durable.WithKeys[place, slot](placeCodec{}), durable.WithValues[place, slot](slotCodec{})),
		owed:     durable.NewTable[[]byte, []byte]("session/owed"),
		sent:     durable.NewTable[uint64, owes]("session/sent"),
		tickets:  durable.NewTable[uint64, []byte]("session/tickets"),
		meta:     durable.NewTable[string, uint64]("session/meta"),
	}
}

// All are the tables, for durable.Open.
func (t *Tables) All() []durable.AnyTable {
	return []durable.AnyTable{t.sessions, t.replies, t.owed, t.sent, t.tickets, t.meta}
}

// row is what is kept of a session. As a value of its table:
//
//	size
//	      uvarints: window, floor, used, ended (0 or 1), epoch, length of the principal
//	      principal
//	      secret, sealed
type row struct {
	Principal string
	Secret    []byte // sealed
	Window    uint64 // never changed: slots depend on it
	Floor     uint64 // requests below it have no slot any more
	Used      uint64 // on the servers' clock: see expiry.go
	Ended     bool
	Epoch     uint64 // of the principal: see Revocations

	clock uint64 // when it was read
}

var errRow = errors.New("session: malformed session")

// rowCodec is that of the table of sessions: every request reads one.
type rowCodec struct{}

func (rowCodec) Name() string { return "session row" }

func (rowCodec) Append(dst []byte, r row) ([]byte, error) {
	ended := uint64(0)
	if r.Ended {
		ended = 1
	}
	dst = numbers(dst, r.Window, r.Floor, r.Used, ended, r.Epoch, uint64(len(r.Principal)))
	return append(append(dst, r.Principal...), r.Secret...), nil
}

func (rowCodec) Decode(b []byte) (row, error) {
	in := &reader{b: b}
	r := row{Window: in.number(), Floor: in.number(), Used: in.number(), Ended: in.number() > 0, Epoch: in.number()}
	r.Principal = string(in.bytes(in.number()))
	r.Secret = slices.Clone(in.rest())
	if in.bad || r.Window == 0 || r.Window > WindowMax {
		return row{}, errRow
	}
	return r, nil
}

// The number of a session is how many there were, with a random number below it: a
// server that was rolled back does not give one that it gave before to another one.
const idRandom = 24 // bits

func newID(count uint64) uint64 { return count<<idRandom | rand.Uint64N(1<<idRandom) }

// why says why there is no session of a number.
func (t *Tables) why(tx *durable.Tx, id uint64) code {
	count := id >> idRandom
	if last, _ := t.meta.Get(tx, metaLast); count > last {
		return codeBehind
	}
	for range t.sessions.Range(tx, count<<idRandom, (count+1)<<idRandom) {
		return codeBehind // it was given to another one
	}
	return codeUnknown
}

// Keys of meta.
const (
	metaLast  = "last"  // how many sessions there were
	metaClock = "clock" // how long servers have run
	metaSwept = "swept" // when sessions were last looked at, by that clock
)

// purpose is what the secret of a session is sealed for.
func purpose(id uint64) string { return fmt.Sprintf("secret of session %d", id) }

// owedKey is where a delivery is kept until it is acknowledged: 8 bytes of the
// session and 8 of the number.
func owedKey(id, number uint64) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(make([]byte, 0, 16), id), number)
}

func owedNumber(key []byte) uint64 { return binary.BigEndian.Uint64(key[8:]) }
