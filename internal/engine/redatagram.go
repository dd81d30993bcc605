package engine

import (
	"bytes"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/wakepoint/wakepoint/internal/image"
	"github.com/wakepoint/wakepoint/internal/sockopt"
	"github.com/wakepoint/wakepoint/internal/sys"
)

// paired says that a datagram socket and its peer are connected to each other.
func (m *maker) paired(s *image.Socket) bool {
	if s.Family != unix.AF_UNIX || s.Type != unix.SOCK_DGRAM || s.PeerID == 0 || s.Bound {
		return false
	}
	p := m.byCookie(s.PeerID)
	return p != nil && p.PeerID == s.Cookie && !p.Bound
}

func (m *maker) byCookie(cookie uint64) *image.Socket {
	for i := range m.r.tree.Descriptions {
		if s := m.r.tree.Descriptions[i].Socket; s != nil && s.Cookie == cookie {
			return s
		}
	}
	return nil
}

// connectDatagrams connects datagram sockets to others of the tree, which are
// all bound by now.
func (m *maker) connectDatagrams(index map[uint64]int) error {
	for i := range m.r.tree.Descriptions {
		s := m.r.tree.Descriptions[i].Socket
		if s == nil || s.Family != unix.AF_UNIX || s.Type != unix.SOCK_DGRAM || s.PeerID == 0 || m.paired(s) {
			continue
		}
		k, ok := index[s.PeerID]
		if !ok {
			continue
		}
		to, err := m.address(m.r.tree.Descriptions[k].Socket)
		if err != nil {
			return err
		}
		if err := sys.Connect(int(m.r.files[i].Fd()), to); err != nil {
			return fmt.Errorf("connect a datagram socket: %w", err)
		}
	}
	return nil
}

// address is how this process reaches a bound UNIX socket of the tree.
func (m *maker) address(s *image.Socket) ([]byte, error) {
	if !s.Bound || s.Local[2] == 0 {
		return s.Local, nil
	}
	path := m.r.inside(s.Path)
	const pathMax = 107
	if s.Path == "" || len(path) > pathMax {
		return nil, fmt.Errorf("the socket %s cannot be reached", bytes.TrimRight(s.Local[2:], "\x00"))
	}
	return append(append([]byte{s.Local[0], s.Local[1]}, path...), 0), nil
}

// fillDatagrams sends to a bound socket what was in its queue: from the socket
// that had sent it, where that is still there, else from one without a name.
func (m *maker) fillDatagrams(s *image.Socket) error {
	to, err := m.address(s)
	if err != nil {
		return err
	}
	anonymous, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(anonymous)
	if err := sys.Connect(anonymous, to); err != nil {
		return err
	}
	for i := range s.Queue {
		from := anonymous
		for k := range m.r.tree.Descriptions {
			o := m.r.tree.Descriptions[k].Socket
			if len(s.Queue[i].From) > 2 && o != nil && o.Bound && bytes.Equal(o.Local, s.Queue[i].From) && o.PeerID == s.Cookie {
				from = int(m.r.files[k].Fd())
			}
		}
		if err := fillSocket(m.r, from, s.Queue[i:i+1]); err != nil {
			return err
		}
	}
	return nil
}

// fillUDP sends again what waited in the UDP sockets of the tree, each
// datagram from the socket that had sent it. One that came from outside is
// lost, as any may be on its way.
func (m *maker) fillUDP() {
	for i := range m.r.tree.Descriptions {
		s := m.r.tree.Descriptions[i].Socket
		if s == nil || !sockopt.Inet(s) || s.Type != unix.SOCK_DGRAM {
			continue
		}
		for _, p := range s.Queue {
			for k := range m.r.tree.Descriptions {
				o := m.r.tree.Descriptions[k].Socket
				if o != nil && sockopt.Inet(o) && o.Type == unix.SOCK_DGRAM && sockopt.SentBy(o, p.From) {
					_ = sys.SendTo(int(m.r.files[k].Fd()), p.Data, sockopt.Reachable(s.Local, p.From))
					break
				}
			}
		}
	}
}
