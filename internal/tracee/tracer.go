// Package tracee is one stopped thread of another process: its registers, its
// memory, and the playing of a tape in it.
//
// Every ptrace call for a tree comes from one locked OS thread, the Tracer's.
// If that thread, or the whole process, dies at any instant, each tracee runs
// on by itself: a thread in the middle of a tape plays it to the end and goes
// back to where it was, because the gate (package abi) puts everything back.
package tracee

import (
	"errors"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// ErrGone says that a thread or process has ended.
var ErrGone = errors.New("it has ended")

// errWrongThread guards the one rule of ptrace.
var errWrongThread = errors.New("ptrace from a thread that is not the tracer's")

var errClosed = errors.New("the tracer is closed")

// Tracer owns the OS thread from which a tree is traced.
type Tracer struct {
	work chan func()
	quit chan struct{}
	once sync.Once
	tid  int
	// Before, when not nil, is called before every ptrace call, with its name.
	// Tests use it to die at the n-th one.
	Before func(call string)
}

// New starts a tracer. Close must follow.
func New() *Tracer {
	t := &Tracer{work: make(chan func()), quit: make(chan struct{})}
	ready := make(chan struct{})
	go t.loop(ready)
	<-ready
	return t
}

// loop never unlocks its thread, so that the thread ends with it and with the
// thread whatever is still attached.
func (t *Tracer) loop(ready chan struct{}) {
	runtime.LockOSThread()
	t.tid = unix.Gettid()
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0) // its sleeps are part of the pause
	close(ready)
	for {
		select {
		case f := <-t.work:
			f()
		case <-t.quit:
			return
		}
	}
}

// Do runs f on the tracer's thread and returns what it returns.
func (t *Tracer) Do(f func() error) error {
	done := make(chan error, 1)
	select {
	case t.work <- func() { done <- f() }:
		return <-done
	case <-t.quit:
		return errClosed
	}
}

// Close ends the tracer's thread; threads that are still attached run on (or
// die, where that was asked for with ExitKill). It may be called again.
func (t *Tracer) Close() { t.once.Do(func() { close(t.quit) }) }

func (t *Tracer) before(call string) error {
	if unix.Gettid() != t.tid {
		return errWrongThread
	}
	if t.Before != nil {
		t.Before(call)
	}
	return nil
}
