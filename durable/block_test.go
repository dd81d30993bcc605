package durable

import (
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestLayers: whatever is written into layers, a map that is written to in the
// same order holds the same, from any key on, and so does one block made of them.
func TestLayers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		keys := rapid.SliceOfN(rapid.String(), 1, 12).Draw(t, "keys")
		key := rapid.SampledFrom(keys)
		want := map[string]string{}
		var layers []layer // the newest first
		for range rapid.IntRange(1, 5).Draw(t, "layers") {
			f := &fresh{}
			for range rapid.IntRange(0, 12).Draw(t, "changes") {
				k, v := key.Draw(t, "key"), rapid.String().Draw(t, "value")
				deleted := rapid.Bool().Draw(t, "deleted")
				if delete(want, k); deleted {
					v = ""
				} else {
					want[k] = v
				}
				f.set(change{key: []byte(k), value: []byte(v), deleted: deleted})
			}
			var l layer = f
			if rapid.Bool().Draw(t, "packed") {
				b := flatten([]layer{f}, nil, nil, false)
				back, err := decodeBlock(b.data)
				if err != nil || !slices.Equal(back.places, b.places) {
					t.Fatalf("%v, %v is not %v", err, back, b)
				}
				l = back
			}
			layers = slices.Insert(layers, 0, l)
		}
		from, to := key.Draw(t, "from"), key.Draw(t, "to")
		flat := flatten(layers, nil, nil, true)
		part := flatten(layers, []byte(from), []byte(to), true)
		got := map[string]string{}
		last := ""
		merged(layers, nil, func(c change) bool {
			if string(c.key) < last {
				t.Fatalf("%q after %q", c.key, last)
			}
			if last = string(c.key); !c.deleted {
				got[last] = string(c.value)
			}
			return true
		})
		if !maps.Equal(got, want) {
			t.Fatalf("%q, not %q", got, want)
		}
		in := func(k string) bool { return k >= from && k < to }
		for _, c := range []struct {
			b    *block
			keep func(string) bool
		}{{flat, func(string) bool { return true }}, {part, in}} {
			n := 0
			for _, k := range keys {
				i, found := c.b.search([]byte(k))
				v, there := want[k]
				if there = there && c.keep(k); found != there || found && string(c.b.at(i).value) != v {
					t.Fatalf("%q: %v, not %v", k, found, there)
				}
			}
			for k := range want {
				if c.keep(k) {
					n++
				}
			}
			if c.b.len() != n {
				t.Fatalf("%d keys, not %d", c.b.len(), n)
			}
		}
	})
}

// FuzzDecodeBlock: whatever is taken for a block can be searched.
func FuzzDecodeBlock(f *testing.F) {
	f.Add([]byte{1, 'a', 2, 'b', 1, 'b', 0})
	f.Add([]byte{1, 'b', 0, 1, 'a', 0})
	f.Add([]byte{255, 255, 255, 255, 255, 255, 255, 255, 255, 1})
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := decodeBlock(data)
		if err != nil {
			return
		}
		for i := range b.len() {
			if j, found := b.search(b.at(i).key); !found || j != i {
				t.Fatalf("entry %d is found at %d", i, j)
			}
		}
	})
}
