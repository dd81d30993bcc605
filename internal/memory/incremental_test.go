package memory

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestDirtySets: the set of a look belongs to its checkpoint until that is
// committed; whatever became of it, no written page is ever forgotten.
func TestDirtySets(t *testing.T) {
	a, b, c := Range{0x1000, 0x2000}, Range{0x2000, 0x3000}, Range{0x8000, 0x9000}
	look := func(r ...Range) func(*Incremental) { return func(m *Incremental) { m.taken = append(m.taken, r...) } }
	for _, test := range []struct {
		name         string
		steps        []func(*Incremental)
		base, copied bool
		pending      []Range
	}{
		{"committed", []func(*Incremental){look(a, c), (*Incremental).Committed}, true, false, nil},
		{"abandoned", []func(*Incremental){look(c, a), (*Incremental).Abandoned}, false, false, []Range{a, c}},
		{"abandoned twice", []func(*Incremental){look(a, c), (*Incremental).Abandoned, look(b), (*Incremental).Abandoned},
			false, false, []Range{{0x1000, 0x3000}, c}},
		{"committed after abandoned", []func(*Incremental){look(a), (*Incremental).Abandoned, look(b), (*Incremental).Committed},
			true, false, nil},
		{"abandoned after committed", []func(*Incremental){look(a), (*Incremental).Committed, look(b), (*Incremental).Abandoned},
			true, false, []Range{b}},
		{"copied beforehand", []func(*Incremental){look(a), copyAll, look(b)}, false, true, nil},
		{"copied, some missed", []func(*Incremental){look(a, c), copyAll, missed(c)}, false, true, []Range{c}},
		{"copied and abandoned", []func(*Incremental){look(a, c), copyAll, missed(c), look(b), (*Incremental).Abandoned},
			false, false, []Range{b, c}},
		{"copied and committed", []func(*Incremental){look(a), copyAll, look(b), (*Incremental).Committed}, true, false, nil},
		{"a base is no copy", []func(*Incremental){look(a), (*Incremental).Committed, look(b), copyAll, (*Incremental).Abandoned},
			true, false, []Range{b}},
	} {
		m := &Incremental{}
		for _, f := range test.steps {
			f(m)
		}
		if d := cmp.Diff(test.pending, m.pending); d != "" {
			t.Errorf("%s: pending:\n%s", test.name, d)
		}
		if m.base != test.base || m.copied != test.copied {
			t.Errorf("%s: base %v, copied %v", test.name, m.base, m.copied)
		}
	}
}

func copyAll(m *Incremental) { m.Copied() }

func missed(r ...Range) func(*Incremental) { return func(m *Incremental) { m.Missed(r) } }
