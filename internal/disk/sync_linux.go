package disk

import (
	"errors"
	"os"
	"syscall"
)

// datasync is fdatasync(2).
func datasync(f *os.File) error {
	c, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var errno error
	err = c.Control(func(fd uintptr) {
		for {
			if errno = syscall.Fdatasync(int(fd)); !errors.Is(errno, syscall.EINTR) {
				return
			}
		}
	})
	if err != nil {
		errno = os.ErrClosed
	}
	if errno != nil {
		return &os.PathError{Op: "fdatasync", Path: f.Name(), Err: errno}
	}
	return nil
}

// Writeout sends a part of a file that was written to the disk, and waits for it. It
// makes nothing durable, and waits for no journal, nor lets others wait for one
// (sync_file_range(2)): what Sync has to do later is less.
func (f osFile) Writeout(off, n int64) error {
	const all = 1 | 2 | 4 // SYNC_FILE_RANGE_WAIT_BEFORE, WRITE and WAIT_AFTER
	c, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var errno error
	err = c.Control(func(fd uintptr) {
		for {
			if errno = syscall.SyncFileRange(int(fd), off, n, all); !errors.Is(errno, syscall.EINTR) {
				return
			}
		}
	})
	switch {
	case err != nil:
		return err
	case errno == nil, errors.Is(errno, syscall.ENOSYS), errors.Is(errno, syscall.EOPNOTSUPP), errors.Is(errno, syscall.ESPIPE):
		return nil // the file system has no such thing
	}
	return &os.PathError{Op: "sync_file_range", Path: f.Name(), Err: errno}
}
