package redo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/wakepoint/wakepoint/internal/disk"
)

// spare is a segment that was made beforehand.
type spare struct {
	file   disk.File
	number uint64
	room   int64
}

// pool makes segments before they are needed, of files that are not needed any
// more where there are some.
type pool struct {
	o    Options
	wake chan struct{} // holds one: there is something to do
	end  chan struct{} // closed to end the filler
	over chan struct{} // closed when it has ended

	mu      sync.Mutex
	ready   []spare
	old     []uint64 // files that can be used again
	large   int64    // room of one that is wanted besides; 0: none
	next    uint64   // number of the next one
	err     error    // why the last one could not be made; nil: it could
	changed chan struct{}
}

func newPool(o Options, next uint64, old []uint64) *pool {
	p := &pool{o: o, wake: make(chan struct{}, 1), end: make(chan struct{}), over: make(chan struct{}),
		next: next, old: old, changed: make(chan struct{})}
	go p.fill()
	return p
}

// fill makes segments until the pool is closed.
func (p *pool) fill() {
	defer close(p.over)
	retry := time.NewTimer(time.Hour)
	defer retry.Stop()
	for {
		for p.step() {
			select {
			case <-p.end:
				return
			default:
			}
		}
		retry.Reset(again)
		select {
		case <-p.end:
			return
		case <-p.wake:
		case <-retry.C:
		}
	}
}

// step makes one segment, if one is wanted, and reports whether it could.
func (p *pool) step() bool {
	p.mu.Lock()
	room := p.o.Room
	if p.large > room {
		room = (p.large + pageSize - 1) &^ (pageSize - 1) // whole pages are written
	} else if len(p.ready) >= spares {
		p.drop()
		p.mu.Unlock()
		return false
	}
	number, again := p.next, uint64(0)
	p.next++
	if len(p.old) > 0 && room == p.o.Room {
		again, p.old = p.old[0], p.old[1:]
	}
	p.mu.Unlock()

	var f disk.File
	var err error
	if again != 0 {
		f, err = reuseSegment(p.o.FS, p.o.Dir, again, number, room)
		if errors.Is(err, errSize) {
			err = p.o.FS.Remove(segmentName(p.o.Dir, again))
		}
	}
	if f == nil && err == nil {
		f, err = makeSegment(p.o.FS, p.o.Dir, number, room, p.rest)
	}

	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err = err; err == nil {
		p.ready = append(p.ready, spare{f, number, room})
		if room >= p.large {
			p.large = 0
		}
	}
	close(p.changed)
	p.changed = make(chan struct{})
	return err == nil
}

// rest leaves the disk to the log for as long as it was kept busy, unless the
// log waits for a segment, or would soon.
func (p *pool) rest(took time.Duration) {
	p.mu.Lock()
	hurry := len(p.ready) == 0
	p.mu.Unlock()
	if !hurry {
		time.Sleep(took)
	}
}

// drop removes files that nobody will need: mu is held.
func (p *pool) drop() {
	for _, n := range p.old {
		_ = p.o.FS.Remove(segmentName(p.o.Dir, n)) // it is found again at the next start
	}
	p.old = nil
}

func (p *pool) poke() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// take takes a segment with so much room, and waits for it as long as it can
// be made.
func (p *pool) take(room int64) (spare, error) {
	for {
		p.mu.Lock()
		for i, s := range p.ready {
			if s.room >= room {
				p.ready = slices.Delete(p.ready, i, i+1)
				p.mu.Unlock()
				p.poke()
				return s, nil
			}
		}
		if room > p.o.Room {
			p.large = max(p.large, room)
		}
		err, changed := p.err, p.changed
		p.mu.Unlock()
		if err != nil {
			return spare{}, noSegment(err)
		}
		p.poke()
		select {
		case <-changed:
		case <-p.end:
			return spare{}, ErrClosed
		}
	}
}

// noSegment says why no segment could be made. Where nothing may be written more
// room does not help.
func noSegment(err error) error {
	if errors.Is(err, syscall.EROFS) || errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("durable: make a segment of the log: %w", err)
	}
	return fmt.Errorf("%w: %w", ErrFull, err)
}

// fits says whether a frame of so much room will find a segment, whatever becomes
// of the one that is written to: mu is held.
func (p *pool) fits(room int64) bool {
	least := 1
	if p.err != nil {
		least = spares // what is left is for what is on its way
	}
	return len(p.ready) >= least && slices.ContainsFunc(p.ready, func(s spare) bool { return s.room >= room })
}

// admits says at once what admit waits for.
func (p *pool) admits(room int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fits(room)
}

// admit returns when a frame of so much room will find a segment, whatever
// becomes of the one that is written to.
func (p *pool) admit(ctx context.Context, room int64) error {
	for {
		p.mu.Lock()
		if p.fits(room) {
			p.mu.Unlock()
			return nil
		}
		if room > p.o.Room {
			p.large = max(p.large, room)
		}
		err, changed := p.err, p.changed
		p.mu.Unlock()
		if err != nil {
			return noSegment(err)
		}
		p.poke()
		select {
		case <-changed:
		case <-p.end:
			return ErrClosed
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// giveBack takes a file that is not needed any more; never is one that must not
// be used again.
func (p *pool) giveBack(s segment, never bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if never || s.room != p.o.Room {
		_ = p.o.FS.Remove(segmentName(p.o.Dir, s.number)) // it is found again at the next start
		return
	}
	p.old = append(p.old, s.number)
	p.poke()
}

// close ends the filler.
func (p *pool) close() error {
	close(p.end)
	<-p.over
	var err error
	for _, s := range p.ready {
		err = errors.Join(err, s.file.Close())
	}
	return err
}
