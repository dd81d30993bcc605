package procfs

import (
	"io/fs"
	"strconv"
	"strings"
	"syscall"
)

// linkMax is what the kernel gives a link of /proc at most, one page.
const linkMax = 4096

// LinkKind says what a magic link of /proc leads to.
type LinkKind uint8

// The kinds of links.
const (
	LinkPath      LinkKind = iota // a file with a path
	LinkPipe                      // pipe:[N]
	LinkSocket                    // socket:[N]
	LinkAnon                      // anon_inode:NAME; Name is without brackets
	LinkNamespace                 // net:[N]; Name is "net"
	LinkOther                     // NAME:[N] that is none of these
)

// A Link is the target of a magic link: of a descriptor, exe, cwd, root, or a
// namespace.
type Link struct {
	Kind  LinkKind
	Inode uint64 // of pipes, sockets and namespaces
	Name  string // of anonymous inodes ("eventfd", "inotify") and namespaces
	// Path is as seen from the reader's root, without the " (deleted)" that
	// Deleted stands for. Files of no directory are called "/memfd:NAME",
	// "/dev/zero", "/SYSV00001234" and are Deleted always.
	//
	// BUG: a file that exists and whose name ends in " (deleted)" looks
	// deleted; its link count tells (stat through the link).
	Path    string
	Deleted bool
}

// ParseLink reads the target of a magic link. It knows every string: what has
// no other form is a path.
//
// Source: proc_pid_fd(5); fs/d_path.c; d_dname of fs/pipe.c, net/socket.c,
// fs/anon_inodes.c, fs/nsfs.c.
func ParseLink(target string) Link {
	if strings.HasPrefix(target, "/") {
		path, deleted := strings.CutSuffix(target, deletedSuffix)
		return Link{Path: path, Deleted: deleted}
	}
	if name, ok := strings.CutPrefix(target, "anon_inode:"); ok {
		if in, ok := strings.CutPrefix(name, "["); ok {
			name = strings.TrimSuffix(in, "]")
		}
		return Link{Kind: LinkAnon, Name: name}
	}
	name, rest, ok := strings.Cut(target, ":[")
	digits, closed := strings.CutSuffix(rest, "]")
	inode, err := strconv.ParseUint(digits, 10, 64)
	if !ok || !closed || err != nil {
		return Link{Path: target}
	}
	l := Link{Inode: inode, Name: name}
	switch name {
	case "pipe":
		l.Kind, l.Name = LinkPipe, ""
	case "socket":
		l.Kind, l.Name = LinkSocket, ""
	case "cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts":
		l.Kind = LinkNamespace
	default:
		l.Kind = LinkOther
	}
	return l
}

// Namespaces are the inode numbers of a task's namespaces; 0: the kernel has no
// such namespace, or none has been entered yet (PIDForChildren after unshare
// and before the first fork).
type Namespaces struct {
	Cgroup, IPC, Mnt, Net, PID, PIDForChildren, Time, TimeForChildren, User, UTS uint64
}

// Namespaces reads /proc/PID/task/TID/ns. A task that has ended gives an error
// for which [IsGone] holds.
//
// Source: namespaces(7); fs/proc/namespaces.c.
func (r *Reader) Namespaces(pid, tid int) (Namespaces, error) {
	var ns Namespaces
	dir := r.taskPath(pid, tid, "ns/")
	found := false
	for _, n := range []struct {
		name string
		to   *uint64
	}{
		{"cgroup", &ns.Cgroup}, {"ipc", &ns.IPC}, {"mnt", &ns.Mnt}, {"net", &ns.Net}, {"pid", &ns.PID},
		{"pid_for_children", &ns.PIDForChildren}, {"time", &ns.Time},
		{"time_for_children", &ns.TimeForChildren}, {"user", &ns.User}, {"uts", &ns.UTS},
	} {
		target, err := r.readLink(dir + n.name)
		if IsGone(err) {
			continue
		}
		if err != nil {
			return Namespaces{}, err
		}
		*n.to, found = ParseLink(target).Inode, true
	}
	if !found {
		return Namespaces{}, &fs.PathError{Op: "readlink", Path: dir, Err: syscall.ENOENT}
	}
	return ns, nil
}

// FDLink reads /proc/PID/fd/FD.
func (r *Reader) FDLink(pid, fd int) (Link, error) {
	return r.link(r.processPath(pid, "fd/"+strconv.Itoa(fd)))
}

// TaskFDLink reads /proc/PID/task/TID/fd/FD.
func (r *Reader) TaskFDLink(pid, tid, fd int) (Link, error) {
	return r.link(r.taskPath(pid, tid, "fd/"+strconv.Itoa(fd)))
}

// MapFileLink reads /proc/PID/map_files/START-END: the file of a mapping by its
// exact name, or [fs.ErrNotExist] for a mapping without a file.
func (r *Reader) MapFileLink(pid int, m *Mapping) (Link, error) {
	return r.link(r.processPath(pid, "map_files/"+m.MapFile()))
}

// Exe reads /proc/PID/exe. A kernel thread or zombie has none, which looks as
// if it were gone.
func (r *Reader) Exe(pid int) (Link, error) { return r.link(r.processPath(pid, "exe")) }

// Cwd reads /proc/PID/task/TID/cwd.
func (r *Reader) Cwd(pid, tid int) (Link, error) { return r.link(r.taskPath(pid, tid, "cwd")) }

// Root reads /proc/PID/task/TID/root.
func (r *Reader) Root(pid, tid int) (Link, error) { return r.link(r.taskPath(pid, tid, "root")) }

func (r *Reader) link(path string) (Link, error) {
	target, err := r.readLink(path)
	if err != nil {
		return Link{}, err
	}
	return ParseLink(target), nil
}

func (r *Reader) readLink(path string) (string, error) {
	for {
		n, err := syscall.Readlink(path, r.buf[:linkMax])
		if err == nil {
			return string(r.buf[:n]), nil
		}
		if err != syscall.EINTR {
			return "", &fs.PathError{Op: "readlink", Path: path, Err: err}
		}
	}
}

// A TaskPath is the path of a file or directory of a process in /proc.
type TaskPath struct {
	PID  int
	TID  int    // of /proc/PID/task/TID, 0 otherwise
	Rest string // what follows, "" for the directory of the process itself
	FD   int    // of fdinfo/FD, -1 otherwise
}

// ParseTaskPath reads a path as a magic link gives it, with or without the mark
// of what is deleted.
func ParseTaskPath(path string) (TaskPath, bool) {
	p := TaskPath{FD: -1}
	rest, ok := strings.CutPrefix(strings.TrimSuffix(path, deletedSuffix), "/proc/")
	first, rest, _ := strings.Cut(rest, "/")
	if p.PID = number(first); !ok || p.PID <= 0 {
		return TaskPath{}, false
	}
	if in, ok := strings.CutPrefix(rest, "task/"); ok {
		first, in, _ = strings.Cut(in, "/")
		p.TID, rest = number(first), in
	}
	if fd, ok := strings.CutPrefix(rest, "fdinfo/"); ok {
		p.FD = number(fd)
	}
	p.Rest = rest
	return p, true
}

// Of is the path of the same file of another task.
func (p TaskPath) Of(pid, tid int) string {
	dir := "/proc/" + strconv.Itoa(pid)
	if p.TID != 0 {
		dir += "/task/" + strconv.Itoa(tid)
	}
	return strings.TrimSuffix(dir+"/"+p.Rest, "/")
}

// number is a decimal number, -1 for anything else.
func number(s string) int {
	n, err := strconv.ParseUint(s, 10, 31)
	if err != nil {
		return -1
	}
	return int(n)
}
