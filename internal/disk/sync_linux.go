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
