// Package fanotify tells which files are written and closed on the mounts of a
// process (fanotify(7)).
//
// The marks are on mounts, not on file systems: what goes by other mounts of
// the same file system makes no event, so that a mount namespace of its own is
// a workload's alone.
package fanotify

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/wakepoint/wakepoint/internal/procfs"
)

// Open opens a group (fanotify_init(2)). Its events wait in the kernel, 16,384
// of them unless the host says otherwise; what is too much is dropped, and told.
// More must not wait: nobody may read for a long time.
func Open() (fd int, err error) {
	fd, err = unix.FanotifyInit(unix.FAN_CLASS_NOTIF|unix.FAN_CLOEXEC|unix.FAN_NONBLOCK,
		unix.O_RDONLY|unix.O_LARGEFILE|unix.O_CLOEXEC|unix.O_NOATIME)
	return fd, os.NewSyscallError("fanotify_init", err)
}

// bare are the types of file systems on which no data of a program lies.
var bare = []string{
	"autofs", "binfmt_misc", "bpf", "cgroup", "cgroup2", "configfs", "debugfs", "devpts", "devtmpfs", "efivarfs", "fusectl", "mqueue",
	"nsfs", "proc", "pstore", "resctrl", "rpc_pipefs", "securityfs", "selinuxfs", "sysfs", "tracefs",
}

// MarkAll marks the mounts of a process, as /proc/PID/mountinfo lists them. An
// error means that not even / could be marked; failed are others that could not.
func MarkAll(group, pid int, mountinfo []byte) (failed []string, err error) {
	list, err := procfs.ParseMountinfo(mountinfo)
	if err != nil {
		return nil, err
	}
	for _, point := range points(list) {
		err := Mark(group, filepath.Join(fmt.Sprintf("/proc/%d/root", pid), point))
		switch {
		case err == nil:
		case point == "/":
			return nil, err
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENOTDIR): // it has just gone, or lies below another mount
		default:
			failed = append(failed, point)
		}
	}
	return failed, nil
}

// Mark marks the mount on which a path lies (fanotify_mark(2)).
func Mark(group int, path string) error {
	err := unix.FanotifyMark(group, unix.FAN_MARK_ADD|unix.FAN_MARK_MOUNT, unix.FAN_CLOSE_WRITE, unix.AT_FDCWD, path)
	return os.NewSyscallError("fanotify_mark", err)
}

// Flush takes all marks away.
func Flush(group int) error {
	err := unix.FanotifyMark(group, unix.FAN_MARK_FLUSH|unix.FAN_MARK_MOUNT, 0, unix.AT_FDCWD, "/")
	return os.NewSyscallError("fanotify_mark", err)
}

// points are where the mounts are on which a program may have data, each once,
// / first.
func points(list []procfs.Mount) []string {
	skip := map[string]bool{"/": true}
	for _, t := range bare {
		skip["type "+t] = true
	}
	top := map[string]string{} // a later mount hides one at the same point
	for _, m := range list {
		top[m.MountPoint] = "type " + m.FSType
	}
	out := []string{"/"}
	for _, m := range list {
		if !skip[m.MountPoint] && !skip[top[m.MountPoint]] {
			out = append(out, m.MountPoint)
		}
		skip[m.MountPoint] = true
	}
	return out
}

// Event says that a file was closed that had been open for writing.
type Event struct {
	FD   int  // of the file, for reading; -1: none
	PID  int  // who closed it; 0: a process that is not in our namespace
	Lost bool // the kernel dropped events
}

// eventSize is the size of struct fanotify_event_metadata:
//
//	offset size field
//	     0    4 event_len
//	     4    1 vers, 1 reserved
//	     6    2 metadata_len
//	     8    8 mask
//	    16    4 fd
//	    20    4 pid
const eventSize = 24

// BufferSize is room for some events: a descriptor is opened for each that is
// read, so that there should not be many.
const BufferSize = 256 * eventSize

// Read calls f for the events that wait, as many as there is room for in buf,
// and returns their number. f owns the descriptors. An error that is not EAGAIN
// means that the file of one event could not be opened.
func Read(group int, buf []byte, f func(Event)) (int, error) {
	n, err := unix.Read(group, buf)
	if errors.Is(err, unix.EINTR) {
		return Read(group, buf, f)
	}
	if err != nil {
		return 0, err
	}
	count := 0
	for p := buf[:n]; len(p) >= eventSize; {
		size := int(binary.NativeEndian.Uint32(p))
		if size < eventSize || size > len(p) {
			break
		}
		f(Event{
			FD:   int(int32(binary.NativeEndian.Uint32(p[16:]))),
			PID:  int(binary.NativeEndian.Uint32(p[20:])),
			Lost: binary.NativeEndian.Uint64(p[8:])&unix.FAN_Q_OVERFLOW != 0,
		})
		p = p[size:]
		count++
	}
	return count, nil
}

// Probe tries, on a file in a directory that loses its name at once, whether a file that is
// written and closed is seen. It leaves nothing behind.
func Probe(dir string) error {
	group, err := Open()
	if err != nil {
		return err
	}
	defer unix.Close(group)
	f, err := os.CreateTemp(dir, ".wakepoint-probe-")
	if err != nil {
		return err
	}
	err = errors.Join(os.Remove(f.Name()), Mark(group, dir))
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	seen := 0
	_, err = Read(group, make([]byte, BufferSize), func(e Event) {
		if e.FD >= 0 {
			seen++
			unix.Close(e.FD)
		}
	})
	if err == nil && seen == 0 || errors.Is(err, unix.EAGAIN) {
		err = fmt.Errorf("a file in %s was closed, and nothing told of it", dir)
	}
	return err
}
