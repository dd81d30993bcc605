package engine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/wakepoint/wakepoint/internal/sys"

	"github.com/wakepoint/wakepoint/internal/image"
)

// openDescriptions makes every open file description here; the processes,
// which are there already, fetch them from us. What one needs of another comes
// in a second round.
func (r *restorer) openDescriptions() error {
	r.files = make([]*os.File, len(r.tree.Descriptions))
	m := maker{r: r, pipes: map[uint64]*pipeEnds{}, sockets: map[uint64]int{}, ghosts: map[int]*builtProcess{}}
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

// ofProcess says whether a path is that of a process in /proc.
func ofProcess(path string) bool {
	rest, ok := strings.CutPrefix(path, "/proc/")
	return ok && rest != "" && rest[0] >= '1' && rest[0] <= '9'
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
	pipes   map[uint64]*pipeEnds
	sockets map[uint64]int // cookie to description
	gone    []gonePeer
	ghosts  map[int]*builtProcess // by the number that they were asked to have
}

func (m *maker) close() error {
	for _, p := range m.pipes {
		p.close()
	}
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
		fd, err = m.pipeEnd(d)
	case image.FIFO:
		fd, err = m.fifoEnd(d)
	case image.Eventfd:
		flags := unix.EFD_CLOEXEC
		if d.Event.Semaphore {
			flags |= unix.EFD_SEMAPHORE
		}
		if fd, err = unix.Eventfd(0, flags|unix.EFD_NONBLOCK); err == nil && d.Event.Count > 0 {
			err = writeCount(fd, d.Event.Count)
		}
	case image.TimerfdKind:
		fd, err = openTimerfd(d.Timerfd)
	case image.Signalfd:
		fd, err = unix.Signalfd(-1, &unix.Sigset_t{Val: [16]uint64{d.Mask}}, unix.SFD_CLOEXEC)
	case image.EpollKind:
		fd, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	case image.InotifyKind:
		fd, err = m.inotify(d)
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
	return m.finish(fd, d)
}

// finish sets what fcntl can set.
func (m *maker) finish(fd int, d *image.Description) error {
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
	k := flockOf(l)
	return unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &k)
}

func flockOf(l image.Lock) unix.Flock_t {
	k := unix.Flock_t{Type: unix.F_RDLCK, Start: l.Start}
	if l.Write {
		k.Type = unix.F_WRLCK
	}
	if l.End >= 0 && l.End < 1<<62 {
		k.Len = l.End - l.Start + 1
	}
	return k
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
	fd, err := unix.Open(m.r.inside(d.Path), flags, 0)
	if err != nil {
		return -1, err
	}
	if d.Kind == image.Regular && d.Pos != 0 || d.Kind == image.Directory {
		if _, err := unix.Seek(fd, d.Pos, unix.SEEK_SET); err != nil {
			_ = unix.Close(fd)
			return -1, fmt.Errorf("seek to %d: %w", d.Pos, err)
		}
	}
	return fd, nil
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

func writeCount(fd int, n uint64) error {
	var b [8]byte
	for i := range b {
		b[i] = byte(n >> (8 * i))
	}
	_, err := unix.Write(fd, b[:])
	return err
}

// openTimerfd makes a timerfd with the time that was left. Expirations that
// nobody has read come again at once.
func openTimerfd(t *image.Timerfd) (int, error) {
	fd, err := unix.TimerfdCreate(t.Clock, unix.TFD_CLOEXEC)
	if err != nil {
		return -1, err
	}
	spec := unix.ItimerSpec{Value: unix.Timespec{Sec: t.Setting.Value[0], Nsec: t.Setting.Value[1]},
		Interval: unix.Timespec{Sec: t.Setting.Every[0], Nsec: t.Setting.Every[1]}}
	if t.Ticks > 0 && spec.Value.Nano() == 0 {
		spec.Value.Nsec = 1
	}
	if err := unix.TimerfdSettime(fd, 0, &spec, nil); err != nil {
		return -1, err
	}
	if t.Ticks > 0 && t.Setting.Value == [2]int64{} {
		return fd, nil
	}
	if t.Ticks > 0 {
		_ = sys.SetTimerfdTicks(fd, t.Ticks) // without CONFIG_CHECKPOINT_RESTORE they come late
	}
	return fd, nil
}

// inotify makes the watches again, under the numbers that they had.
func (m *maker) inotify(d *image.Description) (int, error) {
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
		got, err := unix.InotifyAddWatch(fd, m.r.inside(w.Path), w.Mask&^unix.IN_IGNORED)
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

// pipeEnds are both ends of a pipe that is being made.
type pipeEnds struct {
	r, w         int
	usedR, usedW bool
}

func (p *pipeEnds) close() {
	if !p.usedR {
		_ = unix.Close(p.r)
	}
	if !p.usedW && p.w != p.r {
		_ = unix.Close(p.w)
	}
}

// pipeEnd returns one end of a pipe; the pipe is made, and filled, at the
// first. A further description of an end is opened through /proc.
func (m *maker) pipeEnd(d *image.Description) (int, error) {
	p := m.pipes[d.Pipe.ID]
	if p == nil {
		var fds [2]int
		if err := unix.Pipe2(fds[:], unix.O_CLOEXEC|d.Flags&unix.O_DIRECT); err != nil {
			return -1, err
		}
		p = &pipeEnds{r: fds[0], w: fds[1]}
		m.pipes[d.Pipe.ID] = p
		if err := fillPipe(p.w, d.Pipe); err != nil {
			return -1, err
		}
	}
	mode := d.Flags & unix.O_ACCMODE
	switch {
	case mode == unix.O_RDONLY && !p.usedR:
		p.usedR = true
		return p.r, nil
	case mode == unix.O_WRONLY && !p.usedW:
		p.usedW = true
		return p.w, nil
	}
	return unix.Open(fmt.Sprintf("/proc/self/fd/%d", p.r), mode|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
}

func fillPipe(w int, p *image.Pipe) error {
	if p.Size > 0 {
		if _, err := unix.FcntlInt(uintptr(w), unix.F_SETPIPE_SZ, p.Size); err != nil {
			return fmt.Errorf("capacity %d: %w", p.Size, err)
		}
	}
	data, lengths := p.Data, p.Packets
	if len(lengths) == 0 {
		lengths = []int{len(data)}
	} else if _, err := unix.FcntlInt(uintptr(w), unix.F_SETFL, unix.O_DIRECT|unix.O_NONBLOCK); err != nil {
		return fmt.Errorf("packets: %w", err)
	}
	for _, k := range lengths {
		for part := data[:k]; len(part) > 0; {
			n, err := unix.Write(w, part)
			if err != nil {
				return fmt.Errorf("contents: %w", err)
			}
			part = part[n:]
		}
		data = data[k:]
	}
	return nil
}

// fifoEnd opens a FIFO by its name, which is made again if it is missing. It
// is first opened for both, so that nothing blocks and the contents stay.
func (m *maker) fifoEnd(d *image.Description) (int, error) {
	path := m.r.inside(d.Path)
	p := m.pipes[d.Pipe.ID]
	if p == nil {
		if err := unix.Mkfifo(path, d.Pipe.Mode&0o7777); err == nil {
			err = errors.Join(os.Chmod(path, os.FileMode(d.Pipe.Mode&0o777)), os.Lchown(path, int(d.Pipe.UID), int(d.Pipe.GID)))
			if err != nil {
				return -1, err
			}
		} else if err != unix.EEXIST {
			return -1, err
		}
		fd, err := unix.Open(path, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			return -1, err
		}
		p = &pipeEnds{r: fd, w: fd}
		m.pipes[d.Pipe.ID] = p
		drain(fd)
		if err := fillPipe(fd, d.Pipe); err != nil {
			return -1, err
		}
	}
	return unix.Open(path, d.Flags&unix.O_ACCMODE|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
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
