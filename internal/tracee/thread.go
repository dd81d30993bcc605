package tracee

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wakepoint/wakepoint/internal/abi"
	"github.com/wakepoint/wakepoint/internal/sys"
)

// Thread is a seized thread. Its methods may be called on the tracer's OS
// thread only, and all but Interrupt and Poll only while it is stopped.
type Thread struct {
	TID     int
	TGID    int // of the caller's namespace
	NSTID   int // the numbers in the thread's own PID namespace
	NSTGID  int
	Arch    *abi.Arch
	Stopped bool
	Gone    bool
	Group   int // the stop signal when the thread is in a group-stop
	tr      *Tracer
	resend  []int // signals that arrived while a tape was playing
}

func (t *Thread) call(name string, f func() error) error {
	if err := t.tr.before(name); err != nil {
		return err
	}
	err := f()
	if errors.Is(err, unix.ESRCH) {
		err = ErrGone
	}
	if err != nil {
		return fmt.Errorf("%s thread %d: %w", name, t.TID, err)
	}
	return nil
}

// Seize attaches to a thread without stopping it.
func (tr *Tracer) Seize(a *abi.Arch, tid, options int) (*Thread, error) {
	t := &Thread{TID: tid, Arch: a, tr: tr}
	return t, t.call("seize", func() error { return sys.Seize(tid, options) })
}

// Attached makes a Thread of one that the kernel attached by itself
// (CLONE_PTRACE); it is stopping or stopped.
func (tr *Tracer) Attached(a *abi.Arch, tid int) *Thread {
	return &Thread{TID: tid, Arch: a, tr: tr}
}

// Interrupt asks the thread to stop; Poll says when it has.
func (t *Thread) Interrupt() error {
	return t.call("interrupt", func() error { return sys.Interrupt(t.TID) })
}

// Poll looks once whether the thread has come to its stop. A signal on its
// way is delivered: its handler's first instruction is then where the thread
// stops.
func (t *Thread) Poll() error {
	for !t.Stopped && !t.Gone {
		ws, ok, err := t.wait(unix.WNOHANG)
		if err != nil || !ok {
			return err
		}
		if err := t.take(ws); err != nil {
			return err
		}
	}
	return nil
}

func (t *Thread) take(ws unix.WaitStatus) error {
	switch {
	case ws.Exited() || ws.Signaled():
		t.Gone = true
	case !ws.Stopped():
	case int(ws)>>16 == sys.EventStop:
		t.Stopped = true
		if s := ws.StopSignal(); s != unix.SIGTRAP {
			t.Group = int(s)
		}
	case int(ws)>>16 != 0:
		return t.askAgain(0)
	default:
		return t.askAgain(int(ws.StopSignal()))
	}
	return nil
}

// askAgain lets a thread go on from a stop that is not the one that was asked
// for. Any stop takes back a pending PTRACE_INTERRUPT (kernel/signal.c,
// ptrace_stop: "any trap clears pending STOP trap"), so it must be repeated.
func (t *Thread) askAgain(sig int) error {
	if err := t.cont(sig); err != nil {
		return err
	}
	return t.Interrupt()
}

func (t *Thread) wait(flags int) (unix.WaitStatus, bool, error) {
	var ws unix.WaitStatus
	for {
		pid, err := unix.Wait4(t.TID, &ws, flags|unix.WALL, nil)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.ECHILD:
			t.Gone = true
			return 0, false, nil
		case err != nil:
			return 0, false, fmt.Errorf("wait for thread %d: %w", t.TID, err)
		}
		return ws, pid == t.TID, nil
	}
}

// WaitStop waits until the thread has stopped or ended, at most until the deadline.
func (t *Thread) WaitStop(deadline time.Time) error {
	for spin := 0; ; spin++ {
		if err := t.Poll(); err != nil {
			return err
		}
		if t.Gone {
			return ErrGone
		}
		if t.Stopped {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("thread %d: %w", t.TID, unix.ETIMEDOUT)
		}
		Pause(spin)
	}
}

// Pause waits a little, longer the more often it was called in a row. It
// sleeps in the kernel: the Go timers' grain of a millisecond is an age here.
func Pause(spin int) {
	if spin < 30 {
		_ = unix.Nanosleep(&unix.Timespec{}, nil) // yields
		return
	}
	ts := unix.NsecToTimespec(int64(min(10+spin, 500)) * 1000)
	_ = unix.Nanosleep(&ts, nil)
}

func (t *Thread) cont(sig int) error {
	t.Stopped = false
	return t.call("cont", func() error { return sys.Cont(t.TID, sig) })
}

// RunOn lets a stopped thread run for an instant and asks it to stop again.
func (t *Thread) RunOn() error {
	if err := t.cont(0); err != nil {
		return err
	}
	return t.Interrupt()
}

// Options sets the ptrace options.
func (t *Thread) Options(o int) error {
	return t.call("options", func() error { return sys.SetOptions(t.TID, o) })
}

// Detach lets the thread go on as if nothing had been.
func (t *Thread) Detach() error {
	err := t.call("detach", func() error { return sys.Detach(t.TID, 0) })
	t.Stopped = false
	for _, s := range t.resend {
		_ = unix.Tgkill(t.TGID, t.TID, unix.Signal(s))
	}
	t.resend = nil
	return err
}

// Regs reads the general registers.
func (t *Thread) Regs() (abi.Regs, error) {
	var r abi.Regs
	err := t.call("getregs", func() error { return sys.GetRegs(t.TID, r[:t.Arch.RegWords]) })
	return r, err
}

// SetRegs writes the general registers.
func (t *Thread) SetRegs(r abi.Regs) error {
	return t.call("setregs", func() error { return sys.SetRegs(t.TID, r[:t.Arch.RegWords]) })
}

// Float reads the extended state into buf and returns its length.
func (t *Thread) Float(buf []byte) (n int, err error) {
	err = t.call("getfloat", func() error { n, err = sys.GetRegset(t.TID, t.Arch.FloatSet, buf); return err })
	return n, err
}

// SetFloat writes the extended state.
func (t *Thread) SetFloat(buf []byte) error {
	return t.call("setfloat", func() error { return sys.SetRegset(t.TID, t.Arch.FloatSet, buf) })
}

// Mask reads the signal mask.
func (t *Thread) Mask() (m uint64, err error) {
	err = t.call("getmask", func() error { m, err = sys.GetSigmask(t.TID); return err })
	return m, err
}

// SetMask writes the signal mask.
func (t *Thread) SetMask(m uint64) error {
	return t.call("setmask", func() error { return sys.SetSigmask(t.TID, m) })
}

// Pending reads the pending signals of the thread, or of its process.
func (t *Thread) Pending(shared bool) (all [][sys.SiginfoSize]byte, err error) {
	var batch [16][sys.SiginfoSize]byte
	for {
		n := 0
		err = t.call("peeksiginfo", func() error {
			n, err = sys.PeekSiginfo(t.TID, shared, uint64(len(all)), batch[:])
			return err
		})
		if err != nil || n == 0 {
			return all, err
		}
		all = append(all, batch[:n]...)
	}
}

// Rseq reads the restartable-sequence registration.
func (t *Thread) Rseq() (r sys.Rseq, err error) {
	err = t.call("getrseq", func() error { r, err = sys.GetRseq(t.TID); return err })
	return r, err
}

// Dispatches says whether its system calls are dispatched to itself.
func (t *Thread) Dispatches() (on bool, err error) {
	err = t.call("getdispatch", func() error { on, err = sys.SyscallDispatch(t.TID); return err })
	return on, err
}

func (t *Thread) siginfo() (info [sys.SiginfoSize]byte, err error) {
	err = t.call("getsiginfo", func() error { info, err = sys.GetSiginfo(t.TID); return err })
	return info, err
}

// Reap waits until the killed thread is gone, at most ten seconds.
func (t *Thread) Reap() {
	deadline := time.Now().Add(10 * time.Second)
	for spin := 0; !t.Gone && time.Now().Before(deadline); spin++ {
		ws, ok, err := t.wait(unix.WNOHANG)
		if err != nil || ok && (ws.Exited() || ws.Signaled()) {
			t.Gone = true
			return
		}
		Pause(spin)
	}
}

// Dead marks a thread that was killed and is reaped by somebody else.
func (t *Thread) Dead() { t.Gone = true }
