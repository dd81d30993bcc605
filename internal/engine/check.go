package engine

import (
	"context"
	"errors"
	"os"
	"time"
)

// Check lists what stands in the way of saving a process and its descendants.
// It freezes them for the moment that a checkpoint would, and changes nothing.
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
	t.checking = true
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
	case st.State == 'Z':
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

func refuse(pid int, what, hint string) error {
	return &RefusedError{Obstacles: []Obstacle{{PID: PID(pid), What: what, Hint: hint}}}
}
