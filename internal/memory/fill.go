package memory

import (
	"errors"
	"fmt"
	"io"
)

// Section is what private pages are read from.
type Section interface {
	// Each calls f for the pages that are present in [from, to), in ascending
	// order. p is valid until f returns.
	Each(from, to int64, f func(off int64, p []byte) error) error
	Close() error
}

// Part is [From, To) of a process; the offset in the section is the address.
type Part struct {
	Process  int
	Section  string
	From, To int64
}

// Filler writes the private pages of processes, several goroutines side by
// side. They begin to read and check before there is a process, each until it
// has the first pages that it could write, and go on when the spaces stand.
type Filler struct {
	open   func(section string) (Section, error)
	target func(process int) io.WriterAt // nil: nothing is to be written; set before ready is closed
	parts  chan Part
	ready  chan struct{} // closed when the spaces stand, or never will
	done   chan error
	left   int // goroutines
}

const (
	fillers = 8       // goroutines: each waits with 128 KiB in its hands
	slice   = 4 << 20 // bytes of a part that one of them fills at a time
)

var errGivenUp = errors.New("the restore was given up")

// StartFilling begins to read parts, whose sections are opened by open, once
// for each goroutine. Fill or Stop follows.
func StartFilling(parts []Part, open func(section string) (Section, error)) *Filler {
	f := &Filler{open: open, parts: make(chan Part), ready: make(chan struct{}), done: make(chan error), left: fillers}
	for range fillers {
		go func() { f.done <- f.run() }()
	}
	go f.deal(parts)
	return f
}

// deal hands out what is to be filled.
func (f *Filler) deal(parts []Part) {
	defer close(f.parts)
	for _, p := range parts {
		for at := p.From; at < p.To; {
			end := min((at+slice)&^(slice-1), p.To)
			if end-at == slice && p.To-end > 1<<32 {
				end = min(at+1<<32, p.To) // a huge reservation is mostly holes
			}
			f.parts <- Part{p.Process, p.Section, at, end}
			at = end
		}
	}
}

// run fills parts until there are no more.
func (f *Filler) run() (err error) {
	open := map[string]Section{}
	defer func() {
		for _, s := range open {
			err = errors.Join(err, s.Close())
		}
	}()
	for p := range f.parts {
		if err != nil {
			continue // the others are waiting for their parts
		}
		if open[p.Section] == nil {
			var s Section
			if s, err = f.open(p.Section); err != nil {
				continue
			}
			open[p.Section] = s
		}
		err = open[p.Section].Each(p.From, p.To, func(off int64, data []byte) error {
			<-f.ready
			if f.target == nil {
				return errGivenUp
			}
			_, err := f.target(p.Process).WriteAt(data, off)
			return err
		})
		if err != nil {
			err = fmt.Errorf("memory of process %d at %#x: %w", p.Process, p.From, err)
		}
	}
	return err
}

// Fill lets the pages be written to the processes, and waits until all are.
func (f *Filler) Fill(target func(process int) io.WriterAt) error {
	f.target = target
	close(f.ready)
	var errs error
	for ; f.left > 0; f.left-- {
		errs = errors.Join(errs, <-f.done)
	}
	return errs
}

// Stop waits for the goroutines. Before Fill, they write nothing.
func (f *Filler) Stop() {
	select {
	case <-f.ready:
	default:
		close(f.ready)
	}
	for ; f.left > 0; f.left-- {
		<-f.done
	}
}
