package engine

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wakepoint/wakepoint/internal/image"
	"github.com/wakepoint/wakepoint/internal/sys"
	"github.com/wakepoint/wakepoint/internal/tape"
)

// signals describes the process's dispositions and its shared queue. The exit
// code of a stopped process is the signal that stopped it until its parent
// has waited for that (do_task_stat, fs/proc/array.c).
func (d *dumper) signals(p *process, a *answers, q *image.Process) error {
	q.Actions = a.actions
	var err error
	if q.Pending, err = pending(p.leader(), true); err != nil {
		return err
	}
	q.StopSignal = p.leader().Group
	q.StopHeard = q.StopSignal != 0 && p.stat.ExitCode == 0
	return nil
}

// stopProcesses stops those that were stopped. They come into a group-stop
// while they are traced, and stay in it when they are let go.
func (r *restorer) stopProcesses() error {
	for _, b := range r.order {
		if b.image.Zombie || b.image.StopSignal == 0 {
			continue
		}
		if err := r.stopAgain(b); err != nil {
			return fmt.Errorf("stop process %d: %w", b.ns, err)
		}
	}
	return nil
}

// stopAgain stops a process under construction. Whatever stopped it, it is
// SIGSTOP now: the others are ignored where nobody could continue it. No thread
// comes to an instruction of its program.
func (r *restorer) stopAgain(b *builtProcess) error {
	if err := unix.Kill(b.pid, unix.SIGSTOP); err != nil {
		return err
	}
	for _, t := range b.threads { // the first takes the signal, which then concerns the others
		t.Stopped = false
		if err := sys.Cont(t.TID, 0); err != nil {
			return err
		}
		if err := t.WaitStop(time.Now().Add(5 * time.Second)); err != nil {
			return err
		}
	}
	parent := r.built[b.image.PPID]
	if parent == nil || !b.image.StopHeard {
		return nil
	}
	var tp tape.Tape
	tp.Try("wait4", r.arch.NR.Wait4, tape.N(b.ns), tape.N(0), tape.N(unix.WUNTRACED|unix.WNOHANG|unix.WALL), tape.N(0))
	_, err := parent.leader().Play(&parent.space, &tp)
	return err
}
