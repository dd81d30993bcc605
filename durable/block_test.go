package durable

import (
	"bytes"
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
			f := &writes{}
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
			own, _ := f.between(nil, []byte("\U0010ffff\U0010ffff"), 1+f.count)
			var l layer = own
			if rapid.Bool().Draw(t, "packed") {
				b := flatten([]layer{l}, false)
				l = b
				if b != nil {
					back, err := decodeBlock(b.data, b.len())
					if err != nil || !slices.Equal(back.places, b.places) {
						t.Fatalf("%v, %v is not %v", err, back, b)
					}
					l = back
				}
			}
			layers = slices.Insert(layers, 0, l)
		}
		from := key.Draw(t, "from")
		flat := flatten(layers, true)
		below, part := flat.split([]byte(from))
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
		in := func(k string) bool { return k >= from }
		out := func(k string) bool { return k < from }
		for _, c := range []struct {
			b    *block
			keep func(string) bool
		}{{flat, func(string) bool { return true }}, {part, in}, {below, out}} {
			holds(t, c.b, keys, want, c.keep)
		}
	})
}

// holds checks that a block has just those keys of a map that it should.
func holds(t *rapid.T, b *block, keys []string, want map[string]string, keep func(string) bool) {
	n := 0
	for _, k := range keys {
		i, found := 0, false
		if b != nil {
			i, found = b.search([]byte(k))
		}
		v, there := want[k]
		if there = there && keep(k); found != there || found && string(b.at(i).value) != v {
			t.Fatalf("%q: %v, not %v", k, found, there)
		}
	}
	for k := range want {
		if keep(k) {
			n++
		}
	}
	if b.len() != n {
		t.Fatalf("%d keys, not %d", b.len(), n)
	}
}

// FuzzDecodeBlock: whatever is taken for a block can be searched.
func FuzzDecodeBlock(f *testing.F) {
	f.Add([]byte{1, 'k', 2, 'b', 2, 'k', 'a', 0})
	f.Add([]byte{1, 'k', 0, 1, 'a', 0})
	f.Add([]byte{255, 255, 255, 255, 255, 255, 255, 255, 255, 1})
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := decodeBlock(data, bytes.Count(data, []byte{'k'}))
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
