package files

import (
	"fmt"
	"os"
	"testing"
	"time"
)

// nowhere takes contents and forgets them.
type nowhere struct{}

func (nowhere) Put(int64, []byte) error { return nil }
func (nowhere) Zero(int64, int64) error { return nil }

// BenchmarkFiles measures what a tree of many small files costs: the first
// time, while the program runs and in the freeze, and when nothing has changed.
func BenchmarkFiles(b *testing.B) {
	const n, perDir = 100_000, 500
	dir := b.TempDir()
	for i := range n {
		d := fmt.Sprintf("%s/%d", dir, i/perDir)
		if i%perDir == 0 {
			if err := os.Mkdir(d, 0o700); err != nil {
				b.Fatal(err)
			}
		}
		if err := os.WriteFile(fmt.Sprintf("%s/%d", d, i), []byte("a small file"), 0o600); err != nil {
			b.Fatal(err)
		}
	}
	time.Sleep(2 * settled)
	nothing := func() ([]Open, error) { return nil, nil }
	round := func(o Options, s Section) (x *Index, before, frozen time.Duration) {
		start := time.Now()
		ready, err := Prepare(o, nothing, s)
		if err != nil {
			b.Fatal(err)
		}
		before = time.Since(start)
		o.Prepared = ready
		start = time.Now()
		c, err := Take(o, s)
		if err != nil {
			b.Fatal(err)
		}
		defer c.Close()
		frozen = time.Since(start)
		x, _, err = c.Finish()
		if err != nil {
			b.Fatal(err)
		}
		return x, before, frozen
	}
	for b.Loop() {
		s := nowhere{}
		o := Options{Trees: []string{dir}}
		plain := time.Now()
		c, err := Take(o, nowhere{})
		if err != nil {
			b.Fatal(err)
		}
		c.Close()
		b.ReportMetric(time.Since(plain).Seconds(), "s-read-in-the-freeze")
		x, before, frozen := round(o, s)
		b.ReportMetric(before.Seconds(), "s-first-running")
		b.ReportMetric(frozen.Seconds(), "s-first-frozen")
		o.Last = x
		_, before, frozen = round(o, s)
		b.ReportMetric(before.Seconds(), "s-idle-running")
		b.ReportMetric(frozen.Seconds(), "s-idle-frozen")
	}
}
