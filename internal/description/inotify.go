package description

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/wakepoint/wakepoint/internal/image"
)

// Inotify makes an inotify with its watches under the numbers that they had.
// inside is how this process reaches a path of the tree.
func Inotify(d *image.Description, inside func(string) string) (int, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return -1, err
	}
	next := 1
	list := append([]image.Inotify(nil), d.Inotify...)
	for len(list) > 0 {
		low := 0
		for i := range list {
			if list[i].WD < list[low].WD {
				low = i
			}
		}
		w := list[low]
		list = append(list[:low], list[low+1:]...)
		for ; next < w.WD; next++ { // numbers are given out in order: spend those between
			spent, err := unix.InotifyAddWatch(fd, "/", unix.IN_DELETE_SELF|unix.IN_MASK_CREATE)
			if err == nil {
				_, err = unix.InotifyRmWatch(fd, uint32(spent))
			}
			if err != nil {
				return -1, fmt.Errorf("number %d: %w", next, err)
			}
		}
		got, err := unix.InotifyAddWatch(fd, inside(w.Path), w.Mask&^unix.IN_IGNORED)
		if err != nil {
			return -1, fmt.Errorf("watch %s: %w", w.Path, err)
		}
		if got != w.WD {
			return -1, fmt.Errorf("watch %s is number %d, not %d", w.Path, got, w.WD)
		}
		next = w.WD + 1
	}
	drain(fd)
	if d.Overflow {
		err = overflow(fd)
	}
	return fd, err
}

// overflow puts IN_Q_OVERFLOW into the queue of an inotify: it is filled to
// the brim, and all but that last event is read off again.
func overflow(fd int) error {
	b, err := os.ReadFile("/proc/sys/fs/inotify/max_queued_events")
	if err != nil {
		return err
	}
	most, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return err
	}
	f, err := os.CreateTemp("", "wakepoint-*")
	if err != nil {
		return err
	}
	defer f.Close()
	defer os.Remove(f.Name())
	wd, err := unix.InotifyAddWatch(fd, f.Name(), unix.IN_ATTRIB|unix.IN_MODIFY)
	if err != nil {
		return err
	}
	for i := range most + 1 { // two like events in a row would be one
		if i%2 == 0 {
			_, err = f.WriteAt([]byte{0}, 0)
		} else {
			err = f.Chmod(0o600)
		}
		if err != nil {
			return err
		}
	}
	if _, err := unix.InotifyRmWatch(fd, uint32(wd)); err != nil {
		return err
	}
	buf := make([]byte, unix.SizeofInotifyEvent)
	for range most {
		if n, err := unix.Read(fd, buf); err != nil || n != len(buf) {
			return fmt.Errorf("event of %d bytes: %w", n, err)
		}
	}
	return nil
}

// drain throws away the events that making the watches caused (IN_IGNORED).
func drain(fd int) {
	buf := make([]byte, 4096)
	for {
		if n, err := unix.Read(fd, buf); n <= 0 || err != nil {
			return
		}
	}
}
