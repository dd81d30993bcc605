package engine

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/wakepoint/wakepoint/internal/image"
	"github.com/wakepoint/wakepoint/internal/sys"
)

// unixTable is what sock_diag(7) says of the UNIX sockets of the tree's
// network namespace, by inode.
type unixTable struct {
	peer    map[uint64]uint64
	waiting map[uint64][]uint64 // listening: connections not yet accepted
	backlog map[uint64]int
	shut    map[uint64]int
}

// Constants of include/uapi/linux/unix_diag.h.
const (
	sockDiagByFamily = 20
	udiagShowPeer    = 0x4
	udiagShowIcons   = 0x8
	udiagShowRqlen   = 0x10
	unixDiagPeer     = 2
	unixDiagIcons    = 3
	unixDiagRqlen    = 4
	unixDiagShutdown = 6
)

// readUnixTable asks the kernel for all UNIX sockets.
func readUnixTable() (*unixTable, error) {
	conn, err := netlink.Dial(unix.NETLINK_SOCK_DIAG, nil)
	if err != nil {
		return nil, fmt.Errorf("sock_diag: %w", err)
	}
	defer conn.Close()
	req := make([]byte, 24) // struct unix_diag_req
	req[0] = unix.AF_UNIX
	binary.LittleEndian.PutUint32(req[4:], 0xffffffff)
	binary.LittleEndian.PutUint32(req[12:], udiagShowPeer|udiagShowIcons|udiagShowRqlen)
	msgs, err := conn.Execute(netlink.Message{
		Header: netlink.Header{Type: sockDiagByFamily, Flags: netlink.Request | netlink.Dump}, Data: req})
	if err != nil {
		return nil, fmt.Errorf("sock_diag: %w", err)
	}
	t := &unixTable{peer: map[uint64]uint64{}, waiting: map[uint64][]uint64{}, backlog: map[uint64]int{}, shut: map[uint64]int{}}
	for _, m := range msgs {
		if len(m.Data) >= 16 { // struct unix_diag_msg
			t.add(uint64(binary.LittleEndian.Uint32(m.Data[4:])), m.Data[16:])
		}
	}
	return t, nil
}

func (t *unixTable) add(ino uint64, attrs []byte) {
	ad, err := netlink.NewAttributeDecoder(attrs)
	if err != nil {
		return
	}
	for ad.Next() {
		switch b := ad.Bytes(); ad.Type() {
		case unixDiagPeer:
			if len(b) >= 4 {
				t.peer[ino] = uint64(binary.LittleEndian.Uint32(b))
			}
		case unixDiagIcons:
			for ; len(b) >= 4; b = b[4:] {
				t.waiting[ino] = append(t.waiting[ino], uint64(binary.LittleEndian.Uint32(b)))
			}
		case unixDiagRqlen:
			if len(b) >= 8 {
				t.backlog[ino] = int(binary.LittleEndian.Uint32(b[4:]))
			}
		case unixDiagShutdown:
			if len(b) >= 1 {
				t.shut[ino] = int(b[0])
			}
		}
	}
}

// unixSocket describes a UNIX socket; the links between sockets are resolved
// when all are known.
func (d *dumper) unixSocket(c *descriptor, fd int, desc *image.Description) error {
	s := desc.Socket
	if d.unix == nil {
		var err error
		if d.unix, err = readUnixTable(); err != nil {
			return err
		}
	}
	s.Bound = len(s.Local) > 2
	s.PeerID, s.Shutdown = d.unix.peer[s.Cookie], d.unix.shut[s.Cookie]
	if s.Listening {
		s.Backlog = d.unix.backlog[s.Cookie]
	}
	if ucred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
		s.Creds = [3]int{int(ucred.Pid), int(ucred.Uid), int(ucred.Gid)}
	}
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
	if err := syscall.Lstat(d.f.tree.inside(path), &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFSOCK {
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

// resolveUnix marks the connections whose other end lies outside the tree.
func (d *dumper) resolveUnix() error {
	inTree := map[uint64]bool{}
	for i := range d.tree.Descriptions {
		if s := d.tree.Descriptions[i].Socket; s != nil {
			inTree[s.Cookie] = true
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
		} else if s.PeerID == 0 && s.Connected && s.Type != unix.SOCK_DGRAM {
			s.Reset = true // its peer has hung up
		}
	}
	return nil
}
