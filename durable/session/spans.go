package session

import (
	"slices"
	"sort"
)

// span are the numbers from one up to another.
type span struct{ from, to uint64 }

// spans are a set of numbers: in order, with a gap between each two.
type spans []span

// after is the first span that ends at a number or behind it.
func (s spans) after(n uint64) int {
	return sort.Search(len(s), func(i int) bool { return s[i].to >= n })
}

func (s spans) has(n uint64) bool {
	i := s.after(n + 1)
	return i < len(s) && s[i].from <= n
}

func (s *spans) add(n uint64) {
	l := *s
	switch i := l.after(n); {
	case i < len(l) && l[i].from <= n && n < l[i].to:
	case i < len(l) && l[i].to == n:
		if l[i].to++; i+1 < len(l) && l[i+1].from == n+1 {
			l[i].to = l[i+1].to
			*s = slices.Delete(l, i+1, i+2)
		}
	case i < len(l) && l[i].from == n+1:
		l[i].from = n
	default:
		*s = slices.Insert(l, i, span{n, n + 1})
	}
}
