package durable

import (
	"bytes"
	"cmp"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// inOrder checks that a codec gives back what it got, and that its bytes are in
// the order of the keys.
func inOrder[K any](t *testing.T, gen *rapid.Generator[K], compare func(a, b K) int) {
	t.Helper()
	c, err := KeyOf[K]()
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		keys := [2]K{gen.Draw(t, "a"), gen.Draw(t, "b")}
		var p [2][]byte
		for i, k := range keys {
			b, err := c.Append([]byte("before"), k)
			if err != nil || string(b[:6]) != "before" {
				t.Fatalf("%v: %q, %v", k, b, err)
			}
			p[i] = b[6:]
			back, err := c.Decode(p[i])
			if err != nil || compare(back, k) != 0 {
				t.Fatalf("%v comes back as %v, %v", k, back, err)
			}
		}
		if got, want := bytes.Compare(p[0], p[1]), compare(keys[0], keys[1]); got != want {
			t.Fatalf("%v and %v: %d, not %d (%x, %x)", keys[0], keys[1], got, want, p[0], p[1])
		}
	})
}

type (
	userID string
	hash   []byte
	level  int8
)

func TestKeyOrder(t *testing.T) {
	t.Run("string", func(t *testing.T) { inOrder(t, rapid.String(), strings.Compare) })
	t.Run("named string", func(t *testing.T) {
		inOrder(t, rapid.Map(rapid.String(), func(s string) userID { return userID(s) }), func(a, b userID) int { return cmp.Compare(a, b) })
	})
	t.Run("bytes", func(t *testing.T) { inOrder(t, rapid.SliceOf(rapid.Byte()), bytes.Compare) })
	t.Run("named bytes", func(t *testing.T) {
		inOrder(t, rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) hash { return b }), func(a, b hash) int { return bytes.Compare(a, b) })
	})
	t.Run("int", func(t *testing.T) { inOrder(t, rapid.Int(), cmp.Compare[int]) })
	t.Run("int64", func(t *testing.T) { inOrder(t, rapid.Int64(), cmp.Compare[int64]) })
	t.Run("int16", func(t *testing.T) { inOrder(t, rapid.Int16(), cmp.Compare[int16]) })
	t.Run("named int8", func(t *testing.T) {
		inOrder(t, rapid.Map(rapid.Int8(), func(n int8) level { return level(n) }), cmp.Compare[level])
	})
	t.Run("uint32", func(t *testing.T) { inOrder(t, rapid.Uint32(), cmp.Compare[uint32]) })
	t.Run("uint64", func(t *testing.T) { inOrder(t, rapid.Uint64(), cmp.Compare[uint64]) })
	t.Run("float64", func(t *testing.T) { inOrder(t, rapid.Float64(), cmp.Compare[float64]) })
	t.Run("float32", func(t *testing.T) { inOrder(t, rapid.Float32(), cmp.Compare[float32]) })
	t.Run("time", func(t *testing.T) {
		instants := rapid.Custom(func(t *rapid.T) time.Time {
			return time.Unix(rapid.Int64Range(-1<<40, 1<<40).Draw(t, "s"), rapid.Int64Range(0, 1e9-1).Draw(t, "ns"))
		})
		inOrder(t, instants, time.Time.Compare)
	})
}

// TestKeyRefused: what has no order of its own, and bytes of another codec.
func TestKeyRefused(t *testing.T) {
	if _, err := KeyOf[struct{ A, B int }](); err == nil || !strings.Contains(err.Error(), "WithKeys") {
		t.Errorf("a struct is a key: %v", err)
	}
	if _, err := KeyOf[any](); err == nil {
		t.Error("an interface is a key")
	}
	for _, n := range []int{0, 1, 7, 9, 11, 13} {
		ints, _ := KeyOf[int64]()
		if _, err := ints.Decode(make([]byte, n)); err == nil {
			t.Errorf("%d bytes are an int64", n)
		}
		times, _ := KeyOf[time.Time]()
		if _, err := times.Decode(bytes.Repeat([]byte{0xff}, n)); err == nil {
			t.Errorf("%d bytes are an instant", n)
		}
	}
	small, _ := KeyOf[int8]()
	if _, err := small.Decode([]byte{1, 2}); err == nil {
		t.Error("two bytes are an int8")
	}
	floats, _ := KeyOf[float64]()
	minus, _ := floats.Append(nil, math.Copysign(0, -1))
	if plus, _ := floats.Append(nil, 0); !bytes.Equal(minus, plus) {
		t.Errorf("-0 is %x, 0 is %x", minus, plus)
	}
	b, err := floats.Append(nil, math.NaN())
	if err != nil {
		t.Fatal(err)
	}
	if k, err := floats.Decode(b); err != nil || !math.IsNaN(k) {
		t.Errorf("%v, %v", k, err)
	}
}

// TestValue: values come back, and belong to whoever decoded them.
func TestValue(t *testing.T) {
	type order struct {
		ID    int64             `cbor:"1,keyasint"`
		Items []string          `cbor:"2,keyasint"`
		At    time.Time         `cbor:"3,keyasint"`
		Notes map[string]string `cbor:"4,keyasint,omitempty"`
	}
	check := func(name string, got any, err error, want any) {
		t.Helper()
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	o := order{7, []string{"a", "b"}, time.Unix(1, 2).UTC(), map[string]string{"x": "y"}}
	oc := ValueOf[order]()
	b, err := oc.Append(nil, o)
	if err != nil {
		t.Fatal(err)
	}
	got, err := oc.Decode(b)
	check("struct", got, err, o)
	raw := ValueOf[[]byte]()
	b, _ = raw.Append(nil, []byte("bytes"))
	p, err := raw.Decode(b)
	b[0] = 'B'
	check("bytes", p, err, []byte("bytes"))
	for _, n := range []int{0, 1, 2, len(b) - 1} {
		if _, err := oc.Decode(b[:n]); err == nil {
			t.Errorf("%d bytes are an order", n)
		}
	}
	for _, c := range []struct{ name, want string }{{oc.Name(), "cbor/struct"}, {raw.Name(), "bytes"}, {ValueOf[string]().Name(), "string"}} {
		if c.name != c.want {
			t.Errorf("codec %q, not %q", c.name, c.want)
		}
	}
}
