package tracee

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wakepoint/wakepoint/internal/abi"
	"github.com/wakepoint/wakepoint/internal/sys"
	"github.com/wakepoint/wakepoint/internal/tape"
)

// tapeTime is how long a tape may take before we stop believing in it.
const tapeTime = 10 * time.Second

// tapeSignal ends a tape: ignored by default, so that it does no harm when
// nobody watches, and seen by a live tracer all the same.
const tapeSignal = unix.SIGWINCH

// Space is the address space of a stopped process, with the places in it
// where tapes are played.
type Space struct {
	Mem  *os.File // /proc/PID/mem
	Gate abi.Addr // the gate's code; 0 when it is not there yet
	Exit abi.Addr // one exit slot
	Boot abi.Addr // room for a small pad that the process itself cannot write
	Pad  abi.Addr // writable room for tapes; 0 when there is none yet
	Size int      // bytes at Pad
}

// Gate sizes, in bytes: what the tail of the vdso must have room for.
const (
	gateRoom = 176
	exitRoom = 32
	bootRoom = abi.GateHeader + 8 + 4*abi.EntrySize
	TailRoom = gateRoom + exitRoom + bootRoom
)

// Install writes the gate at addr, where TailRoom bytes belong to nobody.
func (s *Space) Install(a *abi.Arch, addr abi.Addr) error {
	if a.Gate == nil {
		return fmt.Errorf("no gate for %s yet", a.Name)
	}
	have := make([]byte, len(a.Gate))
	if _, err := s.Mem.ReadAt(have, int64(addr)); err != nil {
		return fmt.Errorf("read gate at %#x: %w", addr, err)
	}
	if string(have) != string(a.Gate) {
		if _, err := s.Mem.WriteAt(a.Gate, int64(addr)); err != nil {
			return fmt.Errorf("write gate at %#x: %w", addr, err)
		}
	}
	s.Gate, s.Exit, s.Boot = addr, addr+gateRoom, addr+gateRoom+exitRoom
	return nil
}

// Play plays a tape in the thread and returns the results of its calls and
// the pad as it was read back. The thread's registers and mask are afterwards
// what they were. An error of a call that must not fail is an error; later
// calls were still made. At each pause of the tape the next of the functions
// in pauses is called with the results so far.
func (t *Thread) Play(s *Space, tp *tape.Tape, pauses ...func(*Played) error) (*Played, error) {
	if len(pauses) != tp.Pauses() {
		return nil, fmt.Errorf("a tape with %d pauses was given %d", tp.Pauses(), len(pauses))
	}
	if s.Pad == 0 || tp.Size() > s.Size {
		return nil, fmt.Errorf("tape of %d bytes does not fit the pad of %d", tp.Size(), s.Size)
	}
	l := tp.Layout(s.Pad, t.stopCall())
	p := &Played{tape: tp, layout: l, pad: make([]byte, len(l.Bytes))}
	look := func() error {
		if _, err := s.Mem.ReadAt(p.pad, int64(s.Pad)); err != nil {
			return fmt.Errorf("read pad: %w", err)
		}
		p.Results = tp.Results(l, p.pad)
		return nil
	}
	var hooks []func() error
	for _, f := range pauses {
		hooks = append(hooks, func() error { return errors.Join(look(), f(p)) })
	}
	if _, err := t.run(s, s.Pad, l.Bytes, append(hooks, look)); err != nil {
		return nil, err
	}
	for i, c := range tp.Calls {
		if r := p.Results[i]; r < 0 && r > -4096 && !c.Fails {
			return p, fmt.Errorf("%s in thread %d: %w", c.Name, t.TID, unix.Errno(-r))
		}
	}
	return p, nil
}

// Played is what a tape left.
type Played struct {
	Results []int64
	tape    *tape.Tape
	layout  tape.Layout
	pad     []byte
}

// Data returns bytes of the tape's data as they are now.
func (p *Played) Data(d tape.Data) []byte { return p.tape.Data(p.layout, p.pad, d) }

// One plays a single call through the boot room, which needs no pad. The call
// may not point to data of its own.
func (t *Thread) One(s *Space, name string, nr int, args ...tape.Word) (int64, error) {
	var tp tape.Tape
	tp.Add(name, nr, args...)
	l := tp.Layout(s.Boot, t.stopCall())
	for i := range 2 { // the boot room is read-only for the process: no result slots
		binary.LittleEndian.PutUint64(l.Bytes[abi.GateHeader+8+i*abi.EntrySize+abi.EntryResult:], 0)
	}
	after, err := t.run(s, s.Boot, l.Bytes, nil)
	if err != nil {
		return 0, err
	}
	r := int64(after[t.Arch.Saved[11]]) // the last result, see the gate; the stop call has not returned
	if r < 0 && r > -4096 {
		return r, fmt.Errorf("%s in thread %d: %w", name, t.TID, unix.Errno(-r))
	}
	return r, nil
}

// stopCall is tgkill(self, tapeSignal) in the thread's own numbers.
func (t *Thread) stopCall() tape.Call {
	return tape.Call{Name: "tgkill", NR: t.Arch.NR.Tgkill,
		Args: [6]tape.Word{tape.N(t.NSTGID), tape.N(t.NSTID), tape.N(int(tapeSignal))}, Fails: true, Length: 3}
}

// run plays a laid-out pad. The order of the steps is what makes the death of
// the tracer harmless at each of them:
//
//	write exit slot and pad   nothing refers to them yet
//	set registers             from here on the thread plays the tape and returns
//	set mask                  the tape itself puts the old one back at its end
//	cont, wait for the stop
//	set mask, set registers   the thread returns by itself, or is put back
func (t *Thread) run(s *Space, pad abi.Addr, b []byte, hooks []func() error) (abi.Regs, error) {
	saved, err := t.Regs()
	if err != nil {
		return saved, err
	}
	mask, err := t.Mask()
	if err != nil {
		return saved, err
	}
	t.header(b, s, saved, mask)
	home := t.Arch.Rewound(saved)
	exit := t.Arch.ExitSlot(home[t.Arch.Pad], home[t.Arch.IP])
	if _, err := s.Mem.WriteAt(exit, int64(s.Exit)); err != nil {
		return saved, fmt.Errorf("write exit slot: %w", err)
	}
	if _, err := s.Mem.WriteAt(b, int64(pad)); err != nil {
		return saved, fmt.Errorf("write pad: %w", err)
	}
	enter := t.Arch.Idle(saved)
	enter[t.Arch.IP] = uint64(s.Gate)
	enter[t.Arch.Pad] = uint64(pad)
	if err := t.SetRegs(enter); err != nil {
		return saved, err
	}
	if err := t.SetMask(^(uint64(1) << (tapeSignal - 1))); err != nil {
		return saved, errors.Join(err, t.SetRegs(saved))
	}
	after, err := t.finish()
	for i := 0; err == nil && i < len(hooks); i++ {
		if i > 0 {
			if after, err = t.finish(); err != nil {
				break
			}
		}
		err = hooks[i]()
	}
	// Whatever happened, the program gets its own state back.
	return after, errors.Join(err, t.SetMask(mask), t.SetRegs(saved))
}

// header fills in what the gate puts back.
func (t *Thread) header(b []byte, s *Space, saved abi.Regs, mask uint64) {
	home := t.Arch.Rewound(saved)
	put := func(off int, v uint64) { binary.LittleEndian.PutUint64(b[off:], v) }
	put(abi.GateExit, uint64(s.Exit))
	put(abi.GateMask, mask)
	put(abi.GateFlags, home[t.Arch.Flags])
	put(abi.GateSP, home[t.Arch.SP])
	for i, r := range t.Arch.Saved {
		put(abi.GateRegs+8*i, home[r])
	}
}

// finish lets the tape play and returns the registers at its end.
func (t *Thread) finish() (abi.Regs, error) {
	if err := t.cont(0); err != nil {
		return abi.Regs{}, err
	}
	deadline := time.Now().Add(tapeTime)
	for spin := 0; ; spin++ {
		ws, ok, err := t.wait(unix.WNOHANG)
		switch {
		case err != nil:
			return abi.Regs{}, err
		case t.Gone || ok && (ws.Exited() || ws.Signaled()):
			t.Gone = true
			return abi.Regs{}, fmt.Errorf("thread %d in a tape: %w", t.TID, ErrGone)
		case ok:
			done, err := t.tapeStop(ws)
			if done || err != nil {
				t.Stopped = true
				r, rerr := t.Regs()
				return r, errors.Join(err, rerr)
			}
		case time.Now().After(deadline):
			return abi.Regs{}, fmt.Errorf("thread %d in a tape: %w", t.TID, unix.ETIMEDOUT)
		default:
			Pause(spin)
		}
	}
}

// tapeStop tells the tape's own signal from everything else that can stop a
// thread; the rest is kept for later.
func (t *Thread) tapeStop(ws unix.WaitStatus) (bool, error) {
	sig := ws.StopSignal()
	if int(ws)>>16 != 0 {
		return false, t.cont(0)
	}
	if sig == tapeSignal {
		info, err := t.siginfo()
		if err != nil {
			return false, err
		}
		code := int32(binary.LittleEndian.Uint32(info[8:]))
		from := int32(binary.LittleEndian.Uint32(info[16:]))
		if code == -6 && int(from) == t.NSTGID { // SI_TKILL
			return true, nil
		}
	}
	if sig == unix.SIGSEGV || sig == unix.SIGILL || sig == unix.SIGBUS || sig == unix.SIGTRAP {
		r, _ := t.Regs()
		return false, fmt.Errorf("%v at %#x in a tape", sig, r[t.Arch.IP])
	}
	t.resend = append(t.resend, int(sig))
	return false, t.cont(0)
}

// Prime starts a system call with the given arguments and breaks it off at
// once. It returns what the call then left in the result register: a restart
// code when it had begun to wait.
func (t *Thread) Prime(gate abi.Addr, nr int, args [6]uint64, deadline time.Time) (uint64, error) {
	r, err := t.Regs()
	if err != nil {
		return 0, err
	}
	saved := r
	r = t.Arch.Idle(r)
	r[t.Arch.IP], r[t.Arch.Result] = uint64(gate)+t.Arch.GateCall, uint64(nr)
	for i, k := range t.Arch.Args {
		r[k] = args[i]
	}
	if err := t.SetRegs(r); err != nil {
		return 0, err
	}
	if err := t.call("syscall", func() error { return sys.ContToCall(t.TID, 0) }); err != nil {
		return 0, err
	}
	if err := t.nextStop(deadline); err != nil {
		return 0, err
	}
	if err := t.Interrupt(); err != nil {
		return 0, err
	}
	if err := t.cont(0); err != nil {
		return 0, err
	}
	if err := t.WaitStop(deadline); err != nil {
		return 0, err
	}
	after, err := t.Regs()
	if err != nil {
		return 0, err
	}
	return after[t.Arch.Result], t.SetRegs(t.Arch.Idle(saved))
}

// nextStop waits for any stop, of whatever kind.
func (t *Thread) nextStop(deadline time.Time) error {
	for spin := 0; ; spin++ {
		ws, ok, err := t.wait(unix.WNOHANG)
		switch {
		case err != nil:
			return err
		case t.Gone || ok && !ws.Stopped():
			t.Gone = true
			return ErrGone
		case ok:
			return nil
		case time.Now().After(deadline):
			return unix.ETIMEDOUT
		}
		Pause(spin)
	}
}

// End makes the thread's process end by a system call of the exit kind, or by
// a signal that was sent to it, and lets its parent see it.
func (t *Thread) End(nr, code, sig int, gate abi.Addr) error {
	r, err := t.Regs()
	if err != nil {
		return err
	}
	r = t.Arch.Idle(r)
	r[t.Arch.IP], r[t.Arch.Result], r[t.Arch.Args[0]] = uint64(gate)+t.Arch.GateCall, uint64(nr), uint64(code)
	if err := t.SetRegs(r); err != nil {
		return err
	}
	if err := t.cont(0); err != nil {
		return err
	}
	deadline := time.Now().Add(tapeTime)
	for !t.Gone {
		if err := t.nextStop(deadline); err != nil {
			if errors.Is(err, ErrGone) {
				return nil
			}
			return err
		}
		if err := t.call("cont", func() error { return sys.Cont(t.TID, sig) }); err != nil && !errors.Is(err, ErrGone) {
			return err
		}
	}
	return nil
}

// Forget drops the signals that arrived while tapes were playing.
func (t *Thread) Forget() { t.resend = nil }
