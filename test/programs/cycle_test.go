//go:build linux

package programs

import (
	"fmt"
	"math"
	"sync"
	"testing"
	"time"
)

// anywhere is the ceiling of a client that checks by itself that nothing is
// newer than the kill.
const anywhere = math.MaxUint64

// client works a program and judges it. Work is a line of numbered units; the
// position of a program is the number of the last unit that is in its state.
type client interface {
	// Step has some units done. It returns the last one that was acknowledged,
	// and fails when the program does not answer or answers wrongly.
	step() (acked uint64, err error)
	// Sent is the highest unit that the program can have seen, even when no
	// answer came; anywhere where check knows better.
	sent() uint64
	// Check asks the program for its position and proves that its state is
	// exactly what that many units make. The next step continues from there.
	check() (position uint64, err error)
	// Rest ends what would keep the program busy: connections, traffic.
	rest() error
	// Close lets go of the program.
	close()
}

// subject is one program under test.
type subject struct {
	options []string // of wakepoint run
	argv    []string
	full    int // cycles of a full run
	client  client
	start   func()       // in place of the rig's start, may be nil
	prepare func() error // work to be done before the first cycle, may be nil
	fresh   bool         // recovered by a start on its own files, not from a generation
	// DuringMax is the longest time the program works on between the explicit
	// checkpoint and the kill; 300 ms where it is 0.
	duringMax time.Duration
	// NoCompare leaves out the comparison of /proc, with the reason.
	noCompare string
}

// worker steps a client until it is told to stop.
type worker struct {
	client client
	mu     sync.Mutex // guards what follows
	acked  uint64
	err    error
	ending bool
	done   chan struct{}
}

func startWorker(c client, position uint64) *worker {
	w := &worker{client: c, acked: position, done: make(chan struct{})}
	go w.run()
	return w
}

func (w *worker) run() {
	defer close(w.done)
	for {
		acked, err := w.client.step()
		w.mu.Lock()
		if err == nil {
			w.acked = max(w.acked, acked)
		} else if !w.ending {
			w.err = err
		}
		over := w.ending || err != nil
		w.mu.Unlock()
		if over {
			return
		}
	}
}

// position is the last unit that was acknowledged.
func (w *worker) position() (uint64, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.acked, w.err
}

// expectEnd says that errors from now on are the plug's, not the program's.
// It returns the last unit that was acknowledged until now.
func (w *worker) expectEnd() (uint64, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ending = true
	return w.acked, w.err
}

// wait waits for the end of the work.
func (w *worker) wait(t *testing.T) {
	t.Helper()
	select {
	case <-w.done:
	case <-time.After(patience):
		t.Fatal("the client hangs")
	}
}

// endure takes a program through its cycles, then compares it before and after
// one more crash, in which it idles.
func (r *rig) endure(s subject) {
	r.t.Helper()
	cycles, err := cycleCount(s.full)
	if err != nil {
		r.t.Fatal(err)
	}
	defer s.client.close()
	if s.start == nil {
		s.start = func() { r.start(s.options, s.argv) }
	}
	s.start()
	var position uint64
	eventually(r.t, patience, "the first check", func() (err error) {
		position, err = s.client.check()
		return err
	})
	if s.prepare != nil {
		if err := s.prepare(); err != nil {
			r.t.Fatal(err)
		}
		r.checkpoint()
	}
	survived := 0
	defer func() {
		line := fmt.Sprintf("%s: %d of %d cycles", r.name, survived, cycles)
		r.t.Log(line)
		report = append(report, line)
	}()
	for range cycles {
		began := time.Now()
		if position = r.cycle(s, position); r.t.Failed() {
			return
		}
		survived++
		r.t.Logf("cycle %d of %d: at %d after %.1f s", survived, cycles, position, time.Since(began).Seconds())
	}
	r.goesOn(s, position)
	if s.noCompare != "" {
		r.t.Log("not compared:", s.noCompare)
		return
	}
	r.compare(s)
}

// cycle works, checkpoints, kills, recovers and checks once. It returns the
// program's position afterwards.
func (r *rig) cycle(s subject, position uint64) uint64 {
	r.t.Helper()
	w := startWorker(s.client, position)
	idle(200*time.Millisecond, 600*time.Millisecond)
	floor, err := w.position()
	if err != nil {
		r.t.Fatalf("at work: %v", err)
	}
	printed := r.checkpoint()
	idle(0, max(s.duringMax, 300*time.Millisecond))
	printed = max(printed, r.newest())
	acked, err := w.expectEnd()
	if err != nil {
		r.t.Fatalf("at work: %v", err)
	}
	if s.fresh {
		floor = acked
	}
	r.crash()
	w.wait(r.t)
	ceiling := s.client.sent()
	from := r.recover()
	if !session.calm && !s.fresh && from < printed {
		r.t.Fatalf("restored from %v, though %v was committed", from, printed)
	}
	var restored uint64
	eventually(r.t, patience, "the check after the recovery", func() (err error) {
		restored, err = s.client.check()
		return err
	})
	if restored < floor || restored > ceiling {
		r.t.Fatalf("restored from %v at unit %d, not in %d (before %v was begun) to %d (the kill)",
			from, restored, floor, printed, ceiling)
	}
	return restored
}

// goesOn proves that the program makes progress.
func (r *rig) goesOn(s subject, position uint64) {
	r.t.Helper()
	eventually(r.t, patience, "progress after the recovery", func() error {
		acked, err := s.client.step()
		if err == nil && acked <= position {
			err = fmt.Errorf("still at unit %d", acked)
		}
		return err
	})
}

// compare lets the program idle, takes down all that can be seen of it,
// crashes it, and holds what came back against that.
func (r *rig) compare(s subject) {
	r.t.Helper()
	floor, err := s.client.step()
	if err != nil {
		r.t.Fatal(err)
	}
	if err := s.client.rest(); err != nil {
		r.t.Fatal(err)
	}
	// A snapshot in the middle of a freeze shows another signal mask of a thread
	// that waits with one, and after a crash there are many freezes.
	if !session.plain {
		r.must("set", r.name, "--every", "1h")
	}
	before := r.settled()
	r.checkpoint()
	if diff := differences(before, r.settled()); len(diff) > 0 {
		r.t.Fatalf("the program does not idle, nothing can be compared:\n%s", listed(diff))
	}
	if s.fresh {
		return
	}
	r.crash()
	r.recover()
	if diff := differences(before, r.settled()); len(diff) > 0 {
		r.t.Errorf("%d differences after the recovery that are not permitted:\n%s", len(diff), listed(diff))
	}
	r.t.Logf("compared: %d facts of %d processes", len(before), len(r.tree())-1)
	var restored uint64
	eventually(r.t, patience, "the check after the comparison", func() (err error) {
		restored, err = s.client.check()
		return err
	})
	if restored < floor || restored > s.client.sent() {
		r.t.Errorf("idle at unit %d, but restored at %d", floor, restored)
	}
	r.goesOn(s, restored)
}
