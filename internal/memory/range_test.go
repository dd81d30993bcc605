package memory

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/wakepoint/wakepoint/internal/abi"
)

// space is how many pages the sets of these tests are drawn from.
const space = 64

// draw makes a set of pages, in no order, with neighbours and overlaps.
func draw(r *rand.Rand) (list []Range, has [space]bool) {
	for range r.IntN(8) {
		from := r.IntN(space)
		to := from + 1 + r.IntN(min(8, space-from))
		list = append(list, Range{uint64(from) * abi.PageSize, uint64(to) * abi.PageSize})
		for i := from; i < to; i++ {
			has[i] = true
		}
	}
	return list, has
}

// pages turns ranges back into a set; they must be sorted and disjoint.
func pages(t *testing.T, list []Range) (has [space]bool) {
	t.Helper()
	at := uint64(0)
	for _, r := range list {
		if r.Start < at || r.End <= r.Start {
			t.Fatalf("not sorted and disjoint: %x", list)
		}
		at = r.End
		for p := r.Start; p < r.End; p += abi.PageSize {
			has[p/abi.PageSize] = true
		}
	}
	return has
}

// TestSets compares the arithmetic of ranges with that of sets of pages.
func TestSets(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 5000 {
		a, inA := draw(r)
		b, inB := draw(r)
		wasA, wasB := slices.Clone(a), slices.Clone(b)
		var either, both, neither [space]bool
		for i := range space {
			either[i], both[i], neither[i] = inA[i] || inB[i], inA[i] && inB[i], !inA[i] && !inB[i]
		}
		all := union(a, append(b, Range{0, abi.PageSize})) // never empty: union sorts then
		either[0], neither[0] = true, false
		if d := cmp.Diff(either, pages(t, all)); d != "" {
			t.Fatalf("union of %x and %x:\n%s", a, b, d)
		}
		if d := cmp.Diff(neither, pages(t, Gaps(Range{0, space * abi.PageSize}, all))); d != "" {
			t.Fatalf("gaps of %x:\n%s", all, d)
		}
		sa, sb := union(nil, a), union(nil, b)
		if d := cmp.Diff(both, pages(t, intersect(sa, sb))); d != "" {
			t.Fatalf("intersection of %x and %x:\n%s", a, b, d)
		}
		if d := cmp.Diff([][]Range{wasA, wasB}, [][]Range{a, b}); d != "" {
			t.Fatalf("arguments were changed:\n%s", d)
		}
	}
}

// TestWindows: what is protected are the pages that are there, and no hole for
// which the kernel would have to make a page table.
func TestWindows(t *testing.T) {
	const mib = 1 << 20
	for _, test := range []struct {
		name     string
		in, want []Range
	}{
		{"nothing", nil, nil},
		{"one", []Range{{mib, 2 * mib}}, []Range{{mib, 2 * mib}}},
		{"near", []Range{{0, 4096}, {8192, mib}, {2 * mib, 3 * mib}}, []Range{{0, 3 * mib}}},
		{"a page table apart", []Range{{0, mib}, {3 * mib, 4 * mib}}, []Range{{0, mib}, {3 * mib, 4 * mib}}},
		{"a reservation", []Range{{0, 4096}, {1 << 40, 1<<40 + 4096}}, []Range{{0, 4096}, {1 << 40, 1<<40 + 4096}}},
	} {
		before := slices.Clone(test.in)
		if d := cmp.Diff(test.want, windows(test.in)); d != "" {
			t.Errorf("%s:\n%s", test.name, d)
		}
		if d := cmp.Diff(before, test.in); d != "" {
			t.Errorf("%s: its argument was changed:\n%s", test.name, d)
		}
	}
}
