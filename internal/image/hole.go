package image

import (
	"cmp"
	"slices"

	"github.com/wakepoint/wakepoint/internal/abi"
)

// holeStep is what a hole's address is a multiple of, unless nothing lies
// below it.
const holeStep = 1 << 24

// Hole finds size bytes from at on that no area of the tree touches, in any of
// its address spaces.
func (t *Tree) Hole(at, size abi.Addr) abi.Addr {
	var taken []Area
	for _, s := range t.Spaces {
		taken = append(taken, s.Areas...)
	}
	slices.SortFunc(taken, func(a, b Area) int { return cmp.Compare(a.Start, b.Start) })
	for _, a := range taken {
		if a.End <= at {
			continue
		}
		if a.Start >= at+size {
			break
		}
		at = (a.End + holeStep - 1) &^ (holeStep - 1)
	}
	return at
}
