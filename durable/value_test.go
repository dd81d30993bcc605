package durable

import (
	"bytes"
	"fmt"
	"io"
	"math/big"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// list is a type that is as deep as one likes.
type list struct {
	N    int
	Next *list
	Many map[string]list
}

// chain is so many lists, one in the other.
func chain(n int) *list {
	var l *list
	for range n {
		l = &list{N: n, Next: l}
	}
	return l
}

// user has a field of each kind.
type user struct {
	Name  string
	Blob  []byte
	Words map[string]string
	Nums  map[int16][]uint64
	Fix   [2]float32
	On    *bool
	Deep  [][]string `json:"deep"`
}

// loose is what Go does not know the type of.
type loose struct {
	Any any
	At  time.Time
	Big *big.Int
	To  io.Reader
}

// strange draws strings of any bytes.
var strange = rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 6), func(b []byte) string { return string(b) })

// given puts values into a table, and looks whether each that was taken is given
// back, by Get and by All.
func given[V any](t *testing.T, gen *rapid.Generator[V], same func(a, b V) bool) {
	t.Helper()
	table := NewTable[int, V]("values")
	db, _, err := Open(ctx, Options{Dir: t.TempDir(), segment: 1 << 18}, table)
	must(t, err)
	defer db.Close()
	taken, refused := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		v := gen.Draw(t, "value")
		if err := db.Update(ctx, func(tx *Tx) error { table.Put(tx, 1, v); return nil }); err != nil {
			refused++
			return
		}
		taken++
		err := db.View(ctx, func(tx *Tx) error {
			got, found := table.Get(tx, 1)
			if !found || same != nil && !same(got, v) {
				t.Errorf("%#v comes back as %#v", v, got)
			}
			for range table.All(tx) {
			}
			return nil
		})
		if err != nil {
			t.Fatalf("%#v was taken: %v", v, err)
		}
	})
	if t.Logf("%d taken, %d refused", taken, refused); taken == 0 {
		t.Error("nothing is taken")
	}
}

// TestGivenBack: what Put takes, Get gives back.
func TestGivenBack(t *testing.T) {
	t.Run("struct", func(t *testing.T) {
		if !ValueOf[user]().(cborValue[user]).sure {
			t.Error("each one is decoded when it is put")
		}
		given(t, rapid.Custom(func(t *rapid.T) user {
			u := user{Name: strange.Draw(t, "name"), Blob: rapid.SliceOf(rapid.Byte()).Draw(t, "blob"),
				Words: rapid.MapOf(strange, strange).Draw(t, "words"), Nums: rapid.MapOf(rapid.Int16(), rapid.SliceOf(rapid.Uint64())).Draw(t, "nums"),
				Fix: [2]float32{rapid.Float32().Draw(t, "float"), 1}, Deep: rapid.SliceOf(rapid.SliceOf(strange)).Draw(t, "deep")}
			if rapid.Bool().Draw(t, "on") {
				u.On = new(bool)
			}
			return u
		}), func(a, b user) bool { return reflect.DeepEqual(a, b) })
	})
	t.Run("deep", func(t *testing.T) {
		given(t, rapid.Map(rapid.IntRange(0, 300), func(n int) list { return list{Next: chain(n), Many: map[string]list{"\xe9": {N: n}}} }),
			func(a, b list) bool { return reflect.DeepEqual(a, b) })
	})
	t.Run("loose", func(t *testing.T) {
		given(t, rapid.Custom(func(t *rapid.T) loose {
			var any any = strange.Draw(t, "any")
			for range rapid.IntRange(0, 50).Draw(t, "depth") {
				any = []interface{}{any, map[string]interface{}{strange.Draw(t, "key"): any}}[1]
			}
			l := loose{Any: any, At: time.Unix(rapid.Int64Range(-1<<36, 1<<39).Draw(t, "at"), 7).UTC(), Big: big.NewInt(rapid.Int64().Draw(t, "big"))}
			if rapid.IntRange(0, 3).Draw(t, "to") == 0 {
				l.To = strings.NewReader("text")
			}
			return l
		}), func(a, b loose) bool { return a.At.Equal(b.At) && a.Big.Cmp(b.Big) == 0 })
	})
	t.Run("keys", func(t *testing.T) {
		given(t, rapid.Map(rapid.IntRange(0, 4), func(n int) map[any]int {
			return map[any]int{[]any{1, "\xff", [2]int{1, 2}, struct{ A int }{3}, 1.5}[n]: n}
		}), nil)
	})
}

// TestRefused: what could not be read again is refused, by name, and nothing was
// changed.
func TestRefused(t *testing.T) {
	table := NewTable[string, loose]("loose")
	db, _, err := Open(ctx, Options{Dir: t.TempDir(), segment: 1 << 18}, table)
	must(t, err)
	defer db.Close()
	for name, v := range map[string]loose{
		"interface": {To: new(bytes.Buffer)},
		"year":      {At: time.Date(12026, 1, 1, 0, 0, 0, 0, time.UTC)},
	} {
		err := db.Update(ctx, func(tx *Tx) error { table.Put(tx, name, v); return nil })
		if err == nil || !strings.Contains(fmt.Sprint(err), `durable: table "loose": a value: `) {
			t.Errorf("%s: %v", name, err)
		}
	}
	must(t, db.View(ctx, func(tx *Tx) error {
		for k := range table.All(tx) {
			t.Errorf("%s is there", k)
		}
		return nil
	}))
}
