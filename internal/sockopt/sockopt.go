// Package sockopt reads the options and states of sockets, puts options back, and makes
// sockets whose connection was reset.
package sockopt

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/wakepoint/wakepoint/internal/image"
	"github.com/wakepoint/wakepoint/internal/sys"
)

// MPTCP is the protocol number of Multipath TCP.
const MPTCP = 262

// options are the socket options that are saved, in the order in which they
// are put back. Sizes are the largest; the kernel says how much it is.
var options = []struct {
	level, name, size int
	families          func(s *image.Socket) bool
	twice             bool // the kernel doubles what is set
}{
	{unix.SOL_SOCKET, unix.SO_REUSEADDR, 4, anySocket, false},
	{unix.SOL_SOCKET, unix.SO_REUSEPORT, 4, Inet, false},
	{unix.SOL_SOCKET, unix.SO_BROADCAST, 4, anySocket, false},
	{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 4, anySocket, false},
	{unix.SOL_SOCKET, unix.SO_LINGER, 8, anySocket, false},
	{unix.SOL_SOCKET, unix.SO_OOBINLINE, 4, anySocket, false},
	{unix.IPPROTO_IP, unix.IP_TOS, 4, Inet, false}, // it sets the priority too
	{unix.SOL_SOCKET, unix.SO_PRIORITY, 4, anySocket, false},
	{unix.SOL_SOCKET, unix.SO_MARK, 4, anySocket, false},
	{unix.SOL_SOCKET, unix.SO_RCVLOWAT, 4, anySocket, false},
	{unix.SOL_SOCKET, unix.SO_RCVTIMEO, 16, anySocket, false},
	{unix.SOL_SOCKET, unix.SO_SNDTIMEO, 16, anySocket, false},
	{unix.SOL_SOCKET, unix.SO_SNDBUF, 4, anySocket, true},
	{unix.SOL_SOCKET, unix.SO_RCVBUF, 4, anySocket, true},
	{unix.SOL_SOCKET, unix.SO_PASSCRED, 4, local, false},
	{unix.SOL_SOCKET, unix.SO_PASSSEC, 4, local, false},
	{unix.SOL_SOCKET, unix.SO_PEEK_OFF, 4, local, false},
	{unix.SOL_SOCKET, unix.SO_TIMESTAMP, 4, anySocket, false},
	{unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 4, anySocket, false},
	{unix.SOL_SOCKET, unix.SO_TIMESTAMPING, 4, anySocket, false},
	{unix.SOL_SOCKET, unix.SO_DONTROUTE, 4, Inet, false},
	{unix.SOL_SOCKET, unix.SO_RXQ_OVFL, 4, anySocket, false},
	{unix.SOL_SOCKET, unix.SO_NO_CHECK, 4, Inet, false},
	{unix.SOL_SOCKET, unix.SO_ZEROCOPY, 4, Inet, false},
	{unix.SOL_SOCKET, unix.SO_BUSY_POLL, 4, Inet, false},
	{unix.SOL_SOCKET, unix.SO_MAX_PACING_RATE, 8, Inet, false},
	{unix.SOL_SOCKET, unix.SO_BINDTODEVICE, 16, Inet, false},
	{unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 4, inet6, false},
	{unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 4, inet6, false},
	{unix.IPPROTO_IPV6, unix.IPV6_RECVHOPLIMIT, 4, inet6, false},
	{unix.IPPROTO_IPV6, unix.IPV6_RECVTCLASS, 4, inet6, false},
	{unix.IPPROTO_IPV6, unix.IPV6_TCLASS, 4, inet6, false},
	{unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, 4, inet6, false},
	{unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, 4, udp6, false},
	{unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_LOOP, 4, udp6, false},
	{unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_IF, 4, udp6, false},
	{unix.IPPROTO_IPV6, unix.IPV6_RECVERR, 4, inet6, false},
	{unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, 4, inet6, false},
	{unix.IPPROTO_IPV6, unix.IPV6_DONTFRAG, 4, inet6, false},
	{unix.IPPROTO_IP, unix.IP_TTL, 4, Inet, false},
	{unix.IPPROTO_IP, unix.IP_PKTINFO, 4, Inet, false},
	{unix.IPPROTO_IP, unix.IP_RECVTTL, 4, Inet, false},
	{unix.IPPROTO_IP, unix.IP_RECVTOS, 4, Inet, false},
	{unix.IPPROTO_IP, unix.IP_RECVERR, 4, Inet, false},
	{unix.IPPROTO_IP, unix.IP_RECVORIGDSTADDR, 4, Inet, false},
	{unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, 4, Inet, false},
	{unix.IPPROTO_IP, unix.IP_MULTICAST_TTL, 4, udp, false},
	{unix.IPPROTO_IP, unix.IP_MULTICAST_LOOP, 4, udp, false},
	{unix.IPPROTO_IP, unix.IP_MULTICAST_ALL, 4, udp, false},
	{unix.IPPROTO_IP, unix.IP_MINTTL, 4, Inet, false},
	{unix.IPPROTO_IP, unix.IP_TRANSPARENT, 4, Inet, false},
	{unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 4, Inet, false},
	{unix.IPPROTO_IP, unix.IP_FREEBIND, 4, Inet, false},
	{unix.IPPROTO_TCP, unix.TCP_NODELAY, 4, TCP, false},
	{unix.IPPROTO_TCP, unix.TCP_CORK, 4, TCP, false},
	{unix.IPPROTO_TCP, unix.TCP_MAXSEG, 4, never, false},
	{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 4, TCP, false},
	{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 4, TCP, false},
	{unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 4, TCP, false},
	{unix.IPPROTO_TCP, unix.TCP_SYNCNT, 4, TCP, false},
	{unix.IPPROTO_TCP, unix.TCP_LINGER2, 4, TCP, false},
	{unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 4, TCP, false},
	{unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, 4, TCP, false},
	{unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, 4, TCP, false},
	{unix.IPPROTO_TCP, unix.TCP_CONGESTION, 16, TCP, false},
	{unix.IPPROTO_TCP, unix.TCP_FASTOPEN, 4, listeningTCP, false},
	{unix.IPPROTO_UDP, unix.UDP_CORK, 4, udp, false},
	{unix.IPPROTO_UDP, unix.UDP_SEGMENT, 4, udp, false},
	{unix.IPPROTO_UDP, unix.UDP_GRO, 4, udp, false},
	{unix.SOL_NETLINK, unix.NETLINK_PKTINFO, 4, kernel, false},
	{unix.SOL_NETLINK, unix.NETLINK_BROADCAST_ERROR, 4, kernel, false},
	{unix.SOL_NETLINK, unix.NETLINK_NO_ENOBUFS, 4, kernel, false},
	{unix.SOL_NETLINK, unix.NETLINK_LISTEN_ALL_NSID, 4, kernel, false},
	{unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 4, kernel, false},
	{unix.SOL_NETLINK, unix.NETLINK_EXT_ACK, 4, kernel, false},
	{unix.SOL_NETLINK, unix.NETLINK_GET_STRICT_CHK, 4, kernel, false},
}

func anySocket(*image.Socket) bool { return true }
func never(*image.Socket) bool     { return false }
func local(s *image.Socket) bool   { return s.Family == unix.AF_UNIX }

// Inet says that a socket is of IPv4 or IPv6.
func Inet(s *image.Socket) bool   { return s.Family == unix.AF_INET || s.Family == unix.AF_INET6 }
func inet6(s *image.Socket) bool  { return s.Family == unix.AF_INET6 }
func udp(s *image.Socket) bool    { return Inet(s) && s.Type == unix.SOCK_DGRAM }
func udp6(s *image.Socket) bool   { return inet6(s) && udp(s) }
func kernel(s *image.Socket) bool { return s.Family == unix.AF_NETLINK }

// TCP says that a socket is of TCP or MPTCP.
func TCP(s *image.Socket) bool { return Inet(s) && s.Type == unix.SOCK_STREAM }

func listeningTCP(s *image.Socket) bool { return TCP(s) && s.Listening && s.Protocol != MPTCP }

// Read adds to s the options of the socket at fd.
func Read(fd int, s *image.Socket) error {
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

// SetAll puts the options of s back on the socket at fd.
func SetAll(fd int, s *image.Socket) error {
	for _, o := range s.Options {
		if err := Set(fd, o); err != nil {
			return err
		}
	}
	return nil
}

// Set puts an option back. Buffer sizes are halved because the kernel
// doubles them; where root may, they are forced beyond the system's limit.
func Set(fd int, o image.Option) error {
	if len(o.Value) == 0 {
		return nil
	}
	v := append([]byte(nil), o.Value...)
	name := o.Name
	if o.Level == unix.SOL_SOCKET && (name == unix.SO_SNDBUF || name == unix.SO_RCVBUF) {
		binary.NativeEndian.PutUint32(v, binary.NativeEndian.Uint32(v)/2)
		force := unix.SO_SNDBUFFORCE
		if name == unix.SO_RCVBUF {
			force = unix.SO_RCVBUFFORCE
		}
		now := make([]byte, 4)
		if n, err := sys.GetsockoptBytes(fd, o.Level, name, now); err == nil && string(now[:n]) == string(o.Value) {
			return nil // setting it would end its automatic tuning
		}
		if sys.SetsockoptBytes(fd, o.Level, force, v) == nil {
			return nil
		}
	} else {
		now := make([]byte, len(v))
		if n, err := sys.GetsockoptBytes(fd, o.Level, name, now); err == nil && string(now[:n]) == string(v) {
			return nil
		}
	}
	if o.Level == unix.IPPROTO_IPV6 && name == unix.IPV6_V6ONLY && bound(fd) {
		return nil // binding has set it, and nothing can change it any more
	}
	if err := sys.SetsockoptBytes(fd, o.Level, name, v); err != nil && err != unix.ENOPROTOOPT {
		return fmt.Errorf("socket option %d/%d: %w", o.Level, o.Name, err)
	}
	return nil
}

func bound(fd int) bool {
	at, err := unix.Getsockname(fd)
	in6, ok := at.(*unix.SockaddrInet6)
	return err == nil && ok && in6.Port != 0
}

// Reset makes a socket whose connection was reset by its peer: reading it
// gives ECONNRESET, as the program of a crashed machine's peer would see.
func Reset(s *image.Socket) (int, error) {
	l, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	family, loopback := unix.AF_INET, unix.Sockaddr(&unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	if s.Family == unix.AF_INET6 {
		_ = unix.Close(l)
		family = unix.AF_INET6
		l, err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		mapped := [16]byte{10: 0xff, 11: 0xff, 12: 127, 15: 1}
		loopback = &unix.SockaddrInet6{Addr: mapped}
	}
	if err != nil {
		return -1, err
	}
	defer unix.Close(l)
	if err := unix.Bind(l, loopback); err != nil {
		return -1, err
	}
	if err := unix.Listen(l, 1); err != nil {
		return -1, err
	}
	to, err := unix.Getsockname(l)
	if err != nil {
		return -1, err
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, s.Protocol)
	if err != nil {
		return -1, err
	}
	if err := unix.Connect(fd, to); err != nil {
		return -1, err
	}
	peer, _, err := unix.Accept4(l, unix.SOCK_CLOEXEC)
	if err != nil {
		return -1, err
	}
	if err := unix.SetsockoptLinger(peer, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}); err != nil {
		return -1, err
	}
	_ = unix.Close(peer)
	return fd, SetAll(fd, s)
}
