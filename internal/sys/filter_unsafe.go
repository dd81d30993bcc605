package sys

import (
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Forbid makes the calls of this architecture fail with EPERM, for all threads
// of this process and for all that they start (seccomp(2)).
func Forbid(calls []int) error {
	machine := uint32(unix.AUDIT_ARCH_X86_64)
	if runtime.GOARCH == "arm64" {
		machine = unix.AUDIT_ARCH_AARCH64
	}
	// struct seccomp_data: the number at 0, the architecture at 4.
	const load, equal, answer = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, unix.BPF_RET | unix.BPF_K
	allow := unix.SockFilter{Code: answer, K: unix.SECCOMP_RET_ALLOW}
	program := []unix.SockFilter{{Code: load, K: 4}, {Code: equal, K: machine, Jt: 1}, allow, {Code: load, K: 0}}
	for _, n := range calls {
		program = append(program, unix.SockFilter{Code: equal, K: uint32(n), Jf: 1},
			unix.SockFilter{Code: answer, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)})
	}
	program = append(program, allow)
	p := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	_, _, e := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&p)))
	runtime.KeepAlive(program)
	if e != 0 {
		return e
	}
	return nil
}
