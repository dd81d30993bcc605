package durable

import (
	"bytes"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestSlots: whatever keys there are, alike at the beginning or not, long or
// short, each is found, where it is in the order, also in a part.
func TestSlots(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		begin := rapid.SampledFrom([]string{"", "a", "user-0000000", "\xff\xff\xff\xff\xff\xff\xff\xff\xff"})
		key := rapid.Custom(func(t *rapid.T) []byte {
			return append([]byte(begin.Draw(t, "begin")), rapid.SliceOfN(rapid.SampledFrom([]byte{0, 1, 255}), 0, 10).Draw(t, "rest")...)
		})
		var s slots
		var want [][]byte
		for range rapid.IntRange(0, 40).Draw(t, "count") {
			k := key.Draw(t, "key")
			i, found := s.search(k)
			j, there := slices.BinarySearchFunc(want, k, bytes.Compare)
			if i != j || found != there {
				t.Fatalf("%q of %q: %d, %v", k, want, i, found)
			}
			if !found {
				s.insert(i, &entry{data: k, keySize: uint32(len(k))})
				want = slices.Insert(want, j, k)
			}
		}
		i := rapid.IntRange(0, len(want)).Draw(t, "from")
		p := s.part(i, len(want))
		for _, k := range append(slices.Clone(want), key.Draw(t, "another")) {
			at, found := p.search(k)
			j, there := slices.BinarySearchFunc(want[i:], k, bytes.Compare)
			if at != j || found != there {
				t.Fatalf("%q of %q: %d, %v", k, want[i:], at, found)
			}
		}
	})
}
