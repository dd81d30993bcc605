package engine

import (
	"encoding/binary"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/wakepoint/wakepoint/internal/image"
	"github.com/wakepoint/wakepoint/internal/sys"
)

// TCP states (include/net/tcp_states.h).
const (
	tcpSynSent = 2
	tcpClose   = 7
	tcpListen  = 10
)

const ipprotoMPTCP = 262

// options are the socket options that are saved, in the order in which they
// are put back. Sizes are the largest; the kernel says how much it is.
var options = []struct {
	level, name, size int
	families          func(s *image.Socket) bool
	twice             bool // the kernel doubles what is set
}{
	{unix.SOL_SOCKET, unix.SO_REUSEADDR, 4, anySocket, false},
	{unix.SOL_SOCKET, unix.SO_REUSEPORT, 4, inet, false},
	{unix.SOL_SOCKET, unix.SO_BROADCAST, 4, anySocket, false},
	{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 4, anySocket, false},
	{unix.SOL_SOCKET, unix.SO_LINGER, 8, anySocket, false},
	{unix.SOL_SOCKET, unix.SO_OOBINLINE, 4, anySocket, false},
	{unix.SOL_SOCKET, unix.SO_PRIORITY, 4, anySocket, false},
	{unix.SOL_SOCKET, unix.SO_MARK, 4, anySocket, false},
	{unix.SOL_SOCKET, unix.SO_RCVLOWAT, 4, anySocket, false},
	{unix.SOL_SOCKET, unix.SO_RCVTIMEO, 16, anySocket, false},
	{unix.SOL_SOCKET, unix.SO_SNDTIMEO, 16, anySocket, false},
	{unix.SOL_SOCKET, unix.SO_SNDBUF, 4, anySocket, true},
	{unix.SOL_SOCKET, unix.SO_RCVBUF, 4, anySocket, true},
	{unix.SOL_SOCKET, unix.SO_PASSCRED, 4, local, false},
	{unix.SOL_SOCKET, unix.SO_TIMESTAMP, 4, anySocket, false},
	{unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 4, inet6, false},
	{unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 4, inet6, false},
	{unix.IPPROTO_IPV6, unix.IPV6_TCLASS, 4, inet6, false},
	{unix.IPPROTO_IP, unix.IP_TOS, 4, inet, false},
	{unix.IPPROTO_IP, unix.IP_TTL, 4, inet, false},
	{unix.IPPROTO_IP, unix.IP_PKTINFO, 4, inet, false},
	{unix.IPPROTO_IP, unix.IP_FREEBIND, 4, inet, false},
	{unix.IPPROTO_TCP, unix.TCP_NODELAY, 4, tcp, false},
	{unix.IPPROTO_TCP, unix.TCP_MAXSEG, 4, never, false},
	{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 4, tcp, false},
	{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 4, tcp, false},
	{unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 4, tcp, false},
	{unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 4, tcp, false},
	{unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, 4, tcp, false},
	{unix.IPPROTO_TCP, unix.TCP_FASTOPEN, 4, listeningTCP, false},
}

func anySocket(*image.Socket) bool { return true }
func never(*image.Socket) bool     { return false }
func local(s *image.Socket) bool   { return s.Family == unix.AF_UNIX }
func inet(s *image.Socket) bool    { return s.Family == unix.AF_INET || s.Family == unix.AF_INET6 }
func inet6(s *image.Socket) bool   { return s.Family == unix.AF_INET6 }
func tcp(s *image.Socket) bool     { return inet(s) && s.Type == unix.SOCK_STREAM }

func listeningTCP(s *image.Socket) bool { return tcp(s) && s.Listening && s.Protocol != ipprotoMPTCP }

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
	if err := readOptions(fd, s); err != nil {
		return fmt.Errorf("socket fd %d: %w", c.fd, err)
	}
	switch s.Family {
	case unix.AF_UNIX:
		return d.unixSocket(c, fd, desc)
	case unix.AF_INET, unix.AF_INET6:
		return d.inetSocket(c, fd, desc)
	case unix.AF_NETLINK:
		if s.Protocol == unix.NETLINK_ROUTE || s.Protocol == unix.NETLINK_GENERIC || s.Protocol == unix.NETLINK_KOBJECT_UEVENT {
			return nil
		}
	}
	return c.refuse(fmt.Sprintf("a socket of family %d at", s.Family), "")
}

func sockname(fd, call int) []byte {
	buf := make([]byte, 128)
	n, err := sys.Sockname(fd, call, buf)
	if err != nil {
		return nil
	}
	return buf[:n]
}

func readOptions(fd int, s *image.Socket) error {
	for _, o := range options {
		if !o.families(s) {
			continue
		}
		buf := make([]byte, o.size)
		n, err := sys.GetsockoptBytes(fd, o.level, o.name, buf)
		if err == unix.ENOPROTOOPT || err == unix.EOPNOTSUPP || err == unix.EINVAL {
			continue
		}
		if err != nil {
			return fmt.Errorf("option %d/%d: %w", o.level, o.name, err)
		}
		s.Options = append(s.Options, image.Option{Level: o.level, Name: o.name, Value: buf[:n]})
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
