package engine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/wakepoint/wakepoint/internal/abi"
	"github.com/wakepoint/wakepoint/internal/image"
	"github.com/wakepoint/wakepoint/internal/sockopt"
)

// socket describes a socket.
func (d *dumper) socket(c *descriptor, desc *image.Description) error {
	fd, err := c.ours()
	if err != nil {
		return err
	}
	s := &image.Socket{Cookie: c.info.Inode}
	desc.Kind, desc.Socket = image.SocketKind, s
	for _, o := range []struct {
		name int
		to   *int
	}{{unix.SO_DOMAIN, &s.Family}, {unix.SO_TYPE, &s.Type}, {unix.SO_PROTOCOL, &s.Protocol}} {
		if *o.to, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, o.name); err != nil {
			return fmt.Errorf("socket fd %d: %w", c.fd, err)
		}
	}
	if v, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err == nil {
		s.Listening = v != 0
	}
	s.Local, s.Peer = sockopt.Name(fd, syscall.SYS_GETSOCKNAME), sockopt.Name(fd, syscall.SYS_GETPEERNAME)
	s.Connected = s.Peer != nil
	if err := sockopt.Read(fd, s); err != nil {
		return fmt.Errorf("socket fd %d: %w", c.fd, err)
	}
	switch s.Family {
	case unix.AF_UNIX:
		return d.unixSocket(c, fd, desc)
	case unix.AF_INET, unix.AF_INET6:
		return d.inetSocket(c, fd, desc)
	case unix.AF_NETLINK:
		if s.Protocol == unix.NETLINK_ROUTE || s.Protocol == unix.NETLINK_GENERIC || s.Protocol == unix.NETLINK_KOBJECT_UEVENT {
			return d.netlinkSocket(c, fd, s)
		}
	}
	const hint = "run the part of the program that uses it outside the workload, or close it before"
	switch s.Family {
	case unix.AF_PACKET:
		return c.refuse("a packet socket at", hint)
	case unix.AF_VSOCK:
		return c.refuse("a vsock socket at", hint)
	case unix.AF_NETLINK:
		return c.refuse(fmt.Sprintf("a netlink socket of protocol %d at", s.Protocol), hint)
	}
	return c.refuse(fmt.Sprintf("a socket of family %d at", s.Family), hint)
}

// netlinkSocket describes a netlink socket: its number and the groups that it
// listens to. What it has received and not read is lost if it is a message to
// a group; an answer is refused.
func (d *dumper) netlinkSocket(c *descriptor, fd int, s *image.Socket) error {
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	if n, err := unix.Poll(p, 0); err == nil && n > 0 && p[0].Revents&unix.POLLIN != 0 {
		return errors.Join(c.refuse("a netlink socket with unread messages,", "let it read them"), errPassing)
	}
	s.Bound = len(s.Local) == 12 && binary.NativeEndian.Uint32(s.Local[4:]) != 0 // it has a number
	var err error
	if s.Groups, err = sockopt.Groups(fd); err != nil {
		return fmt.Errorf("groups of netlink fd %d: %w", c.fd, err)
	}
	return nil
}

// inetSocket describes TCP, MPTCP and UDP. Of what waits in a UDP queue only
// that comes back which was sent within the tree. Established TCP comes back
// reset.
func (d *dumper) inetSocket(c *descriptor, fd int, desc *image.Description) error {
	s := desc.Socket
	s.Bound = len(s.Local) >= 4 && binary.BigEndian.Uint16(s.Local[2:]) != 0
	switch s.Type {
	case unix.SOCK_DGRAM:
		var err error
		s.Queue, err = d.peekQueue(c, fd, s)
		return err
	case unix.SOCK_STREAM:
	default:
		return c.refuse("a raw socket at", "")
	}
	if s.Listening {
		s.Backlog = sockopt.Backlog(fd)
		return nil
	}
	state := sockopt.State(fd)
	switch {
	case state == sockopt.SynSent && desc.Flags&unix.O_NONBLOCK == 0:
		// Its connect(2) is made again from the beginning.
	case s.Connected, state != sockopt.Closed && state != sockopt.Listen:
		s.Reset = true
	default:
		s.Reset = sockopt.HungUp(fd)
	}
	return nil
}

// connected ends a connect(2) of the image that was broken off when the
// connection had been made already: made again on the socket that comes back
// reset it would fail (EISCONN).
func (d *dumper) connected(table int, th *image.Thread) {
	arch := d.f.tree.arch
	var r abi.Regs
	copy(r[:], th.Regs)
	if int(int32(r[arch.Call])) != arch.NR.Connect || arch.RestartKind(&r) == 0 {
		return
	}
	fd := int(int32(r[arch.Args[0]]))
	for _, e := range d.tree.Tables[table].Entries {
		if s := d.tree.Descriptions[e.Description].Socket; e.FD == fd && s != nil && s.Reset {
			th.Regs[arch.Call], th.Regs[arch.Result] = ^uint64(0), 0
		}
	}
}
