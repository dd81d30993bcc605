package session

import (
	"encoding/binary"
	"fmt"

	"github.com/wakepoint/wakepoint/durable"
)

// Tables are what a server keeps in the database, beside the tables of the program
// whose sessions they are: All is given to Open together with those.
type Tables struct {
	sessions *durable.Table[uint64, row]
	replies  *durable.Table[place, slot]
	owed     *durable.Table[[]byte, []byte] // by session and number
	sent     *durable.Table[uint64, uint64] // number of a session's last delivery
	tickets  *durable.Table[uint64, []byte] // keys, sealed
	meta     *durable.Table[string, uint64]
}

// NewTables returns the tables of a database's sessions.
func NewTables() *Tables {
	return &Tables{
		sessions: durable.NewTable[uint64, row]("session"),
		replies:  durable.NewTable("session/replies", durable.WithKeys[place, slot](placeCodec{}), durable.WithValues[place, slot](slotCodec{})),
		owed:     durable.NewTable[[]byte, []byte]("session/owed"),
		sent:     durable.NewTable[uint64, uint64]("session/sent"),
		tickets:  durable.NewTable[uint64, []byte]("session/tickets"),
		meta:     durable.NewTable[string, uint64]("session/meta"),
	}
}

// All are the tables, for durable.Open.
func (t *Tables) All() []durable.AnyTable {
	return []durable.AnyTable{t.sessions, t.replies, t.owed, t.sent, t.tickets, t.meta}
}

// row is what is kept of a session.
type row struct {
	Principal string `cbor:"1,keyasint"`
	Secret    []byte `cbor:"2,keyasint"`           // sealed
	Window    uint64 `cbor:"3,keyasint"`           // never changed: slots depend on it
	Floor     uint64 `cbor:"4,keyasint,omitempty"` // requests below it have no slot any more
	Used      uint64 `cbor:"5,keyasint,omitempty"` // on the servers' clock: see expiry.go
	Ended     bool   `cbor:"6,keyasint,omitempty"`
	Epoch     uint64 `cbor:"7,keyasint,omitempty"` // of the principal: see Revocations

	clock uint64 // when it was read
}

// Keys of meta.
const (
	metaLast  = "last"  // number of the newest session
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
