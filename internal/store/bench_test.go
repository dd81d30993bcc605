package store

import (
	"math/rand/v2"
	"testing"

	"github.com/wakepoint/wakepoint/internal/disk"
)

const benchPages = 256 << 20 / PageSize

// fillRandom writes n incompressible bytes page by page.
func benchPut(b *testing.B, s *SectionWriter, p []byte) error {
	for i := 0; i < benchPages; i += 16 {
		for j := range 16 {
			p[j*PageSize] = byte(i)
			p[j*PageSize+1] = byte(i >> 8)
			p[j*PageSize+2] = byte(i >> 16)
		}
		if err := s.Put(int64(i)*PageSize, p); err != nil {
			return err
		}
	}
	return nil
}

func benchBuf() []byte {
	p := make([]byte, 16*PageSize)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range p {
		p[i] = byte(r.Uint32())
	}
	return p
}

// BenchmarkFull stores 256 MiB of which nothing is known.
func BenchmarkFull(b *testing.B) {
	w := newWorkload(b, disk.OS{})
	p := benchBuf()
	b.SetBytes(benchPages * PageSize)
	for b.Loop() {
		write(b, w, 0, false, func(s *SectionWriter) error { return benchPut(b, s, p) })
		b.StopTimer()
		_, err := w.Retain(1)
		must(b, err)
		b.StartTimer()
	}
}

// BenchmarkSame stores 256 MiB that the parent has already.
func BenchmarkSame(b *testing.B) {
	w := newWorkload(b, disk.OS{})
	p := benchBuf()
	g := write(b, w, 0, false, func(s *SectionWriter) error { return benchPut(b, s, p) }).Generation
	b.SetBytes(benchPages * PageSize)
	for b.Loop() {
		g = write(b, w, g, false, func(s *SectionWriter) error { return benchPut(b, s, p) }).Generation
	}
}

// BenchmarkScattered stores a change of 1 % of 256 MiB, scattered uniformly.
func BenchmarkScattered(b *testing.B) {
	w := newWorkload(b, disk.OS{})
	p := benchBuf()
	g := write(b, w, 0, false, func(s *SectionWriter) error { return benchPut(b, s, p) }).Generation
	r := rand.New(rand.NewPCG(3, 4))
	b.SetBytes(benchPages / 100 * PageSize)
	var bytes int64
	for b.Loop() {
		info := write(b, w, g, true, func(s *SectionWriter) error {
			for range benchPages / 100 {
				p[5]++
				p[6] = byte(r.Uint32())
				if err := s.Put(r.Int64N(benchPages)*PageSize, p[:PageSize]); err != nil {
					return err
				}
			}
			return nil
		})
		g = info.Generation
		bytes += info.NewBytes
		b.StopTimer()
		_, err := w.Retain(10)
		must(b, err)
		b.StartTimer()
	}
	b.ReportMetric(float64(bytes)/float64(b.N)/float64(benchPages/100*PageSize), "written/changed")
}

// BenchmarkRead reads 256 MiB back.
func BenchmarkRead(b *testing.B) {
	w := newWorkload(b, disk.OS{})
	p := benchBuf()
	g := write(b, w, 0, false, func(s *SectionWriter) error { return benchPut(b, s, p) }).Generation
	b.SetBytes(benchPages * PageSize)
	for b.Loop() {
		r, err := w.OpenGeneration(g)
		must(b, err)
		s, err := r.Section("mem")
		must(b, err)
		must(b, s.Each(0, 1<<52, func(off int64, p []byte) error { return nil }))
		must(b, r.Close())
	}
}
