package engine

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/wakepoint/wakepoint/internal/abi"
)

// A child that shares memory with its parent, as every child that os/exec
// starts does up to its exec, cannot be born in another time namespace before
// Linux 6.2: clone(2) says EINVAL. So it is born in ours, executes a program
// of a few instructions that joins the namespace with setns(2), for which a
// process must have one thread, and that executes what was meant.

// enterAMD64 is testdata/enter_amd64.s.txt, assembled. The last 8 bytes are
// the descriptors of the namespace and of the program to execute.
var enterAMD64 = []byte{
	0x8b, 0x3d, 0x4a, 0x00, 0x00, 0x00, 0xbe, 0x80, 0x00, 0x00, 0x00, 0xb8,
	0x34, 0x01, 0x00, 0x00, 0x0f, 0x05, 0x85, 0xc0, 0x75, 0x28, 0x8b, 0x3d,
	0x38, 0x00, 0x00, 0x00, 0x48, 0x8d, 0x35, 0x26, 0x00, 0x00, 0x00, 0x48,
	0x8d, 0x54, 0x24, 0x08, 0x48, 0x8b, 0x04, 0x24, 0x4c, 0x8d, 0x54, 0xc4,
	0x10, 0x41, 0xb8, 0x00, 0x10, 0x00, 0x00, 0xb8, 0x42, 0x01, 0x00, 0x00,
	0x0f, 0x05, 0x89, 0xc7, 0xf7, 0xdf, 0xb8, 0xe7, 0x00, 0x00, 0x00, 0x0f,
	0x05, 0x00, 0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
	0x00, 0x00, 0x00, 0x00,
}

// enterELF is the executable that joins the time namespace at one descriptor
// and executes the program at another.
func enterELF(arch *abi.Arch, namespace, program int) []byte {
	a := *arch
	if a.Machine != abi.AMD64.Machine {
		return nil
	}
	a.Init = enterAMD64
	return a.InitELF(namespace | program<<32)
}

// enterPath is where a nascent init finds the executable of openEnter.
var enterPath = "/proc/self/fd/" + strconv.Itoa(initEnter)

// openEnter returns the executable for the descriptors of a nascent init.
func openEnter() (*os.File, error) {
	code := enterELF(abi.Host(runtime.GOARCH), initTime, initHelper)
	if code == nil {
		return nil, fmt.Errorf("enter a time namespace: no code for %s", runtime.GOARCH)
	}
	// A child that another thread starts meanwhile would hold the file open
	// for writing, and then it cannot be executed.
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	fd, err := unix.MemfdCreate("wakepoint-enter", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("memfd: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	if _, err := unix.Write(fd, code); err != nil {
		return nil, fmt.Errorf("write the entry: %w", err)
	}
	return os.Open("/proc/self/fd/" + strconv.Itoa(fd))
}

// entry is what a nascent init has open at initTime, initHelper and initEnter.
type entry [3]*os.File

func (e *entry) close() {
	for _, f := range e {
		if f != nil {
			_ = f.Close()
		}
	}
}

func (s *spawn) entry(helper string) (e entry, err error) {
	defer func() {
		if err != nil {
			e.close()
		}
	}()
	if e[0], err = s.timeNamespace(); err != nil {
		return e, err
	}
	if e[1], err = os.Open(helper); err != nil {
		return e, err
	}
	e[2], err = openEnter()
	return e, err
}

// timeNamespace makes a time namespace. The offsets are written before the
// first process enters (time_namespaces(7)). The thread that made it ends.
func (s *spawn) timeNamespace() (*os.File, error) {
	type result struct {
		f   *os.File
		err error
	}
	done := make(chan result, 1)
	go func() {
		runtime.LockOSThread()
		f, err := s.newTimeNamespace()
		done <- result{f, err}
	}()
	r := <-done
	return r.f, r.err
}

func (s *spawn) newTimeNamespace() (*os.File, error) {
	if err := unix.Unshare(unix.CLONE_NEWTIME); err != nil {
		return nil, fmt.Errorf("new time namespace: %w", explain(err))
	}
	dir := "/proc/" + strconv.Itoa(unix.Gettid())
	if s.monotonic != 0 || s.boottime != 0 {
		text := fmt.Sprintf("monotonic %s\nboottime %s\n", offset(s.monotonic), offset(s.boottime))
		if err := os.WriteFile(dir+"/timens_offsets", []byte(text), 0); err != nil {
			return nil, fmt.Errorf("set the clocks: %w", err)
		}
	}
	return os.Open(dir + "/ns/time_for_children")
}

// offset prints nanoseconds as timens_offsets wants them: whole seconds,
// rounded down, and nanoseconds from 0 on.
func offset(ns int64) string {
	sec := ns / 1e9
	if ns%1e9 < 0 {
		sec--
	}
	return fmt.Sprintf("%d %d", sec, ns-sec*1e9)
}
