package engine

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/wakepoint/wakepoint/internal/image"
	"github.com/wakepoint/wakepoint/internal/sockdiag"
	"github.com/wakepoint/wakepoint/internal/sys"
)

// unixSocket describes a UNIX socket; the links between sockets are resolved
// when all are known.
func (d *dumper) unixSocket(c *descriptor, fd int, desc *image.Description) error {
	s := desc.Socket
	if d.unix == nil {
		var err error
		if d.unix, err = sockdiag.Unix(); err != nil {
			return err
		}
	}
	s.Bound = len(s.Local) > 2
	s.PeerID, s.Shutdown = d.unix.Peer[s.Cookie], d.unix.Shutdown[s.Cookie]
	if s.Listening {
		s.Backlog, s.Accept = d.unix.Backlog[s.Cookie], d.unix.Waiting[s.Cookie]
	}
	d.identities(c, fd, s)
	if err := d.socketFile(c, s); err != nil {
		return err
	}
	if s.Listening {
		return nil
	}
	var err error
	s.Queue, err = d.peekQueue(c, fd, s)
	return err
}

// identities notes who the peer was when it connected or listened, in the
// tree's own numbers, and who has the socket.
func (d *dumper) identities(c *descriptor, fd int, s *image.Socket) {
	s.By = [3]int{c.p.ns, int(c.p.status.Uid[1]), int(c.p.status.Gid[1])}
	if s.Connected && s.PeerID == 0 {
		if n, err := unix.IoctlGetInt(fd, unix.TIOCOUTQ); err == nil && n > 0 {
			d.unseen[s.Cookie] = c
		}
	}
	peer, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return
	}
	s.Creds = [3]int{0, int(peer.Uid), int(peer.Gid)}
	for _, p := range d.f.processes {
		if p.pid == int(peer.Pid) {
			s.Creds[0] = p.ns
		}
	}
	p := []unix.PollFd{{Fd: int32(fd)}}
	if n, err := unix.Poll(p, 0); err == nil && n > 0 && p[0].Revents&unix.POLLERR != 0 {
		s.Error = int(unix.ECONNRESET) // the only one that a UNIX socket has
	}
}

// socketFile notes where a bound socket lies, with its directories.
func (d *dumper) socketFile(c *descriptor, s *image.Socket) error {
	if !s.Bound || s.Local[2] == 0 {
		return nil
	}
	name, _, _ := bytes.Cut(s.Local[2:], []byte{0})
	path := string(name)
	if !filepath.IsAbs(path) {
		cwd, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", c.p.pid))
		if err != nil {
			return err
		}
		path = filepath.Join(cwd, path)
	}
	var st syscall.Stat_t
	if err := syscall.Lstat(d.f.tree.inside(path), &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFSOCK ||
		uint32(st.Ino) != uint32(d.unix.File[s.Cookie]) {
		return nil // it was removed: the name alone remains
	}
	s.Path, s.Mode, s.UID, s.GID = path, st.Mode, st.Uid, st.Gid
	for dir := filepath.Dir(path); dir != "/" && dir != "."; dir = filepath.Dir(dir) {
		if err := syscall.Lstat(d.f.tree.inside(dir), &st); err != nil {
			return err
		}
		s.Dirs = append(s.Dirs, image.Dir{Path: dir, Mode: st.Mode, UID: st.Uid, GID: st.Gid})
	}
	slices.Reverse(s.Dirs)
	return nil
}

// peekQueue copies what waits in a socket without taking it: SO_PEEK_OFF
// makes each MSG_PEEK go on behind the last. Descriptors in flight come along.
// BUG: a message of no bytes is shown once only, since the kernel marks what
// was peeked at: the next checkpoint does not save it.
func (d *dumper) peekQueue(c *descriptor, fd int, s *image.Socket) ([]image.Packet, error) {
	old, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PEEK_OFF)
	if err != nil {
		return nil, fmt.Errorf("look into socket fd %d: %w", c.fd, err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PEEK_OFF, 0); err != nil {
		return nil, fmt.Errorf("look into socket fd %d: %w", c.fd, err)
	}
	defer func() { _ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PEEK_OFF, old) }()
	var out []image.Packet
	buf, oob := make([]byte, 256<<10), make([]byte, unix.CmsgSpace(253*4)+256)
	for {
		n, oobn, flags, from, err := sys.PeekMessage(fd, buf, oob)
		if err == unix.EAGAIN || err == unix.EINTR || err == unix.ENOTCONN || err == unix.EINVAL || err == unix.ECONNRESET {
			return out, nil
		}
		if err != nil {
			return nil, fmt.Errorf("look into socket fd %d: %w", c.fd, err)
		}
		if n == 0 && s.Type == unix.SOCK_STREAM || n == 0 && oobn == 0 && s.Connected && s.Type == unix.SOCK_SEQPACKET {
			return out, nil
		}
		if flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
			return nil, c.refuse("a message too large for us in socket", "")
		}
		p := image.Packet{Data: append([]byte(nil), buf[:n]...), From: from}
		if p.Descriptions, err = d.inFlight(c, oob[:oobn]); err != nil {
			return nil, err
		}
		out = append(out, p)
		if s.Type != unix.SOCK_STREAM && n == 0 {
			return out, nil
		}
	}
}

// inFlight describes descriptors that travel in a message. They arrive here as
// duplicates of our own, which are described like any other and closed.
func (d *dumper) inFlight(c *descriptor, oob []byte) ([]int, error) {
	if len(oob) == 0 {
		return nil, nil
	}
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	var out []int
	for i := range msgs {
		fds, err := unix.ParseUnixRights(&msgs[i])
		if err != nil {
			continue // credentials: the kernel makes them anew
		}
		for _, fd := range fds {
			index, err := d.ownDescriptor(c, fd)
			_ = unix.Close(fd)
			if err != nil {
				return nil, err
			}
			out = append(out, index)
		}
	}
	return out, nil
}

// ownDescriptor describes a descriptor of this process that came out of a
// message of c's process.
func (d *dumper) ownDescriptor(c *descriptor, fd int) (int, error) {
	self := os.Getpid()
	pidfd, err := unix.PidfdOpen(self, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(pidfd)
	o := &descriptor{p: &process{pid: self, ns: c.p.ns, status: c.p.status}, fd: fd, dup: -1, pidfd: pidfd}
	e, err := d.entry(o, -1)
	if o.dup >= 0 {
		_ = unix.Close(o.dup)
	}
	// The number is ours for a moment only: it must not be compared with later.
	list := d.byLink[o.link]
	d.byLink[o.link] = slices.DeleteFunc(list, func(k known) bool { return k.pid == self })
	return e.Description, err
}

// resolveUnix marks the connections whose other end lies outside the tree or
// has hung up. One that waits to be accepted is made again if nothing was sent
// on it yet: what was cannot be seen.
func (d *dumper) resolveUnix() error {
	inTree, waiting := map[uint64]bool{}, map[uint64]bool{}
	for i := range d.tree.Descriptions {
		if s := d.tree.Descriptions[i].Socket; s != nil {
			inTree[s.Cookie] = true
			for _, c := range s.Accept {
				if w := d.unseen[c]; w != nil {
					return errors.Join(w.refuse("a connection that waits to be accepted and to which something was sent,", "let it be accepted"), errPassing)
				}
				waiting[c] = true
			}
		}
	}
	for i := range d.tree.Descriptions {
		s := d.tree.Descriptions[i].Socket
		if s == nil || s.Family != unix.AF_UNIX || s.Listening {
			continue
		}
		if s.PeerID != 0 && !inTree[s.PeerID] {
			s.PeerID = 0
			s.Reset = s.Type != unix.SOCK_DGRAM
		} else if s.PeerID == 0 && s.Connected && s.Type != unix.SOCK_DGRAM && !waiting[s.Cookie] {
			s.Reset, s.Hung = true, true
		}
	}
	return nil
}
