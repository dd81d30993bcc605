package engine

import (
	"os"

	"golang.org/x/sys/unix"

	"github.com/wakepoint/wakepoint/internal/procfs"
)

// nap is when a thread was last seen falling asleep.
type nap struct {
	execStart int64 // its run queue's clock, ns
	switches  uint64
}

// prepare does before the freeze what need not be done in it: it notes since
// when each thread sleeps, which the stop itself overwrites (se.exec_start of
// /proc/TID/sched).
func (t *Tree) prepare() error {
	roots, err := t.roots()
	if err != nil {
		return gone(err)
	}
	t.naps, t.smaps = map[int]nap{}, map[int][]procfs.MappingUse{}
	for _, root := range roots {
		for _, pid := range descendants(t.proc, root) {
			t.noteNaps(pid)
			if m, err := t.proc.Smaps(pid); err == nil {
				t.smaps[pid] = m
			}
		}
	}
	return nil
}

func (t *Tree) noteNaps(pid int) {
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
		if s, err := t.proc.Sched(pid, tid); err == nil && s.ExecStart >= 0 {
			t.naps[tid] = nap{s.ExecStart, status.VoluntarySwitches}
		}
	}
}

// slept works out how long each stopped thread had been asleep, ns. A thread
// that ran between prepare and the stop has switched more often than the stop
// itself accounts for; of it nothing is known, and 0 is a safe answer: its
// call takes a little longer.
func (f *Frozen) slept() map[int]int64 {
	out := map[int]int64{}
	own, err := f.tree.proc.Sched(os.Getpid(), unix.Gettid())
	if err != nil || own.ExecStart < 0 {
		return out
	}
	for _, p := range f.processes {
		for i, t := range p.threads {
			if i >= len(p.tasks) {
				break
			}
			n, ok := f.tree.naps[t.TID]
			if ok && p.tasks[i].VoluntarySwitches <= n.switches+1 {
				out[t.TID] = max(own.ExecStart-n.execStart, 0)
			}
		}
	}
	return out
}
