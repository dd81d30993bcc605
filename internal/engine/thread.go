package engine

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/wakepoint/wakepoint/internal/image"
	"github.com/wakepoint/wakepoint/internal/procfs"
	"github.com/wakepoint/wakepoint/internal/setting"
	"github.com/wakepoint/wakepoint/internal/sys"
	"github.com/wakepoint/wakepoint/internal/tracee"
)

// floatMax is room for the largest extended state (AMX: 11 KiB).
const floatMax = 16 << 10

// thread describes one thread.
func (d *dumper) thread(p *process, i int, a *answers) (image.Thread, error) {
	t, st := p.threads[i], &p.tasks[i]
	th := image.Thread{TID: t.NSTID, Name: st.Name, ClearTID: a.threads[i].clearTID, AltStack: a.threads[i].altStack,
		Parent: a.threads[i].parent, Settings: a.threads[i].settings, MemPolicy: a.threads[i].memPolicy}
	if a.threads[i].keyring {
		_ = d.f.note(refuse(p.pid, fmt.Sprintf("thread %d of pid %d has a keyring of its own", t.TID, p.pid), "let it use the session's keyring (keyctl @s)"))
	}
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
	th.Creds = setting.CredsOf(st)
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
