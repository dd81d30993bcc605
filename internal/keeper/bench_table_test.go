package keeper

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// samples are measurements of one thing.
type samples []float64

func (s *samples) add(d time.Duration) { *s = append(*s, d.Seconds()) }

// median of nothing is 0.
func (s samples) median() float64 {
	if len(s) == 0 {
		return 0
	}
	c := slices.Sorted(slices.Values(s))
	if n := len(c); n%2 == 0 {
		return (c[n/2-1] + c[n/2]) / 2
	}
	return c[len(c)/2]
}

// span is "median (least - most)", "" when there is nothing.
func (s samples) span(unit func(float64) string) string {
	if len(s) == 0 {
		return ""
	}
	return fmt.Sprintf("%s (%s - %s)", unit(s.median()), unit(slices.Min(s)), unit(slices.Max(s)))
}

// ratio is the quotient of two medians, "" when there is none.
func ratio(a, b samples) string {
	if len(a) == 0 || b.median() == 0 {
		return ""
	}
	return fmt.Sprintf("%.3g", a.median()/b.median())
}

// ms prints seconds as milliseconds.
func ms(s float64) string {
	switch v := s * 1e3; {
	case v < 10:
		return fmt.Sprintf("%.2f", v)
	case v < 100:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.0f", v)
	}
}

// mib prints bytes as mebibytes.
func mib(n float64) string { return fmt.Sprintf("%.2f", n/(1<<20)) }

// table is printed with its columns aligned.
type table [][]string

func (t *table) row(cells ...string) { *t = append(*t, cells) }

func (t table) print() {
	var width []int
	for _, cells := range t {
		for i, c := range cells {
			if i == len(width) {
				width = append(width, 0)
			}
			width[i] = max(width[i], len(c))
		}
	}
	for _, cells := range t {
		var line strings.Builder
		for i, c := range cells {
			fmt.Fprintf(&line, "%-*s  ", width[i], c)
		}
		fmt.Println(strings.TrimRight(line.String(), " "))
	}
}
