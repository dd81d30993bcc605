package policy

import "time"

const (
	illAfter      = 3                // checks that fail in a row
	graceFresh    = time.Minute      // how long a program may take to start
	graceRestored = 10 * time.Second // a restored one goes on where it was
)

// Pulse follows what a health check says of a program since it was started or
// restored. The zero Pulse knows nothing.
type Pulse struct {
	Since  time.Time // from when on it is asked
	Fresh  bool      // it was started, not restored
	Well   bool      // it was well once
	Failed int       // checks in a row
}

// Answer notes an answer. ill says that the program is to count as crashed: it
// was well and has failed several checks in a row, or it was never well although
// it had time.
func (p Pulse) Answer(now time.Time, well bool) (next Pulse, ill bool) {
	if well {
		p.Well, p.Failed = true, 0
		return p, false
	}
	p.Failed++
	grace := graceRestored
	if p.Fresh {
		grace = graceFresh
	}
	return p, p.Failed >= illAfter && (p.Well || now.Sub(p.Since) >= grace)
}
