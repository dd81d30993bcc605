package crashfs

import (
	"io"
	"io/fs"
	"sync"
	"syscall"

	"github.com/wakepoint/wakepoint/internal/disk"
)

// Lock locks what has a name. The lock ends when it is closed, and with the
// disk: after a cut there is none.
func (f *FS) Lock(name string, mode disk.LockMode) (io.Closer, error) {
	var l *lock
	err := f.call(disk.Op{Verb: "lock", Name: name}, func() error {
		for {
			in, err := f.find(name)
			if err != nil {
				return err
			}
			switch {
			case !in.exclusive && (in.shared == 0 || mode == disk.Shared):
				l = &lock{fs: f, in: in, shared: mode == disk.Shared}
				if l.shared {
					in.shared++
				}
				in.exclusive = !l.shared
				return nil
			case mode != disk.ExclusiveWait:
				return disk.ErrLocked
			}
			if f.ended.Wait(); f.stopped != nil {
				return f.stopped
			}
		}
	}, nil)
	if err != nil {
		if l != nil {
			l.Close()
		}
		return nil, err
	}
	return l, nil
}

type lock struct {
	fs     *FS
	in     *inode
	shared bool
	once   sync.Once
}

func (l *lock) Close() error {
	err := error(&fs.PathError{Op: "unlock", Err: syscall.EBADF})
	l.once.Do(func() {
		l.fs.mu.Lock()
		defer l.fs.mu.Unlock()
		if l.shared {
			l.in.shared--
		} else {
			l.in.exclusive = false
		}
		l.fs.ended.Broadcast()
		err = nil
	})
	return err
}
