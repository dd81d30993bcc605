package durable

import (
	"context"
	"encoding/binary"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wakepoint/wakepoint/internal/redo"
)

// pacer says when a checkpoint is due: when to replay the log would take a share
// of the budget; and it holds back transactions when a checkpoint that is being
// made would come too late.
type pacer struct {
	due    chan struct{} // holds one
	budget time.Duration // for the log

	mu      sync.Mutex // guards the rest
	cost    rates
	known   bool   // cost was measured when the log was replayed
	since   amount // in the log since the last checkpoint's instant
	before  amount // and before that, as long as the checkpoint is not durable
	saving  bool
	tight   atomic.Bool   // transactions are held back
	waiting bool          // for a view: holding back would not help
	failed  bool          // the last one did: the same
	eased   chan struct{} // closed when something was
}

// amount is of work in the log.
type amount struct{ changes, bytes int64 }

// rates are what the replay of an amount takes.
type rates struct{ change, byte float64 } // nanoseconds

func (r rates) of(a amount) time.Duration {
	return time.Duration(r.change*float64(a.changes) + r.byte*float64(a.bytes))
}

const (
	dueShare  = 3 // one part of so many of the budget: a checkpoint begins
	holdShare = 2 // transactions are held back
	dueAfter  = time.Minute
)

// What a replay takes as long as it was not measured.
const (
	changeCost = 4000
	byteCost   = 10
	measurable = 20000 // changes, from which on a replay is a measure
)

// newPacer begins with what is in the log, and what its replay took.
func newPacer(budget time.Duration, log amount, took time.Duration) *pacer {
	p := &pacer{due: make(chan struct{}, 1), budget: budget, cost: rates{changeCost, byteCost}, since: log, eased: make(chan struct{})}
	if log.changes >= measurable {
		p.cost, p.known = p.cost.fitted(log, took), true
	}
	return p
}

// fitted is rates by which an amount takes what it took.
func (r rates) fitted(a amount, took time.Duration) rates {
	f := min(max(float64(took)/float64(r.of(a)), 0.1), 10)
	return rates{r.change * f, r.byte * f}
}

const (
	trialParts = 3
	trials     = 4000 // records that are replayed for a measure
	trialSize  = 128  // of their values, in bytes
	trialTimes = 4    // as long a replay takes: the tree is larger, and nothing is in the caches
)

// measure finds out what a replay takes on this machine, if that of the log was
// too short to say.
func (p *pacer) measure() {
	if p.known {
		return
	}
	var w writes
	w.set(change{key: make([]byte, 16), value: make([]byte, trialSize)})
	var m memory
	record, _ := m.record(&w)
	best := time.Hour // of what others on the machine did not disturb
	for range trialParts {
		t := tree{leaves: []*leaf{{loaded: true}, {low: []byte{0}, loaded: true}}, load: func(*leaf) error { return nil }}
		began := time.Now()
		for i := range uint64(trials) {
			b := slices.Clone(record)
			binary.BigEndian.PutUint64(b[4:], i*0x9e3779b97f4a7c15) // scattered
			list, err := m.parse(b)
			if err != nil {
				return // cannot be: it was made here
			}
			t.apply(list, redo.Position(i))
		}
		best = min(best, time.Since(began))
	}
	cost := p.cost.fitted(amount{trials, int64(trials * len(record))}, trialTimes*best)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cost = cost
}

func (p *pacer) add(b amount) time.Duration {
	p.since.changes += b.changes
	p.since.bytes += b.bytes
	return p.replay()
}

// replay is what the log would take now: mu is held.
func (p *pacer) replay() time.Duration {
	return p.cost.of(amount{p.since.changes + p.before.changes, p.since.bytes + p.before.bytes})
}

// wrote counts a transaction.
func (p *pacer) wrote(changes, bytes int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch took := p.add(amount{int64(changes), int64(bytes)}); {
	case p.saving:
		p.tight.Store(p.late() > 0)
	case took > p.budget/dueShare:
		p.poke()
	}
}

func (p *pacer) poke() {
	select {
	case p.due <- struct{}{}:
	default:
	}
}

// admit holds a transaction back when the log is too long for the budget and
// will be shorter soon: the longer it is, the more.
func (p *pacer) admit(ctx context.Context) error {
	if !p.tight.Load() {
		return nil
	}
	p.mu.Lock()
	late := p.late()
	eased := p.eased
	p.mu.Unlock()
	if late == 0 {
		return nil
	}
	timer := time.NewTimer(late)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-eased:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// late is how long a transaction is held back: a millisecond at first, and a
// second where the log is as long as the budget. mu is held.
func (p *pacer) late() time.Duration {
	hold := p.budget / holdShare
	if !p.saving || p.waiting || p.failed || hold <= 0 || p.replay() < hold {
		return 0
	}
	over := float64(p.replay()-hold) / float64(p.budget-hold)
	return time.Duration(math.Pow(1000, min(over, 1)) * float64(time.Millisecond))
}

// hurry says that the log is on its way to where transactions are held back.
func (p *pacer) hurry() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.replay() > (p.budget/dueShare+p.budget/holdShare)/2
}

// begin says that a checkpoint has its instant now.
func (p *pacer) begin() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.saving = true
	select {
	case <-p.due:
	default:
	}
	p.before.changes += p.since.changes
	p.before.bytes += p.since.bytes
	p.since = amount{}
	p.tight.Store(p.late() > 0)
}

// end says what became of it.
func (p *pacer) end(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.saving, p.failed = false, err != nil; err == nil {
		p.before = amount{}
	}
	p.ease()
}

func (p *pacer) stuck(yes bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waiting = yes
	p.ease()
}

func (p *pacer) ease() {
	p.tight.Store(p.late() > 0)
	close(p.eased)
	p.eased = make(chan struct{})
}
