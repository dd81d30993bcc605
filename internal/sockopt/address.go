package sockopt

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/wakepoint/wakepoint/internal/image"
)

// SentBy says that a datagram from an address was sent by a socket: the port
// is its own, and the address too unless it is bound to any.
func SentBy(s *image.Socket, from []byte) bool {
	if len(from) != len(s.Local) || len(from) < 8 || !bytes.Equal(s.Local[:4], from[:4]) {
		return false
	}
	at, n := inetAddress(from)
	return bytes.Equal(s.Local[at:at+n], from[at:at+n]) || isAny(s.Local[at:at+n])
}

// Reachable is an address to which a socket that is bound to any can be sent:
// that of the sender, which is this host.
func Reachable(local, from []byte) []byte {
	at, n := inetAddress(local)
	if !isAny(local[at:at+n]) || len(from) != len(local) {
		return local
	}
	out := append([]byte(nil), local...)
	copy(out[at:at+n], from[at:at+n])
	return out
}

// inetAddress is where a raw sockaddr_in or sockaddr_in6 has its address.
func inetAddress(raw []byte) (at, n int) {
	const sockaddrIn6 = 28
	if len(raw) >= sockaddrIn6 {
		return 8, 16
	}
	return 4, 4
}

func isAny(address []byte) bool {
	for _, b := range address {
		if b != 0 {
			return false
		}
	}
	return true
}

// Text is the local address of a socket for people.
func Text(s *image.Socket) string {
	if len(s.Local) < 8 {
		return fmt.Sprintf("%x", s.Local)
	}
	port := binary.BigEndian.Uint16(s.Local[2:])
	if s.Family == unix.AF_INET {
		return fmt.Sprintf("%d.%d.%d.%d port %d", s.Local[4], s.Local[5], s.Local[6], s.Local[7], port)
	}
	return fmt.Sprintf("port %d", port)
}

// Ends names both ends of a connection for people: its own and the other one.
func Ends(s *image.Socket) string { return end(s.Local) + " to " + end(s.Peer) }

// end is an address as getsockname(2) tells it.
func end(name []byte) string {
	if len(name) < 2 {
		return "?"
	}
	switch family := binary.NativeEndian.Uint16(name); {
	case family == unix.AF_INET && len(name) >= 8:
		return net.JoinHostPort(net.IP(name[4:8]).String(), strconv.Itoa(int(binary.BigEndian.Uint16(name[2:]))))
	case family == unix.AF_INET6 && len(name) >= 24:
		return net.JoinHostPort(net.IP(name[8:24]).String(), strconv.Itoa(int(binary.BigEndian.Uint16(name[2:]))))
	case family == unix.AF_UNIX && len(name) > 2 && name[2] == 0:
		return strconv.Quote("@" + string(name[3:]))
	case family == unix.AF_UNIX && len(name) > 2:
		path, _, _ := bytes.Cut(name[2:], []byte{0})
		return strconv.Quote(string(path))
	case family == unix.AF_UNIX:
		return "a UNIX socket without a name"
	}
	return "?"
}
