package main

import (
	"fmt"
	"os"
	"slices"
	"text/tabwriter"
	"time"
)

// median is the middle one, or the mean of the two in the middle.
func median(list []float64) float64 {
	if len(list) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(list))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

// quantile is of a sorted list.
func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

// table collects, for each row and column, one value a round.
type table struct {
	title   string
	columns []string
	rows    []string
	values  map[[2]string][]float64
}

func newTable(title string, columns ...string) *table {
	return &table{title: title, columns: columns, values: map[[2]string][]float64{}}
}

// add takes the values of a round, in the order of the columns.
func (t *table) add(row string, values ...float64) {
	if !slices.Contains(t.rows, row) {
		t.rows = append(t.rows, row)
	}
	for i, v := range values {
		at := [2]string{row, t.columns[i]}
		t.values[at] = append(t.values[at], v)
	}
}

func (t *table) median(row, column string) float64 {
	return median(t.values[[2]string{row, column}])
}

// print prints the medians, the least and the most behind those of ours.
func (t *table) print() {
	fmt.Printf("\n%s\n", t.title)
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, c := range t.columns {
		fmt.Fprintf(w, "\t%s", c)
	}
	fmt.Fprintln(w, "\t")
	for _, r := range t.rows {
		fmt.Fprintf(w, "%s", r)
		for _, c := range t.columns {
			v := t.values[[2]string{r, c}]
			switch {
			case len(v) == 0:
				fmt.Fprint(w, "\t-")
			case r == ours && len(v) > 1:
				fmt.Fprintf(w, "\t%s (%s-%s)", short(median(v)), short(slices.Min(v)), short(slices.Max(v)))
			default:
				fmt.Fprintf(w, "\t%s", short(median(v)))
			}
		}
		fmt.Fprintln(w, "\t")
	}
	_ = w.Flush()
}

// short prints three digits, and whole numbers above a hundred.
func short(v float64) string {
	if v >= 100 || v == 0 {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.3g", v)
}

// least and most find the rival that is hardest to beat: not ours, not the
// floor, and one that was measured.
func (t *table) least(column string) (row string, value float64) {
	return t.best(column, func(a, b float64) bool { return a < b })
}

func (t *table) most(column string) (row string, value float64) {
	return t.best(column, func(a, b float64) bool { return a > b })
}

func (t *table) best(column string, better func(a, b float64) bool) (row string, value float64) {
	for _, r := range t.rows {
		if r == ours || r == floorName || len(t.values[[2]string{r, column}]) == 0 {
			continue
		}
		if v := t.median(r, column); row == "" || better(v, value) {
			row, value = r, v
		}
	}
	return row, value
}

// atMost and atLeast print a number, the goal beside it, and whether it is met.
func atMost(what string, got, goal float64) { judge(what, got, goal, "at most", got <= goal) }

func atLeast(what string, got, goal float64) { judge(what, got, goal, "at least", got >= goal) }

func judge(what string, got, goal float64, bound string, met bool) {
	word := "NOT MET"
	if met {
		word = "met"
	}
	fmt.Printf("  %-58s %8.3g   goal: %s %.3g   %s\n", what, got, bound, goal, word)
}
