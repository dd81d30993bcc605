package sys

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// Kinds of resource that Kcmp compares (kcmp(2)).
const (
	KcmpFile    = 0
	KcmpVM      = 1
	KcmpFiles   = 2
	KcmpFS      = 3
	KcmpSighand = 4
	KcmpIO      = 5
	KcmpSysVSem = 6
)

// Kcmp orders a resource of two processes: 0 the same, 1 less, 2 greater,
// 3 different without an order.
func Kcmp(pid1, pid2, kind int, i1, i2 uint64) (int, error) {
	r, _, e := unix.RawSyscall6(unix.SYS_KCMP, uintptr(pid1), uintptr(pid2), uintptr(kind), uintptr(i1), uintptr(i2), 0)
	if e != 0 {
		return 0, e
	}
	return int(r), nil
}

// KcmpEpoll compares a descriptor of one process with what an epoll of another
// watches: the nth registration that was made under the number target
// (KCMP_EPOLL_TFD, kcmp(2)). ENOENT when there is none.
func KcmpEpoll(pid, fd, owner, epoll, target, nth int) (int, error) {
	slot := [3]uint32{uint32(epoll), uint32(target), uint32(nth)}
	r, _, e := unix.RawSyscall6(unix.SYS_KCMP, uintptr(pid), uintptr(owner), 7, uintptr(fd), uintptr(unsafe.Pointer(&slot)), 0)
	if e != 0 {
		return 0, e
	}
	return int(r), nil
}

// GetsockoptBytes reads a socket option of any shape into buf.
func GetsockoptBytes(fd, level, option int, buf []byte) (int, error) {
	n := uint32(len(buf))
	_, _, e := unix.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), uintptr(option),
		uintptr(unsafe.Pointer(unsafe.SliceData(buf))), uintptr(unsafe.Pointer(&n)), 0)
	if e != 0 {
		return 0, e
	}
	return int(n), nil
}

// SetsockoptBytes sets a socket option of any shape.
func SetsockoptBytes(fd, level, option int, buf []byte) error {
	_, _, e := unix.RawSyscall6(unix.SYS_SETSOCKOPT, uintptr(fd), uintptr(level), uintptr(option),
		uintptr(unsafe.Pointer(unsafe.SliceData(buf))), uintptr(len(buf)), 0)
	if e != 0 {
		return e
	}
	return nil
}

// IoctlBytes makes an ioctl whose argument is a buffer.
func IoctlBytes(fd int, request uint, buf []byte) error {
	_, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uintptr(request), uintptr(unsafe.Pointer(unsafe.SliceData(buf))))
	if e != 0 {
		return e
	}
	return nil
}

// Ioprio reads the I/O priority of a thread (ioprio_get(2)).
func Ioprio(tid int) (int, error) {
	r, _, e := unix.RawSyscall(unix.SYS_IOPRIO_GET, 1, uintptr(tid), 0)
	if e != 0 {
		return 0, e
	}
	return int(r), nil
}

// SetTimerfdTicks sets the number of expirations of a timerfd that nobody has
// read yet (TFD_IOC_SET_TICKS, timerfd_create(2)).
func SetTimerfdTicks(fd int, ticks uint64) error {
	_, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), 0x40085400, uintptr(unsafe.Pointer(&ticks)))
	if e != 0 {
		return e
	}
	return nil
}

// SetIoprio sets the I/O priority of a thread (ioprio_set(2)).
func SetIoprio(tid, prio int) error {
	_, _, e := unix.RawSyscall(unix.SYS_IOPRIO_SET, 1, uintptr(tid), uintptr(prio))
	if e != 0 {
		return e
	}
	return nil
}

// GetOwner reads who gets the signals of a descriptor (F_GETOWN_EX, fcntl(2)):
// the type is one of F_OWNER_TID, F_OWNER_PID and F_OWNER_PGRP.
func GetOwner(fd int) (typ, id int, err error) {
	var o [2]int32 // struct f_owner_ex
	_, _, e := unix.Syscall(unix.SYS_FCNTL, uintptr(fd), unix.F_GETOWN_EX, uintptr(unsafe.Pointer(&o)))
	if e != 0 {
		return 0, 0, e
	}
	return int(o[0]), int(o[1]), nil
}

// SetThreadGroups sets the supplementary groups of the calling thread alone
// (setgroups(2), which is of threads; only libc makes it of processes).
func SetThreadGroups(groups []uint32) error {
	var p unsafe.Pointer
	if len(groups) > 0 {
		p = unsafe.Pointer(&groups[0])
	}
	if _, _, e := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(groups)), uintptr(p), 0); e != 0 {
		return e
	}
	return nil
}

// HoldInode keeps the inode of an open file in memory, though nobody has it open,
// until what it returns is closed: a rule of landlock(7) names an inode alone. It
// restricts nobody.
func HoldInode(fd int) (int, error) {
	const size = 8 // of the first version: the rights on files
	set := unix.LandlockRulesetAttr{Handled_access_fs: unix.LANDLOCK_ACCESS_FS_READ_FILE}
	held, _, e := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&set)), size, 0)
	if e != 0 {
		return -1, e
	}
	rule := unix.LandlockPathBeneathAttr{Allowed_access: unix.LANDLOCK_ACCESS_FS_READ_FILE, Parent_fd: int32(fd)}
	_, _, e = unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, held, unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&rule)), 0, 0, 0)
	if e != 0 {
		unix.Close(int(held))
		return -1, e
	}
	return int(held), nil
}
