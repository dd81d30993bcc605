package durable

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/wakepoint/wakepoint/internal/redo"
)

const (
	// KeyMax is the size of the largest key as it is encoded, in bytes.
	KeyMax = 64 << 10
	// TransactionMax is how much the keys and values that a transaction changes may
	// take as they are encoded, with 12 bytes for each pair, in bytes.
	TransactionMax = 16 << 20
)

// Tx is a transaction, or a view. It is for the goroutine in which its closure
// runs, and ends with that: who uses it later panics. So does an iterator of All or
// Range that is gone on with later.
type Tx struct {
	db       *DB
	at       redo.Position // up to which it sees
	writable bool
	ended    bool
	failed   error // why the closure was unwound
	writes   writes
	changed  int    // how often
	scratch  []byte // for a key that is looked for
	arena    []byte // of what writes holds
}

// unwinding is what a transaction panics with to end its closure.
type unwinding struct{}

// fail ends the closure: the transaction returns the error, whatever becomes of
// the closure.
func (tx *Tx) fail(err error) {
	if tx.failed == nil {
		tx.failed = err
	}
	panic(unwinding{})
}

// call runs a closure. Its own panics are let through.
func (tx *Tx) call(f func(*Tx) error) (err error) {
	defer func() {
		tx.ended = true
		if tx.failed == nil {
			return
		}
		err = tx.failed
		switch p := recover().(type) {
		case nil, unwinding:
		default:
			panic(p)
		}
	}()
	return f(tx)
}

// live lets only an operation in the closure pass.
func (tx *Tx) live() {
	if tx.ended {
		panic("durable: a transaction is used after its closure has returned")
	}
	if tx.failed != nil {
		panic(unwinding{})
	}
}

// table is the number of a table, for an operation in the closure.
func (tx *Tx) table(t AnyTable) uint32 {
	tx.live()
	id, ok := tx.db.ids[t]
	if !ok {
		tx.fail(fmt.Errorf("durable: table %q was not given to Open", t.tableName()))
	}
	return id
}

// get looks for a key.
func (tx *Tx) get(key []byte) (value []byte, found bool) {
	if c, ok := tx.writes.get(key); ok {
		return c.value, !c.deleted
	}
	value, found, err := tx.db.tree.get(key, tx.at)
	if err != nil {
		tx.fail(err)
	}
	return value, found
}

// set makes a change, whose key and value are the transaction's.
func (tx *Tx) set(c change) {
	if !tx.writable {
		tx.fail(ErrReadOnly)
	}
	if n := len(c.key) - tablePrefix; n > KeyMax {
		tx.fail(fmt.Errorf("%w: key of %d bytes, at most %d", ErrTooLarge, n, KeyMax))
	}
	tx.writes.set(c)
	tx.changed++
	if len(tx.arena) > 2*tx.writes.bytes+arenaSlack { // most of it was replaced
		tx.arena = tx.writes.moved()
	}
	if n := tx.writes.bytes; n > TransactionMax {
		tx.fail(fmt.Errorf("%w: transaction of %d bytes, at most %d", ErrTooLarge, n, TransactionMax))
	}
}

// arenaSlack is how much of what a transaction has replaced it keeps, in bytes.
const arenaSlack = 64 << 10

const (
	scanFirst = 16  // keys that a scan looks ahead at first
	scanMost  = 512 // and later
)

// scan calls yield for the keys from one up to another, with what the
// transaction changed itself, also while the scan goes on.
func (tx *Tx) scan(from, to []byte, yield func(change) bool) {
	ahead := scanFirst
	for from != nil && bytes.Compare(from, to) < 0 {
		list, next, err := tx.db.tree.scan(from, tx.at, ahead)
		if err != nil {
			tx.fail(err)
		}
		if next == nil || bytes.Compare(next, to) > 0 {
			next = to
		}
		own, next := tx.writes.between(from, next, ahead)
		ahead = min(2*ahead, scanMost)
		changed, more := tx.changed, true
		merged([]layer{own, list}, from, func(c change) bool {
			if bytes.Compare(c.key, next) >= 0 {
				return false
			}
			if c.deleted {
				return true
			}
			if more = yield(c); more {
				tx.live() // what pulls may have kept this
			}
			if more && tx.changed != changed {
				next, ahead = append(slices.Clone(c.key), 0), scanFirst
				return false
			}
			return more
		})
		if !more {
			return
		}
		from = next
	}
}
