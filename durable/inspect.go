package durable

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io/fs"
	"slices"

	"github.com/fxamacker/cbor/v2"

	"github.com/wakepoint/wakepoint/internal/disk"
	"github.com/wakepoint/wakepoint/internal/redo"
)

// Report says what a directory holds.
type Report struct {
	Identity     string       // that tells it from other databases
	Generations  []Generation // that it could be gone on from, the newest first
	Tables       []TableReport
	LogFrom      uint64  // position from which the log was read: that of the newest generation
	LogTo        uint64  // and where it ends
	Transactions int     // of the log that was read
	Undone       bool    // the log ends with work that was never acknowledged
	Damaged      []error // what cannot be read, each a *DamageError
}

// TableReport is what is known of a table without its type.
type TableReport struct {
	Name         string
	Keys, Values string // codecs
	Entries      int
	Bytes        int64 // of keys and values, as they are encoded
}

// Inspect reads a directory as a whole, and changes nothing. Of Options, Dir and
// FS count. What is damaged stands in the report; the rest is as if it were not
// there.
//
// Errors: ErrInUse when it is open, ErrForeign, ErrNewer, the context's and the
// file system's.
func Inspect(ctx context.Context, o Options) (*Report, error) {
	o, err := o.filled()
	if err != nil {
		return nil, err
	}
	lock, err := lockDir(o.FS, o.Dir, disk.Shared)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	own, err := readIdentity(o.FS, o.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrForeign
	} else if err != nil {
		return nil, err
	}
	db := newDB(o, own, lock)
	defer db.saved.close()
	r := &Report{Identity: hex.EncodeToString(own.id[:])}
	if err := db.inspect(ctx, r); err != nil {
		return nil, err
	}
	return r, nil
}

func (db *DB) inspect(ctx context.Context, r *Report) error {
	if err := db.ground(&Recovery{}, &r.Damaged); err != nil {
		return err
	}
	r.Generations = db.Generations()
	from := db.tree.applied
	end, torn, err := redo.Read(db.logOptions(), from, now, func(end redo.Position, record []byte) error {
		list, err := db.memory.parse(record)
		if err != nil {
			return err
		}
		r.Transactions++
		db.tree.grown(db.tree.apply(list, end))
		return ctx.Err()
	})
	err = logDamage(err)
	if damage := (*DamageError)(nil); errors.As(err, &damage) {
		r.Damaged = append(r.Damaged, err)
	} else if err != nil {
		return err
	}
	r.LogFrom, r.LogTo, r.Undone = uint64(from), uint64(end), torn
	list := db.saved.generations()
	_, _, err = redo.Read(db.logOptions(), oldestPosition(list), from, checkRecord)
	err = errors.Join(db.saved.others(list), db.saved.verify(ctx, list), logDamage(err), db.spoiled(), db.owner.check(db.o.FS, db.o.Dir))
	for _, e := range apart(err) {
		if !slices.ContainsFunc(r.Damaged, func(o error) bool { return o.Error() == e.Error() }) {
			r.Damaged = append(r.Damaged, e)
		}
	}
	return db.count(ctx, r)
}

// apart is the errors that were joined.
func apart(err error) (all []error) {
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range many.Unwrap() {
			all = append(all, apart(e)...)
		}
		return all
	}
	if err == nil {
		return nil
	}
	return []error{err}
}

// count counts what is in the tables.
func (db *DB) count(ctx context.Context, r *Report) error {
	at := map[uint32]*TableReport{}
	var order []uint32
	for _, l := range db.tree.leaves {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := db.load(l); err != nil {
			r.Damaged = append(r.Damaged, err)
			continue
		}
		merged(l.layers(now), nil, func(c change) bool {
			if c.deleted || len(c.key) < tablePrefix {
				return true
			}
			id := binary.BigEndian.Uint32(c.key)
			if id == catalog {
				var h header
				if err := cbor.Unmarshal(c.value, &h); err == nil {
					at[h.ID] = &TableReport{Name: string(c.key[tablePrefix:]), Keys: h.Keys, Values: h.Values}
					order = append(order, h.ID)
				}
				return true
			}
			if t := at[id]; t != nil {
				t.Entries++
				t.Bytes += int64(len(c.key) - tablePrefix + len(c.value))
			}
			return true
		})
		l.base, l.runs = nil, nil // it was counted
	}
	for _, id := range order {
		r.Tables = append(r.Tables, *at[id])
	}
	return nil
}
