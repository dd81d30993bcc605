package sockopt

import (
	"golang.org/x/sys/unix"

	"github.com/wakepoint/wakepoint/internal/sys"
)

// TCP states (include/net/tcp_states.h).
const (
	SynSent = 2
	Closed  = 7
	Listen  = 10
)

// State is the state of a TCP socket.
func State(fd int) int {
	buf := make([]byte, 256)
	if n, err := sys.GetsockoptBytes(fd, unix.IPPROTO_TCP, unix.TCP_INFO, buf); err != nil || n < 1 {
		return Closed
	}
	return int(buf[0])
}

// HungUp says that a closed TCP socket once was connected: it has hung up.
func HungUp(fd int) bool {
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN | unix.POLLRDHUP}}
	n, err := unix.Poll(p, 0)
	return err == nil && n > 0 && p[0].Revents&unix.POLLRDHUP != 0
}

// Backlog is what listen(2) was given: tcpi_sacked of a listening socket
// (net/ipv4/tcp.c, tcp_get_info).
func Backlog(fd int) int {
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil || info.Sacked == 0 {
		return unix.SOMAXCONN
	}
	return int(info.Sacked)
}

// Name is an address of a socket, raw, as call (getsockname, getpeername)
// tells it; nil where it has none.
func Name(fd, call int) []byte {
	buf := make([]byte, 128)
	n, err := sys.Sockname(fd, call, buf)
	if err != nil {
		return nil
	}
	return buf[:n]
}

// Groups are the multicast groups of a netlink socket, from 1 up.
func Groups(fd int) ([]int, error) {
	raw := make([]byte, 128)
	n, err := sys.GetsockoptBytes(fd, unix.SOL_NETLINK, unix.NETLINK_LIST_MEMBERSHIPS, raw)
	if err != nil {
		return nil, err
	}
	var groups []int
	for i := range min(n, len(raw)) * 8 {
		if raw[i/8]&(1<<(i%8)) != 0 {
			groups = append(groups, i+1)
		}
	}
	return groups, nil
}
