package engine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/wakepoint/wakepoint/internal/description"
	"github.com/wakepoint/wakepoint/internal/image"
	"github.com/wakepoint/wakepoint/internal/namespace"
	"github.com/wakepoint/wakepoint/internal/procfs"
	"github.com/wakepoint/wakepoint/internal/tape"
)

// openDescriptions makes every open file description here; the processes,
// which are there already, fetch them from us. What one needs of another comes
// in a second round.
func (r *restorer) openDescriptions() error {
	r.files = make([]*os.File, len(r.tree.Descriptions))
	passed, err := r.sinceImage()
	if err != nil {
		return err
	}
	m := maker{r: r, passed: passed, pipes: description.Pipes{}, sockets: map[uint64]int{}, ghosts: map[int]*builtProcess{}}
	for i := range r.tree.Descriptions {
		if s := r.tree.Descriptions[i].Socket; s != nil {
			m.sockets[s.Cookie] = i
		}
	}
	for i := range r.tree.Descriptions {
		if err := m.open(i, &r.tree.Descriptions[i]); err != nil {
			return fmt.Errorf("open %s: %w", describeForPeople(&r.tree.Descriptions[i]), err)
		}
	}
	if err := m.connectUnix(); err != nil {
		return fmt.Errorf("connect sockets: %w", err)
	}
	if err := m.sendInFlight(); err != nil {
		return err
	}
	return m.close()
}

// deadPidfd makes a pidfd of a process of the tree that has ended; they are all
// alike.
func (r *restorer) deadPidfd(flags int) (int, error) {
	b, err := r.child(r.stub, 0, 0, nil)
	if err != nil {
		return -1, err
	}
	fd, err := unix.PidfdOpen(b.pid, flags&unix.PIDFD_NONBLOCK)
	return fd, errors.Join(err, r.end(r.stub, b, r.stub))
}

func describeForPeople(d *image.Description) string {
	if d.Path != "" {
		return string(d.Kind) + " " + d.Path
	}
	return string(d.Kind)
}

// maker makes descriptions.
type maker struct {
	r       *restorer
	passed  int64 // see sinceImage
	pipes   description.Pipes
	sockets map[uint64]int // cookie to description
	gone    []gonePeer
	ghosts  map[int]*builtProcess // by the number that they were asked to have
}

func (m *maker) close() error {
	m.pipes.Close()
	var errs error
	for _, g := range m.ghosts {
		errs = errors.Join(errs, m.r.end(m.r.stub, g, m.r.stub))
	}
	return errs
}

// open makes description i. A socket with a peer is left for later.
func (m *maker) open(i int, d *image.Description) error {
	if m.r.files[i] != nil || d.Socket != nil && m.hasPeer(d.Socket) {
		return nil
	}
	fd, err := -1, error(nil)
	switch d.Kind {
	case image.Regular, image.Directory, image.Device, image.PathOnly, image.MemfdKind:
		fd, err = m.file(d)
	case image.PipeEnd:
		fd, err = m.pipes.End(d)
	case image.FIFO:
		fd, err = m.pipes.FIFO(d, m.r.inside(d.Path))
	case image.Eventfd:
		fd, err = description.Eventfd(d.Event)
	case image.TimerfdKind:
		fd, err = description.Timerfd(d.Timerfd, m.r.tree.Clock, m.passed)
	case image.Signalfd:
		fd, err = unix.Signalfd(-1, &unix.Sigset_t{Val: [16]uint64{d.Mask}}, unix.SFD_CLOEXEC)
	case image.EpollKind:
		fd, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	case image.InotifyKind:
		fd, err = description.Inotify(d, m.r.inside)
	case image.SocketKind:
		fd, err = m.socket(d)
	case image.PtySlave:
		fd, err = unix.Open(m.r.inside(m.r.tree.Terminal.Path), unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	case image.Pidfd:
		if b := m.r.built[d.Target]; b != nil {
			fd, err = unix.PidfdOpen(b.pid, d.Flags&unix.PIDFD_NONBLOCK)
		} else {
			fd, err = m.r.deadPidfd(d.Flags)
		}
	default:
		return fmt.Errorf("a description of kind %q is unknown", d.Kind)
	}
	if err != nil {
		return err
	}
	m.r.files[i] = os.NewFile(uintptr(fd), string(d.Kind))
	return description.Finish(fd, d)
}

// openFlags are the flags that matter when a file is opened again.
const openFlags = unix.O_ACCMODE | unix.O_APPEND | unix.O_NONBLOCK | unix.O_SYNC | unix.O_DSYNC | unix.O_DIRECT |
	unix.O_LARGEFILE | unix.O_NOATIME | unix.O_DIRECTORY | unix.O_PATH | unix.O_NOFOLLOW

// file opens what has, or had, a name.
func (m *maker) file(d *image.Description) (int, error) {
	flags := d.Flags&openFlags | unix.O_CLOEXEC | unix.O_NOCTTY
	if d.Kind == image.Regular {
		flags &^= unix.O_DIRECTORY // from O_TMPFILE
	}
	if d.Object >= 0 {
		return m.object(d, flags)
	}
	path, err := m.taskPath(description.InGroup(d, m.r.init.PID, m.r.inside))
	if err != nil {
		return -1, err
	}
	fd, err := unix.Open(m.r.inside(path), flags, 0)
	if err == unix.ENOENT && d.Kind == image.Regular && flags&unix.O_ACCMODE == unix.O_RDONLY && m.r.o.Kept != nil {
		fd, err = m.keptFile(d, flags, err)
	}
	if err != nil {
		return -1, err
	}
	if d.Kind == image.Regular && d.Pos != 0 || d.Kind == image.Directory {
		if d.Kind == image.Directory {
			// ext4 begins a walk where the first call finds the position: one that
			// begins at the end finds nothing after a rewind either (ext4_dx_readdir).
			_, _ = unix.ReadDirent(fd, make([]byte, 4096))
		}
		if _, err := unix.Seek(fd, d.Pos, unix.SEEK_SET); err != nil {
			_ = unix.Close(fd)
			return -1, fmt.Errorf("seek to %d: %w", d.Pos, err)
		}
	}
	return fd, nil
}

// taskPath makes sure that what a path of /proc names is there: the task, or
// one in its place that ends as soon as the files are open, and the descriptor
// that fdinfo shows. Other paths stay as they are.
func (m *maker) taskPath(path string) (string, error) {
	p, ok := procfs.ParseTaskPath(path)
	if !ok {
		return path, nil
	}
	is := func(th image.Thread) bool { return th.TID == p.TID }
	if b := m.r.built[p.PID]; p.TID != 0 && (b == nil || b.image == nil || !slices.ContainsFunc(b.image.Threads, is)) {
		p.PID = p.TID
	}
	b, err := m.actor(p.PID)
	if err != nil || p.FD < 0 {
		return p.Of(p.PID, p.TID), err
	}
	tp := new(tape.Tape)
	tp.Try("dup3", m.r.arch.NR.Dup3, tape.N(namespace.FDSelf), tape.N(p.FD), tape.N(unix.O_CLOEXEC))
	if err := m.r.raiseFiles(b); err != nil {
		return "", err
	}
	_, err = b.leader().Play(&b.space, tp)
	return p.Of(p.PID, p.TID), err
}

// keptFile opens what was read under a name that is not there any more.
func (m *maker) keptFile(d *image.Description, flags int, cause error) (int, error) {
	f, err := m.r.o.Kept(d.Path, nil, cause)
	if err != nil {
		return -1, err
	}
	defer f.Close()
	return unix.Open(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), flags&^unix.O_NOFOLLOW, 0)
}

// object opens a memfd or a deleted file anew, as a description of its own.
func (m *maker) object(d *image.Description, flags int) (int, error) {
	o := m.r.object[d.Object]
	fd, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", o.Fd()), flags&^unix.O_NOFOLLOW, 0)
	if err != nil {
		return -1, err
	}
	_, err = unix.Seek(fd, d.Pos, unix.SEEK_SET)
	return fd, err
}

// makeDirs makes directories again that a boot took away.
func (r *restorer) makeDirs(dirs []image.Dir) error {
	for _, d := range dirs {
		path := r.inside(d.Path)
		err := os.Mkdir(path, 0o700)
		if errors.Is(err, os.ErrExist) {
			continue
		}
		if err == nil {
			err = errors.Join(os.Lchown(path, int(d.UID), int(d.GID)), unix.Chmod(path, d.Mode&0o7777))
		}
		if err != nil {
			return fmt.Errorf("make %s: %w", filepath.Clean(d.Path), err)
		}
	}
	return nil
}
