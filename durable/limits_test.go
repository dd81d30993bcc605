package durable

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/wakepoint/wakepoint/internal/disk/crashfs"
)

// TestEmpty: an empty key is a key, the first one, and an empty value a value;
// also after a start.
func TestEmpty(t *testing.T) {
	d := crashfs.New()
	strs, bytes := NewTable[string, string]("s"), NewTable[string, []byte]("b")
	for round := range 3 {
		db, _, err := Open(ctx, Options{Dir: "/db", FS: d, segment: 1 << 18}, strs, bytes)
		must(t, err)
		if round == 0 {
			must(t, db.Update(ctx, func(tx *Tx) error {
				if _, found := strs.Get(tx, ""); found {
					t.Error("an empty key is there before it was put")
				}
				strs.Put(tx, "", "")
				strs.Put(tx, "\x00", "zero")
				strs.Put(tx, "k", "")
				bytes.Put(tx, "nil", nil)
				bytes.Put(tx, "", []byte{})
				return nil
			}))
		}
		must(t, db.View(ctx, func(tx *Tx) error {
			var got []string
			for k, v := range strs.All(tx) {
				got = append(got, fmt.Sprintf("%q=%q", k, v))
			}
			for k, v := range bytes.All(tx) {
				got = append(got, fmt.Sprintf("%q=%q", k, v))
			}
			for k := range strs.Range(tx, "", "\x00") {
				got = append(got, fmt.Sprintf("%q", k))
			}
			for range strs.Range(tx, "", "") {
				t.Error("an empty range has a key")
			}
			for range strs.Range(tx, "z", "a") {
				t.Error("a range that ends before it begins has a key")
			}
			if want := `""="" "\x00"="zero" "k"="" ""="" "nil"="" ""`; strings.Join(got, " ") != want {
				t.Errorf("round %d: %s", round, got)
			}
			return nil
		}))
		if round == 1 {
			must(t, db.Checkpoint(ctx))
		}
		must(t, db.Close())
	}
	db, _, err := Open(ctx, Options{Dir: "/db", FS: d, segment: 1 << 18}, strs, bytes)
	must(t, err)
	defer db.Close()
	must(t, db.Update(ctx, func(tx *Tx) error {
		strs.Delete(tx, "")
		if _, found := strs.Get(tx, ""); found {
			t.Error("an empty key is there after it was deleted")
		}
		return nil
	}))
}

// limitRoom is that for the value of a key of one byte.
const limitRoom = TransactionMax - tablePrefix - changeOverhead - 1

// limits are transactions that do so many bytes more than they may, and how to
// see that one that did none has done all.
var limits = map[string]struct {
	do func(tx *Tx, table *Table[string, string], more int)
	is func(tx *Tx, table *Table[string, string]) bool
}{
	"key": {
		func(tx *Tx, table *Table[string, string], more int) {
			table.Put(tx, strings.Repeat("k", KeyMax+more), "v")
		},
		func(tx *Tx, table *Table[string, string]) bool {
			v, _ := table.Get(tx, strings.Repeat("k", KeyMax))
			return v == "v"
		},
	},
	"transaction": {
		func(tx *Tx, table *Table[string, string], more int) {
			table.Put(tx, "v", strings.Repeat("v", limitRoom+more))
		},
		func(tx *Tx, table *Table[string, string]) bool {
			v, _ := table.Get(tx, "v")
			return v == strings.Repeat("v", limitRoom)
		},
	},
	"transaction of many": {
		func(tx *Tx, table *Table[string, string], more int) {
			for i := range 16 {
				n := TransactionMax/16 - tablePrefix - changeOverhead - 1
				if i == 15 {
					n += more
				}
				table.Put(tx, string(rune('a'+i)), strings.Repeat("v", n))
			}
		},
		func(tx *Tx, table *Table[string, string]) bool {
			v, _ := table.Get(tx, "p")
			return len(v) == TransactionMax/16-13
		},
	},
	"a value that is put twice": {
		func(tx *Tx, table *Table[string, string], more int) {
			table.Put(tx, "v", strings.Repeat("u", limitRoom))
			table.Put(tx, "v", strings.Repeat("v", limitRoom+more))
		},
		func(tx *Tx, table *Table[string, string]) bool {
			v, _ := table.Get(tx, "v")
			return v == strings.Repeat("v", limitRoom)
		},
	},
}

// TestLimits: what is exactly at a limit is taken, and comes back; of what is one
// byte over it nothing is, nor of what else its transaction did.
func TestLimits(t *testing.T) {
	for name, c := range limits {
		t.Run(name, func(t *testing.T) {
			d := crashfs.New()
			db, table := onDisk(t, d)
			for _, more := range []int{1, 0} {
				err := db.Update(ctx, func(tx *Tx) error {
					c.do(tx, table, more)
					return nil
				})
				if errors.Is(err, ErrTooLarge) != (more > 0) || more == 0 && err != nil {
					t.Fatalf("%d over the limit: %v", more, err)
				}
				must(t, db.View(ctx, func(tx *Tx) error {
					n := 0
					for range table.All(tx) {
						n++
					}
					if (n == 0) != (more > 0) {
						t.Errorf("%d keys are there, %d over the limit", n, more)
					}
					return nil
				}))
			}
			must(t, db.Close())
			db, table = onDisk(t, d)
			must(t, db.View(ctx, func(tx *Tx) error {
				if !c.is(tx, table) {
					t.Error("it is not there any more")
				}
				return nil
			}))
		})
	}
}
