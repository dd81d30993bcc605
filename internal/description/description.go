// Package description makes open file descriptions again that need no process
// of the tree: pipes, FIFOs, event and timer descriptors, inotifies, and the
// flags and locks of all. It looks into pipes without taking anything out.
package description

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/wakepoint/wakepoint/internal/image"
)

// Finish sets the flags and takes the locks of a description that is open at fd.
func Finish(fd int, d *image.Description) error {
	if d.Kind == image.PathOnly {
		return nil
	}
	const settable = unix.O_APPEND | unix.O_NONBLOCK | unix.O_NOATIME | unix.O_DIRECT
	now, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err != nil {
		return err
	}
	if now&settable != d.Flags&settable {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFL, now&^settable|d.Flags&settable); err != nil {
			return fmt.Errorf("set flags %#o: %w", d.Flags&settable, err)
		}
	}
	for _, l := range d.Locks {
		if l.Class == "POSIX" {
			continue // by its process
		}
		if err := relock(fd, l); err != nil {
			return fmt.Errorf("lock: %w", err)
		}
	}
	return nil
}

// relock takes a lock that belongs to the description.
func relock(fd int, l image.Lock) error {
	if l.Class == "FLOCK" {
		how := unix.LOCK_SH
		if l.Write {
			how = unix.LOCK_EX
		}
		return unix.Flock(fd, how|unix.LOCK_NB)
	}
	k := Flock(l)
	return unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &k)
}

// Flock is a record lock as fcntl(2) wants it.
func Flock(l image.Lock) unix.Flock_t {
	k := unix.Flock_t{Type: unix.F_RDLCK, Start: l.Start}
	if l.Write {
		k.Type = unix.F_WRLCK
	}
	if l.End >= 0 && l.End < 1<<62 {
		k.Len = l.End - l.Start + 1
	}
	return k
}
