package sys

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// Userfaultfd ioctls and flags (include/uapi/linux/userfaultfd.h).
const (
	uffdioAPI        = 0xc018aa3f
	uffdioRegister   = 0xc020aa00
	uffdioUnregister = 0x8010aa01

	uffdFeatureWPHugetlbShmem = 1 << 12
	uffdFeatureWPAsync        = 1 << 15
	uffdModeWP                = 2

	// UserfaultFlags are the flags with which a target creates one:
	// O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY.
	UserfaultFlags = unix.O_CLOEXEC | unix.O_NONBLOCK | 1
)

type uffdAPI struct {
	api, features, ioctls uint64
}

type uffdRegister struct {
	start, length, mode, ioctls uint64
}

// Userfaultfd creates one for the calling process.
func Userfaultfd() (int, error) {
	fd, _, e := unix.Syscall(unix.SYS_USERFAULTFD, UserfaultFlags, 0, 0)
	if e != 0 {
		return -1, e
	}
	return int(fd), nil
}

// UserfaultAsync makes the handshake for asynchronous write protection
// (Linux 6.7, UFFD_FEATURE_WP_ASYNC); EINVAL where the kernel has none.
func UserfaultAsync(fd int) error {
	a := uffdAPI{api: 0xaa, features: uffdFeatureWPAsync | uffdFeatureWPHugetlbShmem}
	_, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uffdioAPI, uintptr(unsafe.Pointer(&a)))
	if e != 0 {
		return e
	}
	return nil
}

// UserfaultRegister registers [start, start+length) for write protection.
func UserfaultRegister(fd int, start, length uint64) error {
	r := uffdRegister{start: start, length: length, mode: uffdModeWP}
	_, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uffdioRegister, uintptr(unsafe.Pointer(&r)))
	if e != 0 {
		return e
	}
	return nil
}

// UserfaultUnregister takes a range out again.
func UserfaultUnregister(fd int, start, length uint64) error {
	r := [2]uint64{start, length}
	_, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uffdioUnregister, uintptr(unsafe.Pointer(&r)))
	if e != 0 {
		return e
	}
	return nil
}

// Page categories of PAGEMAP_SCAN (include/uapi/linux/fs.h).
const (
	PageWPAllowed = 1 << 0
	PageWritten   = 1 << 1
	PageFile      = 1 << 2
	PagePresent   = 1 << 3
	PageSwapped   = 1 << 4
	PageZeroPFN   = 1 << 5
	PageHuge      = 1 << 6
	PageGuard     = 1 << 8 // Linux 6.15

	scanWPMatching   = 1 << 0
	scanCheckWPAsync = 1 << 1
	pagemapScan      = 0xc0606610
)

// PageRegion is a range of pages with the same categories.
type PageRegion struct {
	Start, End uint64
	Categories uint64
}

// ScanArgs says what PagemapScan looks for in [Start, End).
type ScanArgs struct {
	Start, End uint64
	Inverted   uint64 // categories whose sense is inverted
	All        uint64 // all of these must hold
	Any        uint64 // and one of these, unless 0
	Return     uint64 // categories to report
	Protect    bool   // write-protect what matches, in the same step
}

type scanArg struct {
	size, flags, start, end, walkEnd uint64
	vec                              unsafe.Pointer // so that a growing stack moves it along
	vecLen, maxPages                 uint64
	inverted, mask, anyof, ret       uint64
}

// PagemapScan fills vec with matching regions and says where it stopped
// (ioctl PAGEMAP_SCAN on /proc/PID/pagemap, Linux 6.7). ENOTTY where the
// kernel has none.
func PagemapScan(fd int, a ScanArgs, vec []PageRegion) (n int, walkEnd uint64, err error) {
	arg := scanArg{
		size: uint64(unsafe.Sizeof(scanArg{})), start: a.Start, end: a.End,
		vec: unsafe.Pointer(unsafe.SliceData(vec)), vecLen: uint64(len(vec)), inverted: a.Inverted, mask: a.All, anyof: a.Any, ret: a.Return,
	}
	if a.Protect {
		arg.flags = scanWPMatching | scanCheckWPAsync
	}
	for {
		r, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), pagemapScan, uintptr(unsafe.Pointer(&arg)))
		if e == unix.EINTR && !a.Protect {
			continue
		}
		if e != 0 {
			return 0, arg.walkEnd, e
		}
		return int(r), arg.walkEnd, nil
	}
}

// ReadProcess copies remote ranges of a process into buf, one after the
// other (process_vm_readv(2)); it returns the bytes copied.
func ReadProcess(pid int, buf []byte, remote []unix.RemoteIovec) (int, error) {
	if len(buf) == 0 {
		return 0, nil
	}
	local := unix.Iovec{Base: unsafe.SliceData(buf)}
	local.SetLen(len(buf))
	return unix.ProcessVMReadv(pid, []unix.Iovec{local}, remote, 0)
}
