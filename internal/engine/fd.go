package engine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/wakepoint/wakepoint/internal/description"
	"github.com/wakepoint/wakepoint/internal/image"
	"github.com/wakepoint/wakepoint/internal/procfs"
	"github.com/wakepoint/wakepoint/internal/sys"
)

// known is a description that was seen already, at one of its descriptors.
type known struct {
	pid, fd int
	index   int
}

// descriptor is one descriptor while it is being described.
type descriptor struct {
	p     *process
	fd    int
	link  string // target of /proc/PID/fd/N
	info  procfs.Fdinfo
	dup   int // a duplicate in this process, -1 until it is wanted
	pidfd int
}

func (c *descriptor) magic() string { return fmt.Sprintf("/proc/%d/fd/%d", c.p.pid, c.fd) }

// ours returns a duplicate of the descriptor in this process.
func (c *descriptor) ours() (int, error) {
	if c.dup < 0 {
		fd, err := unix.PidfdGetfd(c.pidfd, c.fd, 0)
		if err != nil {
			return -1, fmt.Errorf("duplicate fd %d of pid %d: %w", c.fd, c.p.pid, err)
		}
		c.dup = fd
	}
	return c.dup, nil
}

func (c *descriptor) refuse(what, hint string) error {
	if hint == "" {
		hint = "let it close that, or start it without what uses it"
	}
	return refuse(c.p.pid, fmt.Sprintf("%s fd %d of pid %d cannot be saved", what, c.fd, c.p.pid), hint)
}

// table describes the descriptor table of a process.
func (d *dumper) table(p *process) (int, error) {
	fds, err := d.proc.FDs(p.pid)
	if err != nil {
		return 0, err
	}
	pidfd, err := unix.PidfdOpen(p.pid, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(pidfd)
	index := len(d.tree.Tables)
	d.tree.Tables = append(d.tree.Tables, image.Table{})
	for _, fd := range fds {
		c := &descriptor{p: p, fd: fd, dup: -1, pidfd: pidfd}
		e, err := d.entry(c, index)
		if c.dup >= 0 {
			_ = unix.Close(c.dup)
		}
		if err := d.f.note(err); err != nil {
			return 0, err
		}
		d.tree.Tables[index].Entries = append(d.tree.Tables[index].Entries, e)
	}
	return index, nil
}

// entry describes one descriptor, and its description when it is new.
func (d *dumper) entry(c *descriptor, table int) (image.Entry, error) {
	e := image.Entry{FD: c.fd}
	var err error
	if c.link, err = os.Readlink(c.magic()); err != nil {
		return e, err
	}
	if c.info, err = d.proc.Fdinfo(c.p.pid, c.fd); err != nil {
		return e, err
	}
	e.CloseOnExec = c.info.Flags&unix.O_CLOEXEC != 0
	for _, k := range d.byLink[c.link] {
		same, err := sys.Kcmp(k.pid, c.p.pid, sys.KcmpFile, uint64(k.fd), uint64(c.fd))
		if err != nil {
			return e, fmt.Errorf("compare descriptors: %w", err)
		}
		if same == 0 {
			e.Description = k.index
			return e, d.recordLocks(c, &d.tree.Descriptions[k.index])
		}
	}
	desc := image.Description{Flags: int(c.info.Flags) &^ unix.O_CLOEXEC, Pos: c.info.Pos, Object: -1}
	e.Description = len(d.tree.Descriptions)
	d.byLink[c.link] = append(d.byLink[c.link], known{c.p.pid, c.fd, e.Description})
	d.tree.Descriptions = append(d.tree.Descriptions, desc)
	d.inodes = append(d.inodes, c.info.Inode)
	if err := d.describeFD(c, table, e.Description, &desc); err != nil {
		return e, err
	}
	d.tree.Descriptions[e.Description] = desc
	return e, nil
}

// describeFD says what a description is.
func (d *dumper) describeFD(c *descriptor, table, index int, desc *image.Description) error {
	if c.info.Flags&unix.O_PATH != 0 {
		desc.Kind, desc.Path = image.PathOnly, c.link
		var st syscall.Stat_t
		fd, err := c.ours()
		if err == nil {
			err = syscall.Fstat(fd, &st)
		}
		if err != nil {
			return err
		}
		return d.named(c, desc, &st)
	}
	if err := d.owner(c, desc); err != nil {
		return err
	}
	if name, ok := strings.CutPrefix(c.link, "anon_inode:"); ok {
		return d.anonymous(c, table, index, desc, strings.Trim(name, "[]"))
	}
	if strings.HasPrefix(c.link, "socket:[") {
		return d.socket(c, desc)
	}
	if strings.HasPrefix(c.link, "pipe:[") {
		return d.pipe(c, desc)
	}
	return d.fileFD(c, desc)
}

// anonymous describes the kinds that the kernel makes out of nothing.
func (d *dumper) anonymous(c *descriptor, table, index int, desc *image.Description, name string) error {
	switch name {
	case "eventfd":
		return d.eventfd(c, desc)
	case "timerfd":
		return d.timerfd(c, desc)
	case "signalfd":
		return d.signalfd(c, desc)
	case "eventpoll":
		return d.epoll(c, table, index, desc)
	case "inotify":
		return d.inotify(c, desc)
	case "pidfd":
		return d.pidfd(c, desc)
	case "io_uring":
		return c.refuse("io_uring", "start it without io_uring (node: UV_USE_IO_URING=0)")
	}
	return c.refuse(name, "")
}

// Types of struct f_owner_ex (fcntl(2)).
const (
	ownerTID   = 0
	ownerPID   = 1
	ownerGroup = 2
)

// owner reads who gets SIGIO (F_GETOWN_EX), and by which signal.
func (d *dumper) owner(c *descriptor, desc *image.Description) error {
	if desc.Flags&unix.O_ASYNC == 0 {
		return nil
	}
	fd, err := c.ours()
	if err != nil {
		return err
	}
	o := &desc.Owner
	if o.Type, o.PID, err = sys.GetOwner(fd); err != nil {
		return fmt.Errorf("owner of fd %d: %w", c.fd, err)
	}
	if o.Sig, err = unix.FcntlInt(uintptr(fd), unix.F_GETSIG, 0); err != nil {
		return fmt.Errorf("signal of fd %d: %w", c.fd, err)
	}
	if o.PID == 0 {
		return nil
	}
	for _, p := range d.f.processes {
		switch {
		case o.Type == ownerPID && p.pid == o.PID:
			o.PID = p.ns
			return nil
		case o.Type == ownerGroup && p.stat.PGRP == o.PID && !p.zombie:
			o.PID = last(p.status.NSpgid, 0)
			return nil
		case o.Type == ownerTID:
			for _, t := range p.threads {
				if t.TID == o.PID {
					o.PID = t.NSTID
					return nil
				}
			}
		}
	}
	o.PID = 0 // its owner has ended
	return nil
}

// fileFD describes what has an inode of a file system.
func (d *dumper) fileFD(c *descriptor, desc *image.Description) error {
	var st syscall.Stat_t
	if err := syscall.Stat(c.magic(), &st); err != nil {
		return fmt.Errorf("stat fd %d: %w", c.fd, err)
	}
	desc.Path, desc.Cgroup = description.OwnGroup(c.p.pid, c.link)
	writable := desc.Flags&unix.O_ACCMODE != unix.O_RDONLY
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		desc.Kind = image.Directory
		if st.Nlink == 0 {
			return c.refuse("the removed directory at", "")
		}
		if strings.HasPrefix(c.link, "/proc/") {
			return d.procFile(c, desc)
		}
		if err := d.named(c, desc, &st); err != nil {
			return err
		}
		return d.locks(c, desc)
	case unix.S_IFCHR:
		return d.device(c, desc, &st)
	case unix.S_IFIFO:
		return d.fifo(c, desc, &st)
	case unix.S_IFREG:
	default:
		if strings.HasPrefix(c.link, "pidfd:") || strings.HasPrefix(c.link, "[pidfd") {
			return d.pidfd(c, desc)
		}
		return c.refuse(c.link, "")
	}
	if c.info.PIDFD != nil {
		return d.pidfd(c, desc)
	}
	if strings.HasPrefix(c.link, "/proc/") {
		return d.procFile(c, desc)
	}
	desc.Kind, desc.Size = image.Regular, st.Size
	if _, err := d.fileSystem(c.magic(), c.link, st.Dev); err != nil {
		if what, ok := unsavable[d.f.tree.fileSystems[st.Dev]]; ok {
			return c.refuse(what+" at", "")
		}
		return err
	}
	if strings.HasSuffix(c.link, " (deleted)") && (st.Nlink == 0 || strings.HasPrefix(c.link, "/memfd:")) {
		desc.Path = strings.TrimSuffix(c.link, " (deleted)")
		var err error
		if desc.Object, err = d.object(c.magic(), desc.Path, &st); err != nil {
			return err
		}
		if d.tree.Objects[desc.Object].Kind == image.Memfd {
			desc.Kind = image.MemfdKind
		}
		return d.locks(c, desc)
	}
	if err := errors.Join(d.named(c, desc, &st), d.locks(c, desc)); err != nil {
		return err
	}
	return d.belongs(c.magic(), desc.Path, &st, writable, desc.Flags&unix.O_APPEND == 0, false)
}

// named makes sure that a description's path leads to its file, or finds
// another name that does: the old one may have been removed, or given to
// another file, or a mount may lie over it.
func (d *dumper) named(c *descriptor, desc *image.Description, st *syscall.Stat_t) error {
	if _, task := procfs.ParseTaskPath(desc.Path); task || !strings.HasPrefix(desc.Path, "/") {
		return c.refuse(desc.Path+",", "")
	}
	var at syscall.Stat_t
	if err := syscall.Lstat(d.f.tree.inside(desc.Path), &at); desc.Cgroup != "" || err == nil && at.Dev == st.Dev && at.Ino == st.Ino {
		return nil
	}
	old := strings.TrimSuffix(desc.Path, " (deleted)")
	list, err := os.ReadDir(d.f.tree.inside(filepath.Dir(old)))
	if err != nil {
		list = nil
	}
	for _, e := range list {
		path := filepath.Join(filepath.Dir(old), e.Name())
		if err := syscall.Lstat(d.f.tree.inside(path), &at); err == nil && at.Dev == st.Dev && at.Ino == st.Ino {
			desc.Path = path
			return nil
		}
	}
	return c.refuse("the file "+old+", which is no longer found under that name, at", "")
}

// locks notes the locks that belong to a description, or to a process by it.
func (d *dumper) locks(c *descriptor, desc *image.Description) error {
	for _, l := range c.info.Locks {
		if l.Waiting {
			continue
		}
		switch l.Kind {
		case "POSIX":
		case "FLOCK", "OFDLCK":
			desc.Locks = append(desc.Locks, lockOf(&l))
		default:
			return c.refuse("a "+l.Kind+" on", "")
		}
	}
	return d.recordLocks(c, desc)
}

func lockOf(l *procfs.Lock) image.Lock {
	return image.Lock{Class: l.Kind, Write: l.Type == "WRITE", Start: l.Start, End: l.End}
}

// recordLocks notes the record locks of a process, which are not the
// description's: others that share it have their own.
func (d *dumper) recordLocks(c *descriptor, desc *image.Description) error {
	for _, l := range c.info.Locks {
		if l.Waiting || l.Kind != "POSIX" || l.PID != c.p.pid {
			continue
		}
		k := lockOf(&l)
		k.PID = c.p.ns
		if !slices.Contains(desc.Locks, k) {
			desc.Locks = append(desc.Locks, k)
		}
	}
	return nil
}

// procFile describes an open file of the tree's own /proc.
func (d *dumper) procFile(c *descriptor, desc *image.Description) error {
	if desc.Kind != image.Directory {
		desc.Kind = image.Regular
	}
	p, ok := procfs.ParseTaskPath(c.link)
	if !ok || slices.ContainsFunc(d.f.processes, func(of *process) bool { return of.ns == p.PID }) {
		return nil
	}
	if _, err := os.Lstat(d.f.tree.inside(p.Of(p.PID, p.TID))); err == nil {
		return c.refuse("the /proc file of a process outside ("+c.link+")", "")
	}
	return nil // it has ended
}

// device describes a character device that has no state of its own, or a
// terminal.
func (d *dumper) device(c *descriptor, desc *image.Description, st *syscall.Stat_t) error {
	desc.Kind, desc.Device = image.Device, st.Rdev
	major, minor := unix.Major(st.Rdev), unix.Minor(st.Rdev)
	switch {
	case major == 1 && (minor == 3 || minor == 5 || minor == 7 || minor == 8 || minor == 9):
		return nil // null, zero, full, random, urandom
	case major >= 136 && major <= 143, major == 5 && minor == 0:
		return d.terminal(c, desc)
	case major == 5 && minor == 2:
		return c.refuse("the master of a terminal at", "terminals that the program makes itself cannot be saved yet")
	}
	return c.refuse("device "+c.link+" at", "only null, zero, full, random, urandom and terminals can be saved")
}

// inside is a path of the tree as this process reaches it.
func (t *Tree) inside(path string) string {
	return fmt.Sprintf("/proc/%d/root", t.member()) + filepath.Clean("/"+path)
}
