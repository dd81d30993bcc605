// Package memory finds out which pages of a frozen address space must be
// read for a checkpoint.
//
// A Strategy answers that question; there are two. Full reads everything that
// is present. Incremental (userfaultfd write protection in asynchronous mode
// and the PAGEMAP_SCAN ioctl, Linux 6.7) reads what was written since the last
// look. Faster ones (a snapshot child, rounds of copying before the freeze)
// enter here as further strategies.
package memory

import (
	"cmp"
	"slices"
)

// Range is [Start, End), page-aligned.
type Range struct {
	Start, End uint64
}

// Len is the length in bytes.
func (r Range) Len() uint64 { return r.End - r.Start }

// Area is a mapping. If it is private its own pages belong to the image.
type Area struct {
	Range
	Track  bool // it may be registered for write tracking
	File   bool // a file lies under it: pages that are the file's are not its own
	Shared bool // its contents belong to an object: only its guard pages are looked for
}

// Found is what a look at an area found.
type Found struct {
	Present []Range // pages with contents of their own; all others are holes
	Fresh   []Range // of these, the ones that may differ from the last committed look
	Guards  []Range // guard pages (MADV_GUARD_INSTALL), where the kernel shows them
}

// Strategy decides what is read. The set of fresh pages belongs to the
// checkpoint for which it was taken: Committed gives it up, Abandoned joins it
// to the next.
type Strategy interface {
	// Look is called once per area while the space is frozen.
	Look(a Area) (Found, error)
	// Complete says whether Fresh is relative to a committed look. If not, all
	// that is present is fresh and an earlier generation is no base.
	Complete() bool
	// Copied makes the look that was just taken the base of the next one: the
	// caller copies what it found present. It is given up by Abandoned. False
	// when the strategy cannot; the look then counts for nothing.
	Copied() bool
	// Missed says what could not be copied: it is fresh in the next look.
	Missed([]Range)
	Committed()
	Abandoned()
	Close() error
}

// union merges sorted or unsorted ranges into sorted, disjoint ones.
func union(a, b []Range) []Range {
	if len(b) == 0 {
		return a
	}
	all := slices.Concat(a, b)
	slices.SortFunc(all, func(x, y Range) int {
		switch {
		case x.Start < y.Start:
			return -1
		case x.Start > y.Start:
			return 1
		}
		return 0
	})
	out := all[:1]
	for _, r := range all[1:] {
		l := &out[len(out)-1]
		if r.Start > l.End {
			out = append(out, r)
		} else if r.End > l.End {
			l.End = r.End
		}
	}
	return out
}

// intersect keeps what lies in both; both are sorted and disjoint.
func intersect(a, b []Range) []Range {
	var out []Range
	for i, j := 0, 0; i < len(a) && j < len(b); {
		r := Range{max(a[i].Start, b[j].Start), min(a[i].End, b[j].End)}
		if r.Start < r.End {
			out = append(out, r)
		}
		if a[i].End < b[j].End {
			i++
		} else {
			j++
		}
	}
	return out
}

// Gaps returns the parts of whole that sorted, disjoint ranges leave out.
func Gaps(whole Range, ranges []Range) []Range {
	var out []Range
	at := whole.Start
	for _, r := range ranges {
		if r.Start > at {
			out = append(out, Range{at, r.Start})
		}
		at = max(at, r.End)
	}
	if at < whole.End {
		out = append(out, Range{at, whole.End})
	}
	return out
}

// Sorted sorts disjoint ranges by address, in place.
func Sorted(r []Range) []Range {
	slices.SortFunc(r, func(a, b Range) int { return cmp.Compare(a.Start, b.Start) })
	return r
}
