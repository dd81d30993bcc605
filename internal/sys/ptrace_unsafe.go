package sys

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

func ptrace(req, tid int, addr, data uintptr) error {
	_, _, e := unix.RawSyscall6(unix.SYS_PTRACE, uintptr(req), uintptr(tid), addr, data, 0, 0)
	if e != 0 {
		return e
	}
	return nil
}

// Seize attaches to a thread without stopping it (PTRACE_SEIZE).
func Seize(tid, options int) error { return ptrace(unix.PTRACE_SEIZE, tid, 0, uintptr(options)) }

// Interrupt asks a seized thread to stop (PTRACE_INTERRUPT).
func Interrupt(tid int) error { return ptrace(unix.PTRACE_INTERRUPT, tid, 0, 0) }

// Cont lets a stopped thread run, delivering sig when it is not 0.
func Cont(tid, sig int) error { return ptrace(unix.PTRACE_CONT, tid, 0, uintptr(sig)) }

// ContToCall lets a stopped thread run to its next system call entry or exit.
func ContToCall(tid, sig int) error {
	return ptrace(unix.PTRACE_SYSCALL, tid, 0, uintptr(sig))
}

// Listen keeps a thread in its group-stop (PTRACE_LISTEN).
func Listen(tid int) error { return ptrace(unix.PTRACE_LISTEN, tid, 0, 0) }

// Detach lets a stopped thread go, delivering sig when it is not 0.
func Detach(tid, sig int) error { return ptrace(unix.PTRACE_DETACH, tid, 0, uintptr(sig)) }

// SetOptions sets the ptrace options of a stopped thread.
func SetOptions(tid, options int) error {
	return ptrace(unix.PTRACE_SETOPTIONS, tid, 0, uintptr(options))
}

// GetRegset reads a register set into buf and returns its length in bytes.
func GetRegset(tid, set int, buf []byte) (int, error) {
	iov := unix.Iovec{Base: unsafe.SliceData(buf)}
	iov.SetLen(len(buf))
	_, _, e := unix.RawSyscall6(unix.SYS_PTRACE, unix.PTRACE_GETREGSET, uintptr(tid), uintptr(set),
		uintptr(unsafe.Pointer(&iov)), 0, 0)
	if e != 0 {
		return 0, e
	}
	return int(iov.Len), nil
}

// SetRegset writes a register set.
func SetRegset(tid, set int, buf []byte) error {
	iov := unix.Iovec{Base: unsafe.SliceData(buf)}
	iov.SetLen(len(buf))
	_, _, e := unix.RawSyscall6(unix.SYS_PTRACE, unix.PTRACE_SETREGSET, uintptr(tid), uintptr(set),
		uintptr(unsafe.Pointer(&iov)), 0, 0)
	if e != 0 {
		return e
	}
	return nil
}

// GetRegs reads n words of the general registers.
func GetRegs(tid int, words []uint64) error {
	_, err := GetRegset(tid, regsetGeneral, unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(words))), len(words)*8))
	return err
}

// SetRegs writes the general registers.
func SetRegs(tid int, words []uint64) error {
	return SetRegset(tid, regsetGeneral, unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(words))), len(words)*8))
}

// GetSigmask reads the signal mask of a stopped thread. Where the thread sits
// in a call with a mask of its own (sigsuspend, ppoll) it is the one to come back.
func GetSigmask(tid int) (uint64, error) {
	var mask uint64
	_, _, e := unix.RawSyscall6(unix.SYS_PTRACE, ptraceGetSigmask, uintptr(tid), 8,
		uintptr(unsafe.Pointer(&mask)), 0, 0)
	if e != 0 {
		return 0, e
	}
	return mask, nil
}

// SetSigmask sets the signal mask of a stopped thread.
func SetSigmask(tid int, mask uint64) error {
	_, _, e := unix.RawSyscall6(unix.SYS_PTRACE, ptraceSetSigmask, uintptr(tid), 8,
		uintptr(unsafe.Pointer(&mask)), 0, 0)
	if e != 0 {
		return e
	}
	return nil
}

// GetSiginfo reads the siginfo of the signal at which a thread is stopped.
func GetSiginfo(tid int) ([SiginfoSize]byte, error) {
	var info [SiginfoSize]byte
	_, _, e := unix.RawSyscall6(unix.SYS_PTRACE, unix.PTRACE_GETSIGINFO, uintptr(tid), 0,
		uintptr(unsafe.Pointer(&info)), 0, 0)
	if e != 0 {
		return info, e
	}
	return info, nil
}

// peekArgs is struct ptrace_peeksiginfo_args.
type peekArgs struct {
	off   uint64
	flags uint32
	nr    int32
}

// PeekSiginfo reads up to len(infos) pending signals of a stopped thread from
// position off; shared selects the process's queue instead of the thread's.
func PeekSiginfo(tid int, shared bool, off uint64, infos [][SiginfoSize]byte) (int, error) {
	if len(infos) == 0 {
		return 0, nil
	}
	args := peekArgs{off: off, nr: int32(len(infos))}
	if shared {
		args.flags = peekSiginfoShared
	}
	n, _, e := unix.RawSyscall6(unix.SYS_PTRACE, ptracePeekSiginfo, uintptr(tid),
		uintptr(unsafe.Pointer(&args)), uintptr(unsafe.Pointer(unsafe.SliceData(infos))), 0, 0)
	if e != 0 {
		return 0, e
	}
	return int(n), nil
}

// Rseq is struct ptrace_rseq_configuration: the restartable-sequence area that
// a thread registered; Pointer is 0 when it has none.
type Rseq struct {
	Pointer   uint64
	Size      uint32
	Signature uint32
	Flags     uint32
	_         uint32
}

// GetRseq reads the rseq registration of a stopped thread.
func GetRseq(tid int) (Rseq, error) {
	var r Rseq
	_, _, e := unix.RawSyscall6(unix.SYS_PTRACE, ptraceGetRseq, uintptr(tid), unsafe.Sizeof(r),
		uintptr(unsafe.Pointer(&r)), 0, 0)
	if e != 0 {
		return r, e
	}
	return r, nil
}

// SyscallDispatch says whether a stopped thread has its own system calls sent
// to itself as signals (struct ptrace_sud_config; since Linux 6.4).
func SyscallDispatch(tid int) (bool, error) {
	var c struct{ mode, selector, offset, length uint64 }
	_, _, e := unix.RawSyscall6(unix.SYS_PTRACE, ptraceGetDispatch, uintptr(tid), unsafe.Sizeof(c),
		uintptr(unsafe.Pointer(&c)), 0, 0)
	if e != 0 {
		return false, e
	}
	return c.mode != 0, nil
}

// RobustList returns the robust futex list of a thread (get_robust_list(2)).
func RobustList(tid int) (head, size uint64, err error) {
	_, _, e := unix.RawSyscall(unix.SYS_GET_ROBUST_LIST, uintptr(tid),
		uintptr(unsafe.Pointer(&head)), uintptr(unsafe.Pointer(&size)))
	if e != 0 {
		return 0, 0, e
	}
	return head, size, nil
}

// QueueSignal sends a signal with a siginfo of the caller's making to a thread
// (rt_tgsigqueueinfo(2)).
func QueueSignal(tgid, tid, sig int, info *[SiginfoSize]byte) error {
	_, _, e := unix.RawSyscall6(unix.SYS_RT_TGSIGQUEUEINFO, uintptr(tgid), uintptr(tid), uintptr(sig),
		uintptr(unsafe.Pointer(info)), 0, 0)
	if e != 0 {
		return e
	}
	return nil
}
