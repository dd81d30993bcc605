package engine

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/wakepoint/wakepoint/internal/description"
	"github.com/wakepoint/wakepoint/internal/image"
)

func (d *dumper) eventfd(c *descriptor, desc *image.Description) error {
	if c.info.EventFD == nil {
		return c.refuse("eventfd", "")
	}
	desc.Kind = image.Eventfd
	desc.Event = &image.Event{Count: c.info.EventFD.Count, Semaphore: c.info.EventFD.Semaphore}
	if c.info.EventFD.Told {
		return nil
	}
	fd, err := c.ours()
	if err == nil {
		desc.Event.Semaphore, err = description.IsSemaphore(fd, desc.Event.Count)
	}
	if err != nil {
		return fmt.Errorf("eventfd %d: %w", c.fd, err)
	}
	return nil
}

func (d *dumper) timerfd(c *descriptor, desc *image.Description) error {
	t := c.info.Timer
	if t == nil {
		return c.refuse("timerfd", "")
	}
	desc.Kind = image.TimerfdKind
	if t.Ticks > 0 && t.IntervalNanos > 0 && t.ValueNanos == 0 {
		// The kernel counts on when somebody looks (do_timerfd_gettime).
		fd, err := c.ours()
		if err == nil {
			err = unix.TimerfdGettime(fd, new(unix.ItimerSpec))
		}
		if err != nil {
			return fmt.Errorf("timerfd %d: %w", c.fd, err)
		}
		if c.info, err = d.proc.Fdinfo(c.p.pid, c.fd); err != nil {
			return err
		}
		t = c.info.Timer
	}
	desc.Timerfd = &image.Timerfd{Clock: t.ClockID, Ticks: t.Ticks, Settime: int(t.SettimeFlags),
		Setting: image.Interval{Value: split(t.ValueNanos), Every: split(t.IntervalNanos)}}
	return nil
}

func split(ns uint64) [2]int64 { return [2]int64{int64(ns / 1e9), int64(ns % 1e9)} }

func (d *dumper) signalfd(c *descriptor, desc *image.Description) error {
	if c.info.SigMask == nil {
		return c.refuse("signalfd", "")
	}
	desc.Kind, desc.Mask = image.Signalfd, *c.info.SigMask
	return nil
}

// inotify describes an inotify with the paths of its watches, found through
// their file handles. Events that wait in it are lost: its reader is told so
// with an overflow (IN_Q_OVERFLOW is what the program must expect anyway).
func (d *dumper) inotify(c *descriptor, desc *image.Description) error {
	desc.Kind = image.InotifyKind
	fd, err := c.ours()
	if err != nil {
		return err
	}
	if waiting, err := unix.IoctlGetInt(fd, unix.TIOCINQ); err != nil || waiting > 0 {
		desc.Overflow = true
	}
	for _, w := range c.info.Inotify {
		path, err := d.pathOfHandle(c, w.Inode, w.HandleType, w.Handle, w.Device.Major(), w.Device.Minor())
		if err != nil {
			return refuse(c.p.pid, fmt.Sprintf("inotify fd %d of pid %d watches something without a path: %v", c.fd, c.p.pid, err), "let it stop watching what was removed")
		}
		desc.Inotify = append(desc.Inotify, image.Inotify{WD: w.WD, Mask: w.Mask, Path: path})
	}
	return nil
}

// pathOfHandle opens a file handle on the mount of its device and asks the
// kernel for its path (open_by_handle_at(2)).
func (d *dumper) pathOfHandle(c *descriptor, ino uint64, typ int32, handle []byte, major, minor uint32) (string, error) {
	mounts, err := d.proc.Mounts(c.p.pid)
	if err != nil {
		return "", err
	}
	var last error = os.ErrNotExist
	for _, m := range mounts {
		if m.Major != major || m.Minor != minor {
			continue
		}
		dir, err := os.Open(filepath.Join(fmt.Sprintf("/proc/%d/root", c.p.pid), m.MountPoint))
		if err != nil {
			last = err
			continue
		}
		fd, err := unix.OpenByHandleAt(int(dir.Fd()), unix.NewFileHandle(typ, handle), unix.O_PATH)
		_ = dir.Close()
		if err != nil {
			last = err
			continue
		}
		path, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
		_ = unix.Close(fd)
		if strings.HasSuffix(path, " (deleted)") {
			if _, err := os.Lstat(d.f.tree.inside(path)); err != nil {
				return "", fmt.Errorf("%s: %w", path, os.ErrNotExist)
			}
		}
		return path, err
	}
	return "", last
}

func (d *dumper) pidfd(c *descriptor, desc *image.Description) error {
	desc.Kind = image.Pidfd
	if c.info.PIDFD != nil {
		for _, p := range d.f.processes {
			if p.pid == c.info.PIDFD.PID {
				desc.Target = p.ns
				return nil
			}
		}
		if c.info.PIDFD.PID == -1 {
			return nil // of a process that has ended
		}
	}
	return c.refuse("a pidfd of a process outside,", "")
}
