package engine

import (
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/wakepoint/wakepoint/internal/namespace"
	"github.com/wakepoint/wakepoint/internal/procfs"
)

// nap is when a thread was last seen falling asleep.
type nap struct {
	since    int64 // CLOCK_MONOTONIC, ns
	switches uint64
}

// prepare does before the freeze what need not be done in it: it notes since
// when each thread sleeps, which the stop itself overwrites (se.exec_start of
// /proc/TID/sched).
func (t *Tree) prepare() error {
	roots, err := t.roots()
	if err != nil {
		return gone(err)
	}
	if err := t.foreignMounts(); err != nil {
		return err
	}
	t.naps, t.smaps = map[int]nap{}, map[int][]procfs.MappingUse{}
	clocks := queueClocks{tree: t, offset: map[int]int64{}}
	defer clocks.close()
	for _, root := range roots {
		for _, pid := range t.proc.Descendants(root) {
			t.noteNaps(&clocks, pid)
			if m, err := t.proc.Smaps(pid); err == nil {
				t.smaps[pid] = m
			}
		}
	}
	return nil
}

func (t *Tree) noteNaps(clocks *queueClocks, pid int) {
	tids, err := t.proc.Tasks(pid)
	if err != nil {
		return
	}
	for _, tid := range tids {
		st, err := t.proc.TaskStat(pid, tid)
		if err != nil || st.State != 'S' {
			continue
		}
		status, err := t.proc.TaskStatus(pid, tid)
		if err != nil {
			continue
		}
		s, err := t.proc.Sched(pid, tid)
		if err != nil || s.ExecStart < 0 {
			continue
		}
		if offset, ok := clocks.of(st.Processor); ok {
			t.naps[tid] = nap{s.ExecStart + offset, status.VoluntarySwitches}
		}
	}
}

// queueClocks are the clocks of the run queues. Each CPU has its own, which
// does not count the time that interrupts and the hypervisor took (rq_clock_task
// of kernel/sched/core.c), so that they drift apart by seconds in an hour.
type queueClocks struct {
	tree   *Tree
	offset map[int]int64 // by CPU: CLOCK_MONOTONIC minus the queue's clock, now
	old    *unix.CPUSet  // the affinity of this thread, while it wanders
}

// of reads the clock of a CPU by running on it for a moment.
func (q *queueClocks) of(cpu int) (int64, bool) {
	if offset, ok := q.offset[cpu]; ok {
		return offset, offset != 0
	}
	q.offset[cpu] = 0
	if q.old == nil {
		runtime.LockOSThread()
		q.old = new(unix.CPUSet)
		if err := unix.SchedGetaffinity(0, q.old); err != nil {
			return 0, false
		}
	}
	var set unix.CPUSet
	set.Set(cpu)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return 0, false
	}
	tid := unix.Gettid()
	own, err := q.tree.proc.Sched(tid, tid)
	now, err2 := namespace.Monotonic()
	if err != nil || err2 != nil || own.ExecStart < 0 {
		return 0, false
	}
	q.offset[cpu] = now - own.ExecStart
	return q.offset[cpu], true
}

func (q *queueClocks) close() {
	if q.old != nil {
		_ = unix.SchedSetaffinity(0, q.old)
		runtime.UnlockOSThread()
	}
}

// slept works out how long each stopped thread had been asleep, ns. A thread
// that ran between prepare and the stop has switched more often than the stop
// itself accounts for; of it nothing is known, and 0 is a safe answer: its
// call takes a little longer.
func (f *Frozen) slept() map[int]int64 {
	out := map[int]int64{}
	now, err := namespace.Monotonic()
	if err != nil {
		return out
	}
	for _, p := range f.processes {
		for i, t := range p.threads {
			if i >= len(p.tasks) {
				break
			}
			n, ok := f.tree.naps[t.TID]
			if ok && p.tasks[i].VoluntarySwitches <= n.switches+1 {
				out[t.TID] = max(now-n.since, 0)
			}
		}
	}
	return out
}
