package store

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Generation numbers a generation of one workload, from 1. A number is never
// used again, also not after a failed commit or after the generation was
// forgotten. 0 is none.
type Generation uint64

// String returns "g412".
func (g Generation) String() string { return "g" + strconv.FormatUint(uint64(g), 10) }

// ParseGeneration reads "g412" or "412".
func ParseGeneration(s string) (Generation, error) {
	n, err := strconv.ParseUint(strings.TrimPrefix(s, "g"), 10, 64)
	if err != nil || n == 0 || n > generationMax {
		return 0, fmt.Errorf("generation %q: %w", s, ErrName)
	}
	return Generation(n), nil
}

// Info describes a committed generation.
type Info struct {
	Generation  Generation
	Parent      Generation // 0: none
	CommittedAt time.Time
	Pause       time.Duration
	NewBytes    int64            // written to packs for this generation
	TotalBytes  int64            // present in all sections
	Sections    map[string]int64 // of that, by name
	Tag         string
	Epoch       uint64 // of the writer: how often the workload had been locked for writing
	Meta        map[string]string
}
