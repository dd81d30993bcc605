package engine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/wakepoint/wakepoint/internal/abi"
	"github.com/wakepoint/wakepoint/internal/image"
	"github.com/wakepoint/wakepoint/internal/setting"
	"github.com/wakepoint/wakepoint/internal/sys"
	"github.com/wakepoint/wakepoint/internal/tape"
	"github.com/wakepoint/wakepoint/internal/tracee"
)

// threadFlags make a thread (pthread_create's, without the TLS and the
// addresses that are set afterwards).
const threadFlags = unix.CLONE_VM | unix.CLONE_FS | unix.CLONE_FILES | unix.CLONE_SIGHAND | unix.CLONE_THREAD | unix.CLONE_SYSVSEM

// createThreads creates the threads beside the leaders, with their numbers.
func (r *restorer) createThreads() error {
	for _, b := range r.order {
		if b.image.Zombie {
			continue
		}
		for i := range b.image.Threads[1:] {
			if err := r.clone(b, threadFlags, 0, b.image.Threads[i+1].TID); err != nil {
				return err
			}
		}
		if err := r.collectThreads(b); err != nil {
			return fmt.Errorf("threads of process %d: %w", b.ns, err)
		}
	}
	return nil
}

// collectThreads finds the new threads by their numbers inside.
func (r *restorer) collectThreads(b *builtProcess) error {
	if len(b.image.Threads) == 1 {
		return nil
	}
	tids, err := r.proc.Tasks(b.pid)
	if err != nil {
		return err
	}
	found := map[int]*tracee.Thread{}
	for _, tid := range tids {
		if tid == b.pid {
			continue
		}
		t, err := r.adoptThread(tid)
		if err != nil {
			return err
		}
		st, err := r.proc.TaskStatus(b.pid, tid)
		if err != nil {
			return err
		}
		t.TGID, t.NSTGID, t.NSTID = b.pid, b.ns, last(st.NSpid, tid)
		found[t.NSTID] = t
	}
	for _, th := range b.image.Threads[1:] {
		t := found[th.TID]
		if t == nil {
			return fmt.Errorf("thread %d: %w", th.TID, os.ErrProcessDone)
		}
		b.threads = append(b.threads, t)
	}
	return nil
}

// setProcesses sets what is the process's.
func (r *restorer) setProcesses() error {
	for _, b := range r.order {
		if b.image.Zombie {
			continue
		}
		if err := r.primeAll(b); err != nil {
			return fmt.Errorf("process %d: %w", b.ns, err)
		}
		passed, err := r.sinceImage()
		if err != nil {
			return err
		}
		if _, err := b.leader().Play(&b.space, r.planProcess(b.image, passed)); err != nil {
			return fmt.Errorf("process %d: %w", b.ns, err)
		}
		if err := r.fromOutside(b); err != nil {
			return fmt.Errorf("process %d: %w", b.ns, err)
		}
	}
	return r.stopProcesses()
}

// planProcess is the tape of setProcesses. Since the image was taken passed ns
// have gone by on the monotonic clock.
func (r *restorer) planProcess(p *image.Process, passed int64) *tape.Tape {
	nr := &r.arch.NR
	tp := new(tape.Tape)
	for _, a := range p.Actions {
		if a.Signal == int(unix.SIGKILL) || a.Signal == int(unix.SIGSTOP) {
			continue
		}
		tp.Add("rt_sigaction", nr.RtSigaction, tape.N(a.Signal), tape.At(tp.Bytes(a.Raw), 0), tape.N(0), tape.N(8))
	}
	tp.Add("umask", nr.Umask, tape.N(p.Umask))
	tp.Add("chdir "+p.Cwd, nr.Chdir, tp.String(r.path(p.Cwd))) // a path of the tree's root, not of its own
	if p.Root != "/" {
		tp.Add("chroot", nr.Chroot, tp.String(r.path(p.Root)))
	}
	if p.Subreaper {
		tp.Add("prctl", nr.Prctl, tape.N(unix.PR_SET_CHILD_SUBREAPER), tape.N(1))
	}
	if p.THPDisable {
		tp.Add("prctl", nr.Prctl, tape.N(unix.PR_SET_THP_DISABLE), tape.N(1), tape.N(0), tape.N(0), tape.N(0))
	}
	setting.Plan(tp, nr.Prctl, p.Settings)
	for set := p.Barriers; set != 0; set &= set - 1 {
		tp.Add("membarrier", nr.Membarrier, tape.N(set&-set), tape.N(0))
	}
	r.planGuards(tp, &r.tree.Spaces[p.Space])
	r.planLocked(tp, &r.tree.Spaces[p.Space])
	if p.LockFuture != 0 {
		tp.Add("mlockall", nr.Mlockall, tape.N(p.LockFuture))
	}
	r.planTimers(tp, p, passed)
	return tp
}

// planGuards makes guard pages again, before anything is locked: what is
// locked can have none (mm/madvise.c, is_valid_guard_vma).
func (r *restorer) planGuards(tp *tape.Tape, s *image.Space) {
	for _, g := range s.Guards {
		tp.Add("madvise (guard pages)", r.arch.NR.Madvise, tape.N(uint64(g.Start)), tape.N(uint64(g.End-g.Start)), tape.N(guardInstall))
	}
}

const guardInstall = 102 // MADV_GUARD_INSTALL, Linux 6.13

func (r *restorer) planLocked(tp *tape.Tape, s *image.Space) {
	for _, a := range s.Areas {
		if a.Locked {
			how := 0
			if a.LockOnFault {
				how = 1 // MLOCK_ONFAULT
			}
			lock := tp.Add
			if slices.ContainsFunc(s.Guards, func(g image.Span) bool { return a.Start < g.End && g.Start < a.End }) {
				lock = tp.Try // it locks, and says that it could not fill all of it
			}
			lock("mlock2", r.arch.NR.Mlock2, tape.N(uint64(a.Start)), tape.N(uint64(a.End-a.Start)), tape.N(how))
		}
	}
}

// planTimers makes the timers. Their ids are given out in order, so that those
// between are made and deleted.
func (r *restorer) planTimers(tp *tape.Tape, p *image.Process, passed int64) {
	nr := &r.arch.NR
	for which, t := range p.Itimers {
		if t != (image.Interval{}) {
			if t.Value == [2]int64{} { // its signal is pending, or it is less than a microsecond
				t.Value = t.Every
			}
			if which == 0 { // ITIMER_REAL; the others count processor time
				t = t.After(passed, 1e6)
			}
			d := tp.Words(uint64(t.Every[0]), uint64(t.Every[1]), uint64(t.Value[0]), uint64(t.Value[1]))
			tp.Add("setitimer", nr.Setitimer, tape.N(which), tape.At(d, 0), tape.N(0))
		}
	}
	list := slices.SortedFunc(slices.Values(p.Timers), func(a, b image.Timer) int { return a.ID - b.ID })
	next := 0
	for _, t := range list {
		id := tp.Space(8)
		for ; next < t.ID; next++ {
			tp.Add("timer_create", nr.TimerCreate, tape.N(unix.CLOCK_MONOTONIC), tape.At(sigevent(tp, image.Timer{Notify: 1}), 0), tape.At(id, 0))
			tp.Add("timer_delete", nr.TimerDelete, tape.N(next))
		}
		next++
		clock := t.Clock
		switch clock {
		case -6:
			clock = unix.CLOCK_PROCESS_CPUTIME_ID
		case -2:
			clock = unix.CLOCK_THREAD_CPUTIME_ID
		}
		tp.Add("timer_create", nr.TimerCreate, tape.N(clock), tape.At(sigevent(tp, t), 0), tape.At(id, 0))
		s := t.Setting
		if clock >= 0 && clock != unix.CLOCK_PROCESS_CPUTIME_ID && clock != unix.CLOCK_THREAD_CPUTIME_ID {
			s = s.After(passed, 1e9)
		}
		d := tp.Words(uint64(s.Every[0]), uint64(s.Every[1]), uint64(s.Value[0]), uint64(s.Value[1]))
		tp.Add("timer_settime", nr.TimerSettime, tape.N(t.ID), tape.N(0), tape.At(d, 0), tape.N(0))
	}
}

// sigevent is struct sigevent (64 bytes).
func sigevent(tp *tape.Tape, t image.Timer) tape.Data {
	b := make([]byte, 64)
	binary.LittleEndian.PutUint64(b, t.Value)
	binary.LittleEndian.PutUint32(b[8:], uint32(t.Signal))
	binary.LittleEndian.PutUint32(b[12:], uint32(t.Notify))
	binary.LittleEndian.PutUint32(b[16:], uint32(t.Target))
	return tp.Bytes(b)
}

// fromOutside sets what can be set without the process's help.
func (r *restorer) fromOutside(b *builtProcess) error {
	p := b.image
	for i, l := range p.Limits {
		want := unix.Rlimit{Cur: l.Soft, Max: l.Hard}
		var now unix.Rlimit
		if err := unix.Prlimit(b.pid, i, nil, &now); err != nil {
			return err
		}
		if now != want {
			if err := unix.Prlimit(b.pid, i, &want, nil); err != nil {
				return fmt.Errorf("limit %d (%d, %d): %w", i, l.Soft, l.Hard, err)
			}
		}
	}
	write := func(name string, now, want int, format string) error {
		if now == want {
			return nil
		}
		return os.WriteFile(fmt.Sprintf("/proc/%d/%s", b.pid, name), fmt.Appendf(nil, format, want), 0)
	}
	adj, err := r.proc.OOMScoreAdj(b.pid)
	if err != nil {
		return err
	}
	if err := write("oom_score_adj", adj, p.OOMScoreAdj, "%d"); err != nil {
		return err
	}
	if err := write("autogroup", 0, p.Autogroup, "%d"); err != nil {
		return err
	}
	if filter, err := r.proc.CoredumpFilter(b.pid); err == nil {
		return write("coredump_filter", int(filter), p.CoreFilter, "%#x")
	}
	return nil
}

// endZombies ends those that were zombies, with their status.
func (r *restorer) endZombies() error {
	for i := len(r.order) - 1; i >= 0; i-- {
		b := r.order[i]
		if !b.image.Zombie {
			continue
		}
		if err := r.endZombie(b); err != nil {
			return fmt.Errorf("process %d: %w", b.ns, err)
		}
		_ = b.space.Mem.Close()
		b.space.Mem = nil
		b.threads = nil
	}
	return nil
}

// endZombie has a process end as it did. That it dumped core (bit 7 of its
// status) is not told again: the kernel says so of none that did not dump one
// (vfs_coredump), and where that goes is the host's affair.
func (r *restorer) endZombie(b *builtProcess) error {
	t, sig := b.leader(), b.image.ExitCode&0x7f
	if sig == 0 {
		return t.End(r.arch.NR.ExitGroup, b.image.ExitCode>>8, 0, b.space.Gate)
	}
	var tp tape.Tape
	tp.Add("prctl", r.arch.NR.Prctl, tape.N(unix.PR_SET_DUMPABLE), tape.N(0))
	if _, err := t.Play(&b.space, &tp); err != nil {
		return err
	}
	if err := t.SetMask(0); err != nil { // it was born on a tape, with everything blocked
		return err
	}
	_ = unix.Kill(b.pid, unix.Signal(sig))
	if sig == int(unix.SIGKILL) {
		t.Reap()
		return nil
	}
	return t.End(r.arch.NR.ExitGroup, 0, sig, b.space.Gate)
}

// setThreads sets what is the thread's: last of all who it is, since that may
// take away the right to do anything else.
func (r *restorer) setThreads() error {
	for _, b := range r.order {
		for i, t := range b.threads {
			th := &b.image.Threads[i]
			if err := r.scheduleThread(t, th); err != nil {
				return fmt.Errorf("thread %d: %w", th.TID, err)
			}
			tp := r.planThread(b.image, i)
			if _, err := t.Play(&b.space, tp); err != nil {
				return fmt.Errorf("thread %d: %w", th.TID, err)
			}
			t.Forget()
		}
	}
	return nil
}

func (r *restorer) planThread(p *image.Process, i int) *tape.Tape {
	nr, th := &r.arch.NR, &p.Threads[i]
	tp := new(tape.Tape)
	tp.Add("prctl", nr.Prctl, tape.N(unix.PR_SET_NAME), tp.String(th.Name))
	tp.Add("set_tid_address", nr.SetTidAddress, tape.N(th.ClearTID))
	if th.RobustHead != 0 {
		tp.Add("set_robust_list", nr.SetRobustList, tape.N(th.RobustHead), tape.N(th.RobustSize))
	}
	if th.Rseq.Pointer != 0 {
		tp.Add("rseq", nr.Rseq, tape.N(th.Rseq.Pointer), tape.N(th.Rseq.Size), tape.N(0), tape.N(th.Rseq.Signature))
	}
	const ssOnStack = 1
	alt := make([]byte, 24)
	binary.LittleEndian.PutUint64(alt, th.AltStack.SP)
	binary.LittleEndian.PutUint32(alt[8:], th.AltStack.Flags&^ssOnStack)
	binary.LittleEndian.PutUint64(alt[16:], th.AltStack.Size)
	tp.Add("sigaltstack", nr.Sigaltstack, tape.At(tp.Bytes(alt), 0), tape.N(0))
	if th.Personality != 0 {
		tp.Add("personality", nr.Personality, tape.N(th.Personality))
	}
	tp.Add("prctl", nr.Prctl, tape.N(unix.PR_SET_TIMERSLACK), tape.N(th.Slack))
	setting.Plan(tp, nr.Prctl, th.Settings)
	if len(th.MemPolicy) > 8 { // a machine without these nodes takes memory anywhere
		tp.Try("set_mempolicy", nr.SetMempolicy, tape.N(binary.LittleEndian.Uint32(th.MemPolicy)), tape.At(tp.Bytes(th.MemPolicy), 8), tape.N(nodesMax))
	}
	r.planSignals(tp, p, i)
	setting.PlanCreds(tp, &r.arch.NR, &r.own, p, i)
	return tp
}

// planSignals throws away what the building caused (SIGCHLD) and queues what
// was pending. The tape has all of them blocked.
func (r *restorer) planSignals(tp *tape.Tape, p *image.Process, i int) {
	nr := &r.arch.NR
	set, zero, info := tp.Words(1<<(unix.SIGCHLD-1)), tp.Words(0, 0), tp.Space(sys.SiginfoSize)
	if i == 0 {
		for range p.Threads {
			tp.Try("rt_sigtimedwait", nr.RtSigtimedwait, tape.At(set, 0), tape.At(info, 0), tape.At(zero, 0), tape.N(8))
		}
		for _, s := range p.Pending {
			tp.Add("rt_sigqueueinfo", nr.RtSigqueueinfo, tape.N(p.PID), tape.N(signalOf(s)), tape.At(tp.Bytes(s), 0))
		}
	}
	for _, s := range p.Threads[i].Pending {
		tp.Add("rt_tgsigqueueinfo", nr.RtTgsigqueueinfo, tape.N(p.PID), tape.N(p.Threads[i].TID), tape.N(signalOf(s)), tape.At(tp.Bytes(s), 0))
	}
}

func signalOf(info []byte) int { return int(int32(binary.LittleEndian.Uint32(info))) }

// scheduleThread sets from outside how and where a thread runs.
func (r *restorer) scheduleThread(t *tracee.Thread, th *image.Thread) error {
	s := th.Sched
	now, err := unix.SchedGetAttr(t.TID, 0)
	if err != nil {
		return err
	}
	want := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: s.Policy, Flags: s.Flags, Nice: s.Nice, Priority: s.Priority,
		Runtime: s.Runtime, Deadline: s.Deadline, Period: s.Period}
	if now.Policy != want.Policy || now.Nice != want.Nice || now.Priority != want.Priority || now.Flags != want.Flags || now.Runtime != want.Runtime {
		if err := unix.SchedSetAttr(t.TID, &want, 0); err != nil {
			return fmt.Errorf("scheduling: %w", err)
		}
	}
	var set, have unix.CPUSet
	for i, w := range s.Affinity {
		for ; w != 0; w &= w - 1 {
			set.Set(i*64 + bits.TrailingZeros64(w))
		}
	}
	if err := unix.SchedGetaffinity(t.TID, &have); err != nil {
		return err
	}
	if set != have {
		// A machine without these CPUs lets it run anywhere.
		if err := unix.SchedSetaffinity(t.TID, &set); err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("affinity: %w", err)
		}
	}
	if prio, err := sys.Ioprio(t.TID); err == nil && prio != th.Ioprio {
		if err := sys.SetIoprio(t.TID, th.Ioprio); err != nil {
			return fmt.Errorf("ioprio: %w", err)
		}
	}
	return nil
}

// planFloat fits the extended state of every thread to this processor, before
// anything is built.
func (r *restorer) planFloat() error {
	here := make([]byte, floatMax)
	n, err := r.stub.leader().Float(here)
	if err != nil {
		return err
	}
	for i := range r.tree.Processes {
		p := &r.tree.Processes[i]
		for k := range p.Threads {
			th := &p.Threads[k]
			if th.Float, err = r.arch.FitFloat(th.Float, here[:n]); err != nil {
				return fmt.Errorf("thread %d: %w", th.TID, err)
			}
		}
	}
	return nil
}

// setRegisters is the last step: every thread gets its registers and mask.
func (r *restorer) setRegisters() error {
	for _, b := range r.order {
		for i, t := range b.threads {
			th := &b.image.Threads[i]
			var regs abi.Regs
			copy(regs[:], th.Regs)
			if done, ok := r.primed[t.TID]; ok {
				regs[r.arch.Result], regs[r.arch.Call] = done, ^uint64(0)
			}
			if err := errors.Join(t.SetFloat(th.Float), t.SetRegs(regs), t.SetMask(th.Mask)); err != nil {
				return fmt.Errorf("thread %d: %w", th.TID, err)
			}
		}
	}
	return nil
}
