package engine

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/wakepoint/wakepoint/internal/abi"
	"github.com/wakepoint/wakepoint/internal/image"
	"github.com/wakepoint/wakepoint/internal/procfs"
	"github.com/wakepoint/wakepoint/internal/sys"
	"github.com/wakepoint/wakepoint/internal/tracee"
)

// floatMax is room for the largest extended state (AMX: 11 KiB).
const floatMax = 16 << 10

// thread describes one thread.
func (d *dumper) thread(p *process, i int, a *answers) (image.Thread, error) {
	t, st := p.threads[i], &p.tasks[i]
	th := image.Thread{TID: t.NSTID, Name: st.Name, ClearTID: a.threads[i].clearTID, AltStack: a.threads[i].altStack,
		Parent: a.threads[i].parent}
	regs, err := t.Regs()
	if err != nil {
		return th, err
	}
	if err := d.interrupted(t, &regs, &th); err != nil {
		return th, err
	}
	th.Regs = append([]uint64(nil), regs[:d.f.tree.arch.RegWords]...)
	buf := make([]byte, floatMax)
	n, err := t.Float(buf)
	if err != nil {
		return th, err
	}
	th.Float = append([]byte(nil), buf[:n]...)
	if th.Mask, err = t.Mask(); err != nil {
		return th, err
	}
	if th.Pending, err = pending(t, false); err != nil {
		return th, err
	}
	if th.RobustHead, th.RobustSize, err = sys.RobustList(t.TID); err != nil {
		return th, fmt.Errorf("robust list of thread %d: %w", t.TID, err)
	}
	if r, err := t.Rseq(); err == nil {
		th.Rseq = image.Rseq{Pointer: r.Pointer, Size: r.Size, Signature: r.Signature}
	}
	if err := d.scheduling(p, t, st, &th); err != nil {
		return th, err
	}
	th.Creds = creds(st)
	th.Creds.SecureBits = uint32(a.threads[i].secureBits)
	th.Creds.KeepCaps = a.threads[i].keepCaps
	return th, nil
}

// pending reads a queue of signals, without those of SIGSTOP's kind that a
// freeze may leave.
func pending(t *tracee.Thread, shared bool) ([][]byte, error) {
	infos, err := t.Pending(shared)
	if err != nil {
		return nil, err
	}
	var out [][]byte
	for i := range infos {
		out = append(out, append([]byte(nil), infos[i][:]...))
	}
	return out, nil
}

// scheduling reads how and where a thread is scheduled.
func (d *dumper) scheduling(p *process, t *tracee.Thread, st *procfs.Status, th *image.Thread) error {
	attr, err := unix.SchedGetAttr(t.TID, 0)
	if err != nil {
		return fmt.Errorf("scheduling of thread %d: %w", t.TID, err)
	}
	th.Sched = image.Sched{Policy: attr.Policy, Flags: attr.Flags, Nice: attr.Nice, Priority: attr.Priority,
		Runtime: attr.Runtime, Deadline: attr.Deadline, Period: attr.Period}
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(t.TID, &set); err != nil {
		return fmt.Errorf("affinity of thread %d: %w", t.TID, err)
	}
	for _, w := range set {
		th.Sched.Affinity = append(th.Sched.Affinity, uint64(w))
	}
	if th.Slack, err = d.proc.TimerSlack(t.TID); err != nil {
		return err
	}
	if th.Ioprio, err = sys.Ioprio(t.TID); err != nil {
		return fmt.Errorf("ioprio of thread %d: %w", t.TID, err)
	}
	th.Personality, err = d.proc.Personality(p.pid, t.TID)
	return err
}

// interrupted looks at a system call that the freeze broke off.
//
// Most calls ask the kernel for a restart and get it at the thaw; with a
// relative time-out the kernel keeps the rest in a restart block, which a
// restore must prime again: Restart says with what. A few calls return EINTR
// although no handler ran (signal(7), "interruption of system calls by stop
// signals"); those are rewound, with what is left of their time-out, so that
// the program sees nothing of the freeze.
func (d *dumper) interrupted(t *tracee.Thread, r *abi.Regs, th *image.Thread) error {
	arch := d.f.tree.arch
	call := int(int64(r[arch.Call]))
	if call < 0 {
		return nil
	}
	var args [6]uint64
	for i, k := range arch.Args {
		args[i] = r[k]
	}
	if arch.RestartKind(r) == abi.ErestartRestart {
		th.Restart = &image.Restart{Call: call, Args: args, Slept: d.slept(t)}
		return nil
	}
	if int64(r[arch.Result]) != -int64(unix.EINTR) || !spurious(arch, call) {
		return nil
	}
	if call == arch.NR.EpollWait || call == arch.NR.EpollPwait {
		if ms := int32(args[3]); ms > 0 {
			left := int64(ms) - d.slept(t)/1e6
			r[arch.Args[3]] = uint64(max(left, 0))
		}
	}
	r[arch.IP] -= uint64(arch.InsnLen)
	r[arch.Result] = uint64(call)
	r[arch.Call] = ^uint64(0)
	return t.SetRegs(*r)
}

// spurious lists the calls that return EINTR after a stop.
func spurious(arch *abi.Arch, call int) bool {
	switch call {
	case abi.NoCall:
		return false
	case arch.NR.EpollWait, arch.NR.EpollPwait, arch.NR.EpollPwait2, arch.NR.Semop, arch.NR.Semtimedop,
		arch.NR.RtSigtimedwait, arch.NR.Recvfrom, arch.NR.Recvmsg, arch.NR.IoGetevents:
		return true
	}
	return false
}

// slept is how long a thread had been off the CPU when it was stopped, ns.
func (d *dumper) slept(t *tracee.Thread) int64 {
	if ns, ok := d.f.asleep[t.TID]; ok {
		return ns
	}
	return 0
}
