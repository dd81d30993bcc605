package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wakepoint/wakepoint/internal/tape"
	"github.com/wakepoint/wakepoint/internal/tracee"
)

// Thaw lets the tree go on. It may be called again.
func (f *Frozen) Thaw() error {
	if f.over {
		return nil
	}
	f.over = true
	for _, o := range f.files {
		_ = o.File.Close()
	}
	return f.tree.tracer.Do(func() error {
		all := f.tidy()
		// Children first: a parent that goes on finds them as they were.
		for i := len(f.processes) - 1; i >= 0; i-- {
			all = errors.Join(all, f.detach(f.processes[i]))
		}
		f.release()
		return all
	})
}

// tidy takes our pad out of a tree that is not a workload of its own: nothing
// of a one-off dump or check stays behind.
func (f *Frozen) tidy() error {
	if f.tree.handle.Init != 0 {
		return nil
	}
	var all error
	for _, p := range f.processes {
		if p.space == nil || p.space.state == nil || p.space.space.Pad == 0 {
			continue
		}
		_, err := p.leader().One(&p.space.space, "munmap", f.tree.arch.NR.Munmap, tape.N(uint64(p.space.state.pad)), tape.N(padSize))
		all = errors.Join(all, err)
		p.space.state.pad, p.space.space.Pad = 0, 0
	}
	return all
}

// letGoTime is how long a thaw waits for a thread that has not stopped.
const letGoTime = 20 * time.Millisecond

// linger lets a thread go as soon as it stops, which may be much later: it
// waits in the kernel for something that cannot be interrupted. BUG: a signal
// that is ignored is not while it is traced (sig_ignored, kernel/signal.c), so
// that the SIGCHLD of its vfork can break off a call of another thread.
func (f *Frozen) linger(p *process, th *tracee.Thread) {
	t := f.tree
	t.lingering.Add(1)
	go func() {
		defer t.lingering.Add(-1)
		for over := false; !over; time.Sleep(2 * time.Millisecond) {
			err := t.tracer.Do(func() error {
				if err := f.poll(th); err != nil {
					return err
				}
				if over = th.Gone || th.Stopped; th.Stopped {
					defer f.release()
					return errors.Join(f.settle(p, th), th.Detach())
				}
				return nil
			})
			over = over || err != nil
		}
	}()
}

// lingerers waits until there are none, at most until the deadline: what is
// still attached cannot be attached again. Nothing stands still meanwhile.
func (t *Tree) lingerers(deadline time.Time) error {
	for t.lingering.Load() > 0 {
		if time.Now().After(deadline) {
			return fmt.Errorf("%d threads still wait in the kernel since the last try", t.lingering.Load())
		}
		time.Sleep(time.Millisecond)
	}
	return nil
}

func (f *Frozen) detach(p *process) error {
	var all error
	for _, t := range p.threads {
		if t.Gone {
			continue
		}
		if !t.Stopped { // it did not come to its stop: detaching needs one
			for spin, deadline := 0, time.Now().Add(letGoTime); !t.Stopped && !t.Gone && time.Now().Before(deadline); spin++ {
				if f.poll(t) != nil {
					break
				}
				tracee.Pause(spin)
			}
			if t.Gone {
				continue
			}
			if !t.Stopped {
				f.linger(p, t)
				continue
			}
		}
		if err := f.settle(p, t); err != nil && !errors.Is(err, tracee.ErrGone) {
			all = errors.Join(all, err)
		}
		err := t.Detach()
		switch {
		case errors.Is(err, tracee.ErrGone):
			f.linger(p, t) // it was killed: its parent hears of it only when we have
		case err != nil:
			all = errors.Join(all, err)
		}
	}
	return all
}

// Kill ends the tree while it is frozen (a planned stop) and waits until it
// is gone.
func (f *Frozen) Kill() error {
	if f.over {
		return errors.New("kill: the tree was thawed")
	}
	f.over = true
	for _, o := range f.files {
		_ = o.File.Close()
	}
	for i := len(f.processes) - 1; i >= 0; i-- {
		_ = unix.Kill(f.processes[i].pid, unix.SIGKILL)
	}
	// Threads other than the leader first: waiting for the leader first
	// deadlocks (the tracer must reap them).
	err := f.tree.tracer.Do(func() error {
		for i := len(f.processes) - 1; i >= 0; i-- {
			for k := len(f.processes[i].threads) - 1; k >= 0; k-- {
				f.processes[i].threads[k].Reap()
			}
		}
		return nil
	})
	f.release()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return errors.Join(err, f.tree.Kill(ctx))
}

func (f *Frozen) release() {
	for _, p := range f.processes {
		if p.space != nil {
			p.space.close()
		}
		if p.mem != nil {
			_ = p.mem.Close()
			p.mem = nil
		}
	}
}
