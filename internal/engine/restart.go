package engine

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wakepoint/wakepoint/internal/abi"
	"github.com/wakepoint/wakepoint/internal/image"
	"github.com/wakepoint/wakepoint/internal/namespace"
	"github.com/wakepoint/wakepoint/internal/tracee"
)

// broken is a call that a freeze broke off. When it goes on by the kernel's
// restart block the thread sits in restart_syscall(2) from then on, and nothing
// tells any more which call it was, or how long it still may take.
type broken struct {
	call     int
	args     [6]uint64 // as they were left
	ip, sp   uint64
	deadline int64 // CLOCK_MONOTONIC as this process sees it, ns; 0: none
}

// callMark stands in the upper half of the number of a call that was begun
// again. The kernel looks at the lower half only (do_syscall_64 takes an int)
// and the result overwrites it: the next freeze knows by it that this is still
// the same call, and the program never sees it.
const callMark = 0x77616b65 << 32

// interrupted looks at a system call that the freeze broke off.
//
// Most calls ask the kernel for a restart and get it at the thaw. Those with a
// relative time-out keep the rest in a restart block, which a restore must
// prime again. Others return EINTR although no handler ran (signal(7),
// "interruption of system calls by stop signals", and whatever has a time-out
// of its socket): of them a restart is asked for that the kernel makes only
// where no handler runs (ERESTARTNOHAND), so that the program sees nothing of
// the freeze and does not miss a signal either.
//
// Where the time-out of such a call is no register it begins again with all of
// it, and the first freeze after its end ends it.
func (d *dumper) interrupted(t *tracee.Thread, r *abi.Regs, th *image.Thread) error {
	arch := d.f.tree.arch
	call := int(int32(r[arch.Call]))
	switch {
	case call < 0:
		return nil
	case arch.RestartKind(r) == abi.ErestartRestart:
		return d.blocked(t, r, th)
	case !d.f.broke[t.TID]:
		return nil
	}
	delete(d.f.broke, t.TID)
	if err := d.limited(d.f.byPID[t.TGID], t, r, th); err != nil {
		return err
	}
	return t.SetRegs(*r)
}

// brokeOff looks at a thread that has just stopped: what would return EINTR is
// made again, also if we die at once.
func (f *Frozen) brokeOff(t *tracee.Thread) error {
	arch := f.tree.arch
	delete(f.broke, t.TID)
	r, err := t.Regs()
	if call := int(int32(r[arch.Call])); err != nil || call < 0 || int64(r[arch.Result]) != -int64(unix.EINTR) || call == arch.NR.Close {
		return err
	}
	r[arch.Result] = ^uint64(abi.ErestartNoHand - 1)
	f.broke[t.TID] = true
	return t.SetRegs(r)
}

// settle does for a thread that is let go undescribed what interrupted does:
// a freeze that gave up makes no call longer.
func (f *Frozen) settle(p *process, t *tracee.Thread) error {
	if !f.broke[t.TID] {
		return nil
	}
	delete(f.broke, t.TID)
	r, err := t.Regs()
	if err != nil {
		return err
	}
	d := dumper{f: f}
	if err := d.limited(p, t, &r, &image.Thread{}); err != nil {
		return err
	}
	return t.SetRegs(r)
}

// memory is the memory of a process, also of one that was not looked at yet.
func (p *process) memory() (*os.File, error) {
	if p.space != nil && p.space.space.Mem != nil {
		return p.space.space.Mem, nil
	}
	var err error
	if p.mem == nil {
		p.mem, err = os.OpenFile(fmt.Sprintf("/proc/%d/mem", p.pid), os.O_RDWR, 0)
	}
	return p.mem, err
}

// slept is how long a thread had been asleep when it was stopped, ns.
func (d *dumper) slept(t *tracee.Thread) int64 { return d.f.asleep[t.TID] }

// note makes a note of the call that a thread is in.
func (d *dumper) note(t *tracee.Thread, r *abi.Regs) (b, old broken, now int64, err error) {
	arch := d.f.tree.arch
	b = broken{call: int(int32(r[arch.Call])), ip: r[arch.IP], sp: r[arch.SP]}
	for i, k := range arch.Args {
		b.args[i] = r[k]
	}
	old = d.f.tree.broken[t.TID]
	if old.ip != b.ip || old.sp != b.sp || old.args != b.args {
		old = broken{}
	}
	now, err = namespace.Monotonic()
	return b, old, now, err
}

// blocked describes a call with a restart block.
func (d *dumper) blocked(t *tracee.Thread, r *abi.Regs, th *image.Thread) error {
	arch := d.f.tree.arch
	mem := d.f.byPID[t.TGID].space.space.Mem
	b, old, now, err := d.note(t, r)
	if err != nil {
		return err
	}
	if b.call != arch.NR.RestartSyscall {
		old = broken{}
	} else if b.call = old.call; b.call == 0 {
		b.call = arch.GuessCall(mem, b.ip, &b.args)
	}
	th.Restart = &image.Restart{Call: b.call, Args: b.args, Left: -1}
	if timeout, has := arch.Timeout(mem, b.call, &b.args); has {
		left := timeout - d.slept(t)
		if rest, ok := arch.Rest(mem, b.call, &b.args); ok {
			left = rest // the kernel has said
		} else if old.deadline > now {
			left = old.deadline - now
		}
		th.Restart.Left = max(left, 0)
		b.deadline = now + th.Restart.Left
	}
	d.f.tree.broken[t.TID] = b
	return nil
}

// limited takes care of the time-out of a call that is made again, or ends it
// when its time is up.
func (d *dumper) limited(p *process, t *tracee.Thread, r *abi.Regs, th *image.Thread) error {
	arch := d.f.tree.arch
	b, old, now, err := d.note(t, r)
	if err != nil {
		return err
	}
	mem, err := p.memory()
	if err != nil {
		return err
	}
	if old.call == b.call && r[arch.Call]>>32 == callMark>>32 {
		b.deadline = old.deadline
	} else {
		timeout, has := d.limit(p, mem, &b)
		if !has {
			return nil
		}
		b.deadline = now + timeout - d.slept(t)
	}
	left := max(b.deadline-now, 0)
	if b.call == arch.NR.EpollWait || b.call == arch.NR.EpollPwait {
		b.args[3] = uint64((left + 999999) / 1e6)
		r[arch.Args[3]] = b.args[3]
	} else if left == 0 {
		r[arch.Result], r[arch.Call] = arch.TimedOut(b.call), ^uint64(0)
		return arch.NothingReady(mem, b.call, &b.args)
	}
	r[arch.Call] = uint64(b.call) | callMark
	d.f.tree.broken[t.TID] = b
	th.Restart = &image.Restart{Call: b.call, Args: b.args, Left: left}
	return nil
}

// limit is the time-out of a call that does not go on by itself, ns.
func (d *dumper) limit(p *process, mem io.ReaderAt, b *broken) (ns int64, has bool) {
	nr := &d.f.tree.arch.NR
	at := func(k int) (int64, bool) {
		if b.args[k] == 0 {
			return 0, false
		}
		return abi.Timespec(mem, b.args[k])
	}
	switch b.call {
	case nr.EpollWait, nr.EpollPwait:
		ms := int64(int32(b.args[3]))
		return ms * 1e6, ms >= 0
	case nr.RtSigtimedwait, nr.Ppoll:
		return at(2)
	case nr.EpollPwait2, nr.Semtimedop:
		return at(3)
	case nr.Pselect6, nr.IoGetevents:
		return at(4)
	case nr.Recvmmsg:
		if ns, has := at(4); has {
			return ns, true
		}
		return socketLimit(p.pid, int(int32(b.args[0])), unix.SO_RCVTIMEO)
	case nr.Read, nr.Readv, nr.Recvfrom, nr.Recvmsg, nr.Accept, nr.Accept4:
		return socketLimit(p.pid, int(int32(b.args[0])), unix.SO_RCVTIMEO)
	case nr.Write, nr.Writev, nr.Sendto, nr.Sendmsg, nr.Connect:
		return socketLimit(p.pid, int(int32(b.args[0])), unix.SO_SNDTIMEO)
	}
	return 0, false
}

// socketLimit reads the time-out of a socket of another process, ns.
func socketLimit(pid, fd, option int) (int64, bool) {
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return 0, false
	}
	defer unix.Close(pidfd)
	dup, err := unix.PidfdGetfd(pidfd, fd, 0)
	if err != nil {
		return 0, false
	}
	defer unix.Close(dup)
	tv, err := unix.GetsockoptTimeval(dup, unix.SOL_SOCKET, option)
	if err != nil || tv.Nano() == 0 {
		return 0, false
	}
	return tv.Nano(), true
}

// primeAll starts again the calls that sleep by a restart block, with the time
// that was left, and breaks them off at once: the kernel then has the block.
func (r *restorer) primeAll(b *builtProcess) error {
	for i, t := range b.threads {
		th := &b.image.Threads[i]
		if th.Restart == nil || -int64(th.Regs[r.arch.Result]) != abi.ErestartRestart {
			continue
		}
		args, err := r.restartArgs(b, th.Restart)
		if err != nil {
			return err
		}
		result, err := t.Prime(b.space.Gate, th.Restart.Call, args, time.Now().Add(5*time.Second))
		if err != nil {
			return fmt.Errorf("thread %d: go on with an interrupted call: %w", th.TID, err)
		}
		if -int64(result) != abi.ErestartRestart {
			r.primed[t.TID] = result // it ended at once
		}
	}
	return nil
}

// restartArgs are the arguments of an interrupted call with what was left of
// its relative time-out.
func (r *restorer) restartArgs(b *builtProcess, s *image.Restart) ([6]uint64, error) {
	nr, args := &r.arch.NR, s.Args
	if s.Left < 0 {
		return args, nil
	}
	now, err := r.sinceImage()
	if err != nil {
		return args, err
	}
	left := max(s.Left-now, 0)
	at := 0
	switch s.Call {
	case nr.Poll:
		args[2] = uint64((left + 999999) / 1e6)
		return args, nil
	case nr.ClockNanosleep:
		at = 2
	case nr.Futex:
		at = 3
	}
	var ts [16]byte
	binary.LittleEndian.PutUint64(ts[:], uint64(left/1e9))
	binary.LittleEndian.PutUint64(ts[8:], uint64(left%1e9))
	args[at] = uint64(r.shop.base) + shopPad + shopTimespec
	_, err = b.space.Mem.WriteAt(ts[:], int64(args[at]))
	return args, err
}

// shopTimespec is where the time-out of a primed call stands, from shopPad on.
const shopTimespec = 0xf00

// sinceImage is how much time has passed on the tree's own monotonic clock
// since the image was taken, ns.
func (r *restorer) sinceImage() (int64, error) {
	now, err := namespace.Monotonic()
	if err != nil {
		return 0, err
	}
	theirs, err := namespace.Offsets(r.init.PID)
	if err != nil {
		return 0, err
	}
	ours, err := namespace.OwnOffsets()
	return max(now+theirs[0]-ours[0]-r.tree.Clock.Monotonic, 0), err
}

// breaks is what a restored tree remembers of its interrupted calls.
func (r *restorer) breaks() map[int]broken {
	out := map[int]broken{}
	now, err := namespace.Monotonic()
	passed, err2 := r.sinceImage()
	if err != nil || err2 != nil {
		return out
	}
	for _, b := range r.order {
		for i, t := range b.threads {
			th := &b.image.Threads[i]
			if th.Restart == nil {
				continue
			}
			n := broken{call: th.Restart.Call, args: th.Restart.Args, ip: th.Regs[r.arch.IP], sp: th.Regs[r.arch.SP]}
			if th.Restart.Left >= 0 {
				n.deadline = now - passed + th.Restart.Left
			}
			out[t.TID] = n
		}
	}
	return out
}
