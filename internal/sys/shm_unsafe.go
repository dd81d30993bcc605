package sys

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// SharedMemory makes a shared anonymous memory object of size bytes, of the
// kind that MAP_SHARED|MAP_ANONYMOUS gives, and returns it as a file. That
// needs CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE (proc_pid_map_files(5)).
func SharedMemory(size int64) (*os.File, error) {
	p, err := unix.Mmap(-1, 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Munmap(p) }()
	start := uintptr(unsafe.Pointer(unsafe.SliceData(p)))
	end := (start + uintptr(size) + 4095) &^ 4095
	return os.OpenFile(fmt.Sprintf("/proc/self/map_files/%x-%x", start, end), os.O_RDWR, 0)
}

// ShmCreate makes a System V segment in the caller's IPC namespace and
// returns its id (shmget(2)).
func ShmCreate(key int, size int64, mode int) (int, error) {
	id, _, e := unix.RawSyscall(unix.SYS_SHMGET, uintptr(key), uintptr(size), uintptr(mode|unix.IPC_CREAT|unix.IPC_EXCL))
	if e != 0 {
		return 0, e
	}
	return int(id), nil
}

// ShmFill attaches a segment, hands its memory to f, and detaches it.
func ShmFill(id int, size int64, f func(p []byte) error) error {
	at, err := unix.SysvShmAttach(id, 0, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.SysvShmDetach(at) }()
	if int64(len(at)) < size {
		return unix.EINVAL
	}
	return f(at)
}

// ShmOpen opens a segment as a file for reading, as SharedMemory does.
func ShmOpen(id int) (*os.File, error) {
	p, err := unix.SysvShmAttach(id, 0, unix.SHM_RDONLY)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.SysvShmDetach(p) }()
	start := uintptr(unsafe.Pointer(unsafe.SliceData(p)))
	end := (start + uintptr(len(p)) + 4095) &^ 4095
	return os.Open(fmt.Sprintf("/proc/self/map_files/%x-%x", start, end))
}

// ShmOwn sets owner, group and mode of a segment (IPC_SET).
func ShmOwn(id int, uid, gid, mode uint32) error {
	var d unix.SysvShmDesc
	if _, err := unix.SysvShmCtl(id, unix.IPC_STAT, &d); err != nil {
		return err
	}
	d.Perm.Uid, d.Perm.Gid, d.Perm.Mode = uid, gid, mode&0o777
	_, err := unix.SysvShmCtl(id, unix.IPC_SET, &d)
	return err
}

// ShmRemove marks a segment for removal once nobody has it attached.
func ShmRemove(id int) error {
	_, err := unix.SysvShmCtl(id, unix.IPC_RMID, nil)
	return err
}
