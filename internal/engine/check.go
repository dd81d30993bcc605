package engine

import (
	"context"
	"errors"
	"os"
	"strings"
	"time"

	"github.com/wakepoint/wakepoint/internal/namespace"
)

// Check lists all that stands in the way of saving a process and its
// descendants. It freezes them for the moment that a checkpoint would, and
// changes nothing. A process of a workload is measured by that workload's
// namespaces and mounts, any other by those of this process, as adopt and dump do.
func Check(pid PID) ([]Obstacle, error) {
	h, err := HandleOf(pid)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	t, err := Open(ctx, h)
	if err != nil {
		return nil, err
	}
	defer t.Close()
	if t.within = t.workload(); t.within != 0 {
		if err := t.guessMounts(); err != nil {
			return nil, err
		}
	}
	f, err := t.Freeze(ctx)
	var refused *RefusedError
	if errors.As(err, &refused) {
		return refused.Obstacles, nil
	}
	if err != nil {
		return nil, err
	}
	return nil, f.Thaw()
}

// workload is the init of the workload to which a tree without one belongs, or 0.
func (t *Tree) workload() int {
	for pid := int(t.handle.Command); pid > 1; {
		line, err := t.proc.ProcessFile(pid, "cmdline")
		if err == nil && strings.HasPrefix(string(line), namespace.Name+"\x00") {
			return pid
		}
		st, err := t.proc.Stat(pid)
		if err != nil {
			break
		}
		pid = st.PPID
	}
	return 0
}

// ErrKernelThread says that a process is the kernel's own.
var ErrKernelThread = errors.New("it is a kernel thread")

// ErrZombie says that a process has ended and only waits for its parent.
var ErrZombie = errors.New("it is a zombie")

// ErrSelf says that a process would have to freeze itself.
var ErrSelf = errors.New("it is this program itself, or one of its parents")

// suitable refuses what can never be frozen.
func (t *Tree) suitable() error {
	if t.handle.Init != 0 {
		return nil
	}
	pid := int(t.handle.Command)
	st, err := t.proc.Stat(pid)
	if err != nil {
		return gone(err)
	}
	const kthread = 0x00200000 // PF_KTHREAD
	switch {
	case st.Flags&kthread != 0:
		return ErrKernelThread
	case st.State == 'Z' && st.NumThreads <= 1:
		return ErrZombie
	}
	for p := os.Getpid(); p > 0; {
		if p == pid {
			return ErrSelf
		}
		st, err := t.proc.Stat(p)
		if err != nil {
			break
		}
		p = st.PPID
	}
	return nil
}

// RefusedError says that a tree cannot be saved, and why.
type RefusedError struct {
	Obstacles []Obstacle
}

// Obstacle is one thing that cannot be saved.
type Obstacle struct {
	PID  PID    `json:"pid"`
	What string `json:"what"` // "io_uring fd 7 of pid 812 cannot be saved"
	Hint string `json:"hint"`
}

func (e *RefusedError) Error() string {
	if len(e.Obstacles) == 0 {
		return "cannot be checkpointed"
	}
	return e.Obstacles[0].What
}

// note puts a refusal on the list of all obstacles, so that the rest is looked
// at too; any other error it returns.
func (f *Frozen) note(err error) error {
	var r *RefusedError
	if !errors.As(err, &r) {
		return err
	}
	f.obstacles = append(f.obstacles, r.Obstacles...)
	f.lasting = f.lasting || !errors.Is(err, errPassing)
	return nil
}

// verdict is the error of all that was noted, or err when nothing was.
func (f *Frozen) verdict(err error) error {
	switch r := (&RefusedError{Obstacles: f.obstacles}); {
	case len(f.obstacles) == 0:
		return err
	case f.lasting:
		return r
	default:
		return errors.Join(r, errPassing)
	}
}

func refuse(pid int, what, hint string) error {
	return &RefusedError{Obstacles: []Obstacle{{PID: PID(pid), What: what, Hint: hint}}}
}
