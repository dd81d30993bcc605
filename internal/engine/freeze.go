package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wakepoint/wakepoint/internal/procfs"
	"github.com/wakepoint/wakepoint/internal/sys"
	"github.com/wakepoint/wakepoint/internal/tracee"
)

// freezeTime is the deadline of one try; past it everything is let go.
const freezeTime = 100 * time.Millisecond

// freezeAgain are the pauses before the next tries.
var freezeAgain = [...]time.Duration{5 * time.Millisecond, 20 * time.Millisecond, 100 * time.Millisecond}

// process is one process of a frozen tree.
type process struct {
	pid     int // as we see it
	ns      int // as it sees itself
	parent  *process
	stat    procfs.Stat
	status  procfs.Status
	zombie  bool
	threads []*tracee.Thread // the leader first
	maps    []procfs.Mapping
	nudges  int
	tasks   []procfs.Status // of threads, same order
	space   *frozenSpace
	mem     *os.File // see memory
}

func (p *process) leader() *tracee.Thread { return p.threads[0] }

// Frozen is a stopped tree. It must be thawed or killed.
type Frozen struct {
	tree      *Tree
	since     time.Time
	processes []*process // parents before children
	byPID     map[int]*process
	files     []OpenFile
	image     *dumper
	asleep    map[int]int64
	broke     map[int]bool // threads whose call is made again, and may last too long
	obstacles []Obstacle
	lasting   bool // an obstacle will not be gone in a moment
	over      bool
}

// Freeze stops the whole tree: parents before children, so that whoever
// could create a process or thread stands still before its offspring is
// counted; a child of vfork, whose parent cannot stop, thereby runs on to its
// exec. When a round finds nothing new, nothing can be new. On an error the
// tree runs on. A tree that cannot be saved gives a *RefusedError.
func (t *Tree) Freeze(ctx context.Context) (*Frozen, error) {
	if err := t.suitable(); err != nil {
		return nil, fmt.Errorf("freeze pid %d: %w", t.handle.Command, err)
	}
	if err := t.prepare(); err != nil {
		return nil, err
	}
	var err error
	for try := 0; ; try++ {
		if err = t.lingerers(time.Now().Add(10 * freezeTime)); err != nil {
			return nil, fmt.Errorf("freeze: %w", err)
		}
		f := &Frozen{tree: t, byPID: map[int]*process{}, broke: map[int]bool{}, since: time.Now(), obstacles: slices.Clone(t.foreign), lasting: len(t.foreign) > 0}
		err = t.tracer.Do(f.stop)
		if err == nil {
			err = f.examine()
		}
		if err == nil {
			err = t.tracer.Do(f.describe)
		}
		err = f.verdict(err)
		if err == nil {
			return f, nil
		}
		if terr := f.Thaw(); terr != nil {
			return nil, errors.Join(err, terr)
		}
		var again *blockedError
		if !errors.As(err, &again) && !errors.Is(err, errPassing) || try == len(freezeAgain) {
			return nil, fmt.Errorf("freeze: %w", err)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(freezeAgain[try]):
		}
	}
}

// Since is the instant from which the tree stood still, or a little before.
func (f *Frozen) Since() time.Time { return f.since }

// errPassing marks a refusal whose reason may be gone in a moment.
var errPassing = errors.New("it will be possible in a moment")

// blockedError says that a thread did not stop in time.
type blockedError struct {
	pid, tid int
	name, in string
}

func (e *blockedError) Error() string {
	return fmt.Sprintf("thread %d of pid %d (%s) did not stop within %v; it waits in %s", e.tid, e.pid, e.name, freezeTime, e.in)
}

// roots are the processes at the top of the tree.
func (t *Tree) roots() ([]int, error) {
	if t.handle.Init == 0 {
		return []int{int(t.handle.Command)}, nil
	}
	return t.proc.Children(int(t.handle.Init), int(t.handle.Init))
}

// stop runs on the tracer's thread.
func (f *Frozen) stop() error {
	deadline := time.Now().Add(freezeTime)
	for {
		before := len(f.byPID)
		roots, err := f.tree.roots()
		if err != nil {
			return gone(err)
		}
		for _, pid := range roots {
			if err := f.stopBelow(nil, pid, deadline); err != nil {
				return err
			}
		}
		if len(f.byPID) == 0 {
			return os.ErrProcessDone
		}
		if len(f.byPID) == before {
			return nil
		}
	}
}

// stopBelow stops a process and then its children.
func (f *Frozen) stopBelow(parent *process, pid int, deadline time.Time) error {
	p := f.byPID[pid]
	if p == nil {
		p = &process{pid: pid, parent: parent}
		f.processes = append(f.processes, p) // first of all, so that Thaw finds its threads
		here, err := f.stopProcess(p, deadline)
		if n := len(f.obstacles); err != nil {
			if err = f.note(err); err != nil {
				return err
			}
			p.zombie = len(f.obstacles) > n // no more can be known of it
		}
		if !here {
			f.processes = f.processes[:len(f.processes)-1]
			return nil
		}
		f.byPID[pid] = p
	}
	if p.zombie {
		return nil
	}
	for _, t := range p.threads {
		children, err := f.tree.proc.Children(pid, t.TID)
		if err != nil {
			return fmt.Errorf("children of %d: %w", pid, err)
		}
		for _, c := range children {
			if err := f.stopBelow(p, c, deadline); err != nil {
				return err
			}
		}
	}
	return nil
}

// stopProcess seizes and stops every thread of a process. here is false when
// it has ended in the meantime.
func (f *Frozen) stopProcess(p *process, deadline time.Time) (here bool, err error) {
	known := map[int]bool{}
	for {
		if time.Now().After(deadline) {
			return true, &blockedError{pid: p.pid, tid: p.pid, name: p.stat.Comm, in: "its birth or its end"}
		}
		st, err := f.tree.proc.Stat(p.pid)
		if err != nil {
			return false, goneIsNil(err)
		}
		if st.State == 'X' {
			return false, nil
		}
		if st.State == 'Z' && st.NumThreads <= 1 {
			p.zombie, p.stat = true, st
			return true, nil
		}
		tids, err := f.tree.proc.Tasks(p.pid)
		if err != nil {
			return false, goneIsNil(err)
		}
		fresh := false
		for _, tid := range tids {
			if known[tid] {
				continue
			}
			known[tid], fresh = true, true
			if err := f.seize(p, tid); err != nil {
				return true, err
			}
		}
		if !fresh && len(p.threads) > 0 {
			nudged, err := f.leaveVdso(p, deadline)
			if err != nil || !nudged {
				return true, err
			}
			continue // what ran on may have made others
		}
		if err := f.waitAll(p, deadline); err != nil {
			return true, err
		}
	}
}

// nudgesMax is how often the threads of a process are asked again to stop
// outside the vdso.
const nudgesMax = 3

// leaveVdso lets threads that stopped inside the vdso run on for an instant.
// Its code belongs to the kernel: after a boot with another kernel nobody could
// go on in the middle of it. One that is there all the time is left there; its
// image then restores under the same kernel only.
func (f *Frozen) leaveVdso(p *process, deadline time.Time) (nudged bool, err error) {
	if p.maps, err = f.tree.proc.Maps(p.pid); err != nil {
		return false, gone(err)
	}
	code := findKernelAreas(p.maps).vdso
	if p.nudges == nudgesMax {
		return false, nil
	}
	p.nudges++
	for _, t := range p.threads {
		regs, err := t.Regs()
		if err != nil {
			return false, err
		}
		if ip := regs[t.Arch.IP]; t.Group != 0 || ip < code.Start || ip >= code.End {
			continue
		}
		nudged = true
		if err := t.RunOn(); err != nil && !errors.Is(err, tracee.ErrGone) {
			return false, err
		}
	}
	if !nudged {
		return false, nil
	}
	return true, f.waitAll(p, deadline)
}

func goneIsNil(err error) error {
	if procfs.IsGone(err) {
		return nil
	}
	return err
}

// seize attaches to one thread and asks it to stop. A thread that is gone or
// dying is no error: the next look at the process tells.
func (f *Frozen) seize(p *process, tid int) error {
	tr := f.tree.tracer
	t, err := tr.Seize(f.tree.arch, tid, sys.OptionTraceExec)
	if errors.Is(err, tracee.ErrGone) {
		return nil
	}
	if errors.Is(err, unix.EPERM) {
		st, serr := f.tree.proc.TaskStatus(p.pid, tid)
		if serr != nil || strings.ContainsRune("ZX", rune(st.State)) {
			return nil
		}
		if st.TracerPid != 0 {
			return refuse(p.pid, fmt.Sprintf("pid %d is being traced by pid %d", p.pid, st.TracerPid), "let its debugger go first")
		}
		return fmt.Errorf("%w (CAP_SYS_PTRACE is needed)", err)
	}
	if err != nil {
		return err
	}
	t.TGID = p.pid
	p.threads = append(p.threads, t)
	if err := t.Interrupt(); err != nil && !errors.Is(err, tracee.ErrGone) {
		return err
	}
	return nil
}

// waitAll waits until every thread has stopped; those that ended are dropped.
func (f *Frozen) waitAll(p *process, deadline time.Time) error {
	for spin := 0; ; spin++ {
		var late *tracee.Thread
		alive := p.threads[:0]
		for _, t := range p.threads {
			if err := f.poll(t); err != nil && !errors.Is(err, tracee.ErrGone) {
				return err
			}
			if t.Gone {
				continue
			}
			alive = append(alive, t)
			if !t.Stopped {
				late = t
			}
		}
		p.threads = alive
		if late == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return f.blocked(p, late)
		}
		tracee.Pause(spin)
	}
}

// poll looks once whether a thread has stopped, and then at what it was in.
func (f *Frozen) poll(t *tracee.Thread) error {
	before := t.Stopped
	if err := t.Poll(); err != nil || before || !t.Stopped {
		return err
	}
	return f.brokeOff(t)
}

func (f *Frozen) blocked(p *process, t *tracee.Thread) error {
	e := &blockedError{pid: p.pid, tid: t.TID, in: "the kernel"}
	if st, err := f.tree.proc.TaskStat(p.pid, t.TID); err == nil {
		e.name = st.Comm
	}
	if b, err := f.tree.proc.TaskFile(p.pid, t.TID, "wchan"); err == nil && len(b) > 1 {
		e.in = string(b)
	}
	return e
}

// examine reads what every later step needs of each process.
func (f *Frozen) examine() error {
	for _, p := range f.processes {
		st, err := f.tree.proc.Status(p.pid)
		if err != nil {
			return gone(err)
		}
		p.status = st
		p.ns = last(st.NSpid, p.pid)
		if p.zombie {
			continue
		}
		if p.stat, err = f.tree.proc.Stat(p.pid); err != nil {
			return gone(err)
		}
		for i, t := range p.threads {
			ts := st // of the leader
			if i > 0 {
				if ts, err = f.tree.proc.TaskStatus(p.pid, t.TID); err != nil {
					return gone(err)
				}
			}
			t.NSTGID, t.NSTID = last(ts.NStgid, p.pid), last(ts.NSpid, t.TID)
			p.tasks = append(p.tasks, ts)
		}
		if p.threads[0].TID != p.pid {
			p.zombie = true // no more can be known of it
			// It may be that the whole process is just ending.
			_ = f.note(errors.Join(errPassing, refuse(p.pid, fmt.Sprintf("the first thread of pid %d has ended while others run", p.pid), "this cannot be rebuilt; let the program keep its main thread")))
		}
	}
	if !slices.ContainsFunc(f.processes, func(p *process) bool { return !p.zombie }) {
		return os.ErrProcessDone // nothing is left that could go on
	}
	f.asleep = f.slept()
	return f.namespaces()
}

func last(list []int, none int) int {
	if len(list) == 0 {
		return none
	}
	return list[len(list)-1]
}

// whole says whether every thread still stands where it was stopped. One that
// was killed in the meantime has taken its memory with it, in the middle of
// being read.
func (f *Frozen) whole() error {
	return f.tree.tracer.Do(func() error {
		for _, p := range f.processes {
			for _, t := range p.threads {
				if _, err := t.Regs(); err != nil {
					return fmt.Errorf("it was killed while it was saved: %w", errors.Join(os.ErrProcessDone, err))
				}
			}
		}
		return nil
	})
}
