package engine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/wakepoint/wakepoint/internal/image"
	"github.com/wakepoint/wakepoint/internal/sockopt"
	"github.com/wakepoint/wakepoint/internal/sys"
)

// TCP states (include/net/tcp_states.h).
const (
	tcpSynSent = 2
	tcpClose   = 7
	tcpListen  = 10
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
	s.Local, s.Peer = sockname(fd, syscall.SYS_GETSOCKNAME), sockname(fd, syscall.SYS_GETPEERNAME)
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
	return c.refuse(fmt.Sprintf("a socket of family %d at", s.Family), "")
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
	groups := make([]byte, 128)
	n, err := sys.GetsockoptBytes(fd, unix.SOL_NETLINK, unix.NETLINK_LIST_MEMBERSHIPS, groups)
	if err != nil {
		return fmt.Errorf("groups of netlink fd %d: %w", c.fd, err)
	}
	for i := range min(n, len(groups)) * 8 {
		if groups[i/8]&(1<<(i%8)) != 0 {
			s.Groups = append(s.Groups, i+1)
		}
	}
	return nil
}

func sockname(fd, call int) []byte {
	buf := make([]byte, 128)
	n, err := sys.Sockname(fd, call, buf)
	if err != nil {
		return nil
	}
	return buf[:n]
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
		return c.refuse(fmt.Sprintf("a socket of type %d at", s.Type), "raw sockets cannot be saved yet")
	}
	if s.Listening {
		s.Backlog = backlog(fd)
		return nil
	}
	state := tcpState(fd, s)
	switch {
	case state == tcpSynSent && desc.Flags&unix.O_NONBLOCK == 0:
		// Its connect(2) is made again from the beginning.
	case s.Connected, state != tcpClose && state != tcpListen:
		s.Reset = true
	default:
		if e, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE); err == nil && e >= 0 && d.shutDown(fd) {
			s.Reset = true
		}
	}
	return nil
}

// shutDown says that a closed TCP socket once was connected: it has hung up.
func (d *dumper) shutDown(fd int) bool {
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN | unix.POLLRDHUP}}
	n, err := unix.Poll(p, 0)
	return err == nil && n > 0 && p[0].Revents&unix.POLLRDHUP != 0
}

func tcpState(fd int, s *image.Socket) int {
	buf := make([]byte, 256)
	if n, err := sys.GetsockoptBytes(fd, unix.IPPROTO_TCP, unix.TCP_INFO, buf); err != nil || n < 1 {
		return tcpClose
	}
	return int(buf[0])
}

// backlog is what listen(2) was given: tcpi_sacked of a listening socket
// (net/ipv4/tcp.c, tcp_get_info).
func backlog(fd int) int {
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil || info.Sacked == 0 {
		return unix.SOMAXCONN
	}
	return int(info.Sacked)
}
