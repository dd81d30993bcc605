package sys

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// Sockname makes getsockname(2) or getpeername(2), by number, into buf and
// returns the length of the raw address.
func Sockname(fd, call int, buf []byte) (int, error) {
	n := uint32(len(buf))
	_, _, e := unix.RawSyscall(uintptr(call), uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(buf))), uintptr(unsafe.Pointer(&n)))
	if e != 0 {
		return 0, e
	}
	return int(n), nil
}

// Bind binds a socket to a raw address.
func Bind(fd int, addr []byte) error {
	_, _, e := unix.Syscall(unix.SYS_BIND, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(addr))), uintptr(len(addr)))
	if e != 0 {
		return e
	}
	return nil
}

// Connect connects a socket to a raw address.
func Connect(fd int, addr []byte) error {
	_, _, e := unix.Syscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(addr))), uintptr(len(addr)))
	if e != 0 {
		return e
	}
	return nil
}

// PeekMessage reads the next message of a socket without taking it, with its
// control data and the raw address of its sender.
func PeekMessage(fd int, buf, oob []byte) (n, oobn, flags int, from []byte, err error) {
	name := make([]byte, 128)
	iov := unix.Iovec{Base: unsafe.SliceData(buf)}
	iov.SetLen(len(buf))
	var h unix.Msghdr
	h.Name, h.Namelen = unsafe.SliceData(name), uint32(len(name))
	h.Iov = &iov
	h.SetIovlen(1)
	h.Control = unsafe.SliceData(oob)
	h.SetControllen(len(oob))
	r, _, e := unix.Syscall(unix.SYS_RECVMSG, uintptr(fd), uintptr(unsafe.Pointer(&h)),
		unix.MSG_PEEK|unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
	if e != 0 {
		return 0, 0, 0, nil, e
	}
	return int(r), int(h.Controllen), int(h.Flags), name[:h.Namelen], nil
}

// SendTo sends one datagram to a raw address.
func SendTo(fd int, data, addr []byte) error {
	_, _, e := unix.Syscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(data))), uintptr(len(data)),
		unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, uintptr(unsafe.Pointer(unsafe.SliceData(addr))), uintptr(len(addr)))
	if e != 0 {
		return e
	}
	return nil
}
