package durable

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"reflect"

	"github.com/fxamacker/cbor/v2"
)

// Table is an ordered table of values by their keys. It is made once, given to
// Open, and used in the closures of Update and View. It holds the bytes that the
// codecs make: what Get returns is the caller's own, and what was put does not
// change with the caller's.
type Table[K, V any] struct {
	name   string
	keys   Codec[K]
	values Codec[V]
	err    error
}

// AnyTable is a Table of any type, or a Job.
type AnyTable interface {
	tableName() string
	// itself is what transactions use.
	itself() AnyTable
	// codecs are the names of those of keys and values.
	codecs() (keys, values string, err error)
}

// A TableOption changes what a table is made of.
type TableOption[K, V any] func(*Table[K, V])

// WithKeys gives a codec for keys. Their order is that of the encoded bytes.
func WithKeys[K, V any](c Codec[K]) TableOption[K, V] {
	return func(t *Table[K, V]) { t.keys, t.err = c, nil }
}

// WithValues gives a codec for values.
func WithValues[K, V any](c Codec[V]) TableOption[K, V] {
	return func(t *Table[K, V]) { t.values = c }
}

// NewTable returns a table of a name, which is what it is found by on the disk.
// Keys get the codec of KeyOf, values that of ValueOf, if no option says
// otherwise; Open says if there is none.
func NewTable[K, V any](name string, options ...TableOption[K, V]) *Table[K, V] {
	t := &Table[K, V]{name: name, values: ValueOf[V]()}
	t.keys, t.err = KeyOf[K]()
	for _, o := range options {
		o(t)
	}
	return t
}

func (t *Table[K, V]) tableName() string { return t.name }

func (t *Table[K, V]) itself() AnyTable { return t }

func (t *Table[K, V]) codecs() (keys, values string, err error) {
	if t.err != nil {
		return "", "", fmt.Errorf("durable: table %q: %w", t.name, t.err)
	}
	if t.keys == nil || t.values == nil {
		return "", "", fmt.Errorf("durable: table %q: a codec is nil", t.name)
	}
	return t.keys.Name(), t.values.Name(), nil
}

// Get returns the value of a key, and whether there is one.
func (t *Table[K, V]) Get(tx *Tx, k K) (v V, found bool) {
	tx.scratch = t.key(tx, tx.scratch[:0], k)
	b, found := tx.get(tx.scratch)
	if !found {
		return v, false
	}
	return t.value(tx, b), true
}

// Put sets the value of a key. What cannot be encoded, or is too large, ends the
// closure: Update returns the error, and nothing was changed.
func (t *Table[K, V]) Put(tx *Tx, k K, v V) {
	at := len(tx.arena)
	b := t.key(tx, tx.arena, k)
	end, id := len(b), binary.BigEndian.Uint32(b[at:])
	b, err := t.values.Append(b, v)
	if err == nil && !begins(b, at, end, id) {
		err = errAppend
	}
	if err != nil {
		tx.fail(fmt.Errorf("durable: table %q: a value: %w", t.name, err))
	}
	tx.arena = b
	tx.set(change{key: b[at:end:end], value: b[end:len(b):len(b)]})
}

// Delete takes out a key, if it is there.
func (t *Table[K, V]) Delete(tx *Tx, k K) {
	at := len(tx.arena)
	b := t.key(tx, tx.arena, k)
	tx.arena = b
	tx.set(change{key: b[at:len(b):len(b)], deleted: true})
}

// All yields all keys and values in the order of the encoded keys. The closure
// may change the table meanwhile: what is changed behind the present key is seen.
func (t *Table[K, V]) All(tx *Tx) iter.Seq2[K, V] {
	id := tx.table(t)
	return t.yield(tx, prefix(nil, id), prefix(nil, id+1))
}

// Range yields the keys k for which from <= k < to, as All does.
func (t *Table[K, V]) Range(tx *Tx, from, to K) iter.Seq2[K, V] {
	return t.yield(tx, t.key(tx, nil, from), t.key(tx, nil, to))
}

func (t *Table[K, V]) yield(tx *Tx, from, to []byte) iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		tx.table(t) // it may have ended
		tx.scan(from, to, func(c change) bool {
			k, err := t.keys.Decode(c.key[tablePrefix:])
			if err != nil {
				tx.fail(fmt.Errorf("durable: table %q: a key: %w", t.name, err))
			}
			return yield(k, t.value(tx, c.value))
		})
	}
}

// tablePrefix is how many bytes of a key say of which table it is.
const tablePrefix = 4

func prefix(dst []byte, id uint32) []byte { return binary.BigEndian.AppendUint32(dst, id) }

// key appends the key as it stands in the tree.
func (t *Table[K, V]) key(tx *Tx, dst []byte, k K) []byte {
	id := tx.table(t)
	b, err := t.keys.Append(prefix(dst, id), k)
	if err == nil && !begins(b, len(dst), len(dst)+tablePrefix, id) {
		err = errAppend
	}
	if err != nil {
		tx.fail(fmt.Errorf("durable: table %q: a key: %w", t.name, err))
	}
	return b
}

// errAppend says that a codec has not added to what it was given.
var errAppend = errors.New("what Append returns does not begin with what it was given")

// begins says whether a codec has kept what it was given, as far as that is quickly
// seen: so many bytes, with the number of a table where the key begins.
func begins(b []byte, at, end int, id uint32) bool {
	return len(b) >= end && binary.BigEndian.Uint32(b[at:]) == id
}

func (t *Table[K, V]) value(tx *Tx, b []byte) V {
	v, err := t.values.Decode(b)
	if err != nil {
		tx.fail(fmt.Errorf("durable: table %q: a value: %w", t.name, err))
	}
	return v
}

// catalog is the number of the table of tables. Its keys are names, its values
// CBOR.
const catalog uint32 = 0

// header is what stands in the catalog of a table.
type header struct {
	ID     uint32 `cbor:"1,keyasint"`
	Keys   string `cbor:"2,keyasint"` // codec
	Values string `cbor:"3,keyasint"` // codec
}

// check refuses what is no table, before anything is done.
func check(tables []AnyTable) error {
	given := map[string]bool{}
	for _, t := range tables {
		if v := reflect.ValueOf(t); !v.IsValid() || v.Kind() == reflect.Pointer && v.IsNil() {
			return errors.New("durable: a table is nil")
		}
		name := t.tableName()
		switch _, _, err := t.codecs(); {
		case err != nil:
			return err
		case name == "" || len(name) > KeyMax:
			return fmt.Errorf("durable: table %q: a name has 1 to %d bytes", name, KeyMax)
		case given[name]:
			return fmt.Errorf("durable: table %q was given twice", name)
		}
		given[name] = true
	}
	return nil
}

// register finds the tables in the catalog, and adds those that are new: the
// changes of a transaction. Tables that are there and are not given stay.
func (db *DB) register(tables []AnyTable) (writes, error) {
	var w writes
	known := map[string]header{}
	last := catalog
	end := prefix(nil, catalog+1)
	for from := prefix(nil, catalog); from != nil && bytes.Compare(from, end) < 0; {
		list, next, err := db.tree.scan(from, now, scanMost)
		if err != nil {
			return w, err
		}
		for _, c := range list {
			var h header
			if err := cbor.Unmarshal(c.value, &h); err != nil {
				return w, fmt.Errorf("durable: table %q: %w", c.key[tablePrefix:], err)
			}
			known[string(c.key[tablePrefix:])], db.names[h.ID] = h, string(c.key[tablePrefix:])
			last = max(last, h.ID)
		}
		from = next
	}
	for _, t := range tables {
		name := t.tableName()
		keys, values, err := t.codecs()
		if err != nil {
			return w, err
		}
		h, ok := known[name]
		switch {
		case ok && (h.Keys != keys || h.Values != values):
			return w, fmt.Errorf("%w: %q has %s keys and %s values, not %s and %s", ErrType, name, h.Keys, h.Values, keys, values)
		case !ok:
			last++
			h = header{last, keys, values}
			b, err := cbor.Marshal(h)
			if err != nil {
				return w, err
			}
			known[name], db.names[h.ID] = h, name
			w.set(change{key: append(prefix(nil, catalog), name...), value: b})
		}
		db.ids[t.itself()] = h.ID
	}
	return w, nil
}
