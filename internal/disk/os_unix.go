//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package disk

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// native says whether OS keeps what FS promises.
func native() error { return nil }

func open(name string, how int) (*os.File, error) { return os.OpenFile(name, how, 0o600) }

func rename(from, to string) error { return os.Rename(from, to) }

func syncDir(d *os.File) error { return d.Sync() }

// lock locks the file that has a name: another may have taken it meanwhile.
func lock(name string, mode LockMode) (io.Closer, error) {
	for {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		if err := flock(f, mode); err != nil {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", name, err)
		}
		locked, err := f.Stat()
		if err != nil {
			f.Close()
			return nil, err
		}
		named, err := os.Stat(name)
		if err != nil {
			f.Close()
			return nil, err
		}
		if os.SameFile(locked, named) {
			return f, nil
		}
		f.Close()
	}
}

// flock locks an open file (flock(2)). The lock belongs to the open file and
// not to the process.
func flock(f *os.File, mode LockMode) error {
	how := syscall.LOCK_EX
	switch mode {
	case Shared:
		how = syscall.LOCK_SH | syscall.LOCK_NB
	case Exclusive:
		how = syscall.LOCK_EX | syscall.LOCK_NB
	}
	for {
		err := syscall.Flock(int(f.Fd()), how)
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case errors.Is(err, syscall.EWOULDBLOCK):
			return ErrLocked
		}
		return err
	}
}

func owned(fi fs.FileInfo) bool {
	st, ok := fi.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == os.Geteuid()
}

// trusted reports whether a symbolic link was made by this user or by root.
func trusted(fi fs.FileInfo) bool {
	st, ok := fi.Sys().(*syscall.Stat_t)
	return ok && (int(st.Uid) == os.Geteuid() || st.Uid == 0)
}

func shared(fi fs.FileInfo) bool { return fi.Mode().Perm()&0o077 != 0 }
