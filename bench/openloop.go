package main

import (
	"sync"
	"time"
)

// openLoop puts at a steady rate, whatever becomes of the puts before, and
// knows how late each was acknowledged after it was due. So a stall is seen by
// all that come while it lasts.
type openLoop struct {
	e    putter
	s    state
	end  chan struct{}
	over sync.WaitGroup

	mu    sync.Mutex // of what follows
	worst time.Duration
	count int
	err   error
}

// startLoop begins to put so many a second.
func startLoop(e putter, s state, rate int) *openLoop {
	l := &openLoop{e: e, s: s, end: make(chan struct{})}
	put := func(due time.Time) { l.over.Go(func() { l.put(due) }) }
	if _, ok := e.(*floor); ok {
		put = l.put // it is for one writer, which is late when one before was
	}
	l.over.Go(func() {
		begun := time.Now()
		for i := 0; ; i++ {
			due := begun.Add(time.Duration(i) * time.Second / time.Duration(rate))
			if wait := time.Until(due); wait > 0 {
				time.Sleep(wait)
			}
			select {
			case <-l.end:
				return
			default:
			}
			put(due)
		}
	})
	return l
}

func (l *openLoop) put(due time.Time) {
	err := putAny(l.e, l.s)
	late := time.Since(due)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.worst, l.count = max(l.worst, late), l.count+1
	if l.err == nil {
		l.err = err
	}
}

// longest returns the longest stall since it was last asked.
func (l *openLoop) longest() (time.Duration, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	worst := l.worst
	l.worst = 0
	return worst, l.err
}

// stop ends the loop when all that began has ended.
func (l *openLoop) stop() error {
	close(l.end)
	l.over.Wait()
	return l.err
}
