package durable

import (
	"math"
	"runtime"
	"runtime/metrics"
)

// garbage counts the memory that a checkpoint lets go of. By itself the collector
// would let it grow until all memory has doubled, which is never needed as much as
// while all of a large state is put together anew. So it is asked for when there is too
// much, of all that the program has: that is no more than some 50 times for a state
// that was changed as a whole, and never for one that is a small part of a program.
// Where little is alive it does not matter, and transactions would wait for nothing.
type garbage struct {
	bytes   int64
	samples []metrics.Sample
	cycles  uint64 // of the collector
}

const (
	garbageShare = 50       // one part of so many of what is alive
	garbageLeast = 32 << 20 // bytes, from which on it is looked at
	liveLeast    = 512 << 20
)

// Names of package runtime/metrics.
const (
	metricLive = iota
	metricCycles
	metricPercent
	metricCount
)

func newGarbage() *garbage {
	g := &garbage{samples: make([]metrics.Sample, metricCount)}
	g.samples[metricLive].Name = "/gc/heap/live:bytes"
	g.samples[metricCycles].Name = "/gc/cycles/total:gc-cycles"
	g.samples[metricPercent].Name = "/gc/gogc:percent"
	return g
}

// add counts, and lets the collector work if it is time, and there is time.
func (g *garbage) add(bytes int, hurry bool) {
	if g.bytes += int64(bytes); g.bytes < garbageLeast || hurry {
		return
	}
	metrics.Read(g.samples)
	for _, s := range g.samples {
		if s.Value.Kind() != metrics.KindUint64 {
			return // of another version of Go
		}
	}
	if cycles := g.samples[metricCycles].Value.Uint64(); cycles != g.cycles {
		g.cycles, g.bytes = cycles, int64(bytes) // it has worked by itself
		return
	}
	live, percent := g.samples[metricLive].Value.Uint64(), g.samples[metricPercent].Value.Uint64()
	if live < liveLeast || uint64(g.bytes) < live/garbageShare || percent == math.MaxUint64 {
		return // or whoever has turned it off knows why
	}
	runtime.GC()
	metrics.Read(g.samples)
	g.cycles, g.bytes = g.samples[metricCycles].Value.Uint64(), 0
}
