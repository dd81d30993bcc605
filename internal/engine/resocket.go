package engine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/wakepoint/wakepoint/internal/image"
	"github.com/wakepoint/wakepoint/internal/sockopt"
	"github.com/wakepoint/wakepoint/internal/sys"
)

// socket makes a socket.
func (m *maker) socket(d *image.Description) (int, error) {
	s := d.Socket
	switch {
	case s.Reset:
		m.r.resets.add(s)
		return sockopt.Reset(s)
	}
	fd, err := unix.Socket(s.Family, s.Type|unix.SOCK_CLOEXEC, s.Protocol)
	if err != nil {
		return -1, err
	}
	if err := m.setUp(fd, s); err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// setUp binds, connects and listens. Addresses may come later than we do
// (IP_FREEBIND), and a port may still be in TIME_WAIT (SO_REUSEADDR); both
// are then set to what they were.
func (m *maker) setUp(fd int, s *image.Socket) error {
	if sockopt.Inet(s) {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_FREEBIND, 1)
		for _, o := range s.Options {
			if o.Level == unix.IPPROTO_IPV6 && o.Name == unix.IPV6_V6ONLY || o.Level == unix.SOL_SOCKET && o.Name == unix.SO_REUSEPORT {
				if err := sockopt.Set(fd, o); err != nil {
					return err
				}
			}
		}
	}
	if s.Bound {
		if err := m.bind(fd, s); err != nil {
			return err
		}
	}
	if s.Listening {
		if err := m.listen(fd, s); err != nil {
			return fmt.Errorf("listen at %s: %w", sockopt.Text(s), err)
		}
	}
	// Sockets of a killed tree may linger at the port; if they had no
	// SO_REUSEADDR they forbid it to be used again until a minute has passed.
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_REPAIR, tcpRepairOff)
	if err := sockopt.SetAll(fd, s); err != nil {
		return err
	}
	for _, g := range s.Groups {
		if err := unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, g); err != nil {
			return fmt.Errorf("join group %d: %w", g, err)
		}
	}
	if s.Listening {
		return nil
	}
	if s.Type == unix.SOCK_DGRAM && s.Peer != nil && s.PeerID == 0 {
		// A datagram socket may go on without its peer: sending tells.
		if err := sys.Connect(fd, s.Peer); err != nil && s.Family != unix.AF_UNIX {
			return fmt.Errorf("connect: %w", err)
		}
	}
	return nil
}

// bind gives a socket its address. A socket file that is left over from before
// is replaced, its directories are made again.
func (m *maker) bind(fd int, s *image.Socket) error {
	if s.Family != unix.AF_UNIX || s.Local[2] == 0 {
		err := sys.Bind(fd, s.Local)
		if err == unix.EADDRINUSE && sockopt.TCP(s) {
			err = m.bindOver(fd, s)
		}
		if err == unix.EADDRINUSE && (s.Family == unix.AF_INET || s.Family == unix.AF_INET6) {
			return &TakenError{Address: sockopt.Text(s), Port: int(binary.BigEndian.Uint16(s.Local[2:]))}
		}
		if err != nil {
			return fmt.Errorf("bind %s: %w", sockopt.Text(s), err)
		}
		return nil
	}
	if s.Path == "" { // its file was removed before: the name alone remains
		f, err := sockopt.BindApart(fd, s.Local)
		if err == nil {
			_ = f.Close()
		}
		return err
	}
	if err := m.r.makeDirs(s.Dirs); err != nil {
		return err
	}
	path := m.r.inside(s.Path)
	if st, err := os.Lstat(path); err == nil && st.Mode().Type() == os.ModeSocket {
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	if err := m.r.bindInside(fd, s); err != nil {
		return fmt.Errorf("bind %s: %w", s.Path, err)
	}
	return errors.Join(os.Lchown(path, int(s.UID), int(s.GID)), unix.Chmod(path, s.Mode&0o7777))
}

// TakenError says that another socket of this host has an address that the
// program listens on. It matches EADDRINUSE.
type TakenError struct {
	Address string // "127.0.0.1 port 80"
	Port    int
}

func (e *TakenError) Error() string { return "bind " + e.Address + ": " + unix.EADDRINUSE.Error() }
func (e *TakenError) Unwrap() error { return unix.EADDRINUSE }

// tcpRepairOff ends the repair mode without a probe (TCP_REPAIR_OFF_NO_WP).
const tcpRepairOff = -1

// bindOver binds to a port at which connections linger that forbid it. A
// socket in repair mode may (SK_FORCE_REUSE, net/ipv4/tcp.c); it could even
// sit down beside somebody who listens there, so that is looked at before.
func (m *maker) bindOver(fd int, s *image.Socket) error {
	port := binary.BigEndian.Uint16(s.Local[2:])
	for _, name := range []string{"tcp", "tcp6"} {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", m.r.init.PID, name))
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(b)) {
			f := strings.Fields(line) // sl local_address rem_address st
			if len(f) > 3 && strings.HasSuffix(f[1], fmt.Sprintf(":%04X", port)) && f[3] == "0A" {
				return unix.EADDRINUSE
			}
		}
	}
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_REPAIR, 1); err != nil {
		return unix.EADDRINUSE
	}
	return sys.Bind(fd, s.Local)
}

// sendInFlight fills the queues of the sockets, from the side of their peers,
// when every description that may travel in them is there.
func (m *maker) sendInFlight() error {
	byCookie := m.sockets
	m.fillUDP()
	if err := m.closeGone(); err != nil {
		return fmt.Errorf("queue of a socket: %w", err)
	}
	if err := m.connectDatagrams(byCookie); err != nil {
		return err
	}
	for i := range m.r.tree.Descriptions {
		s := m.r.tree.Descriptions[i].Socket
		if s == nil || s.Family != unix.AF_UNIX || s.Reset || len(s.Queue) == 0 {
			continue
		}
		if k, ok := byCookie[s.PeerID]; ok && m.r.tree.Descriptions[k].Socket.PeerID == s.Cookie {
			if err := fillSocket(m.r, int(m.r.files[k].Fd()), s.Queue); err != nil {
				return fmt.Errorf("queue of a socket: %w", err)
			}
			continue
		}
		if err := m.fillDatagrams(s); err != nil {
			return fmt.Errorf("queue of a datagram socket: %w", err)
		}
	}
	for i := range m.r.tree.Descriptions {
		d := &m.r.tree.Descriptions[i]
		if d.Socket == nil || d.Socket.Family != unix.AF_UNIX || d.Socket.Shutdown == 0 || m.r.files[i] == nil {
			continue
		}
		how := d.Socket.Shutdown - 1 // RCV_SHUTDOWN 1, SEND_SHUTDOWN 2, both 3
		if d.Socket.PeerID != 0 || !d.Socket.Reset {
			_ = unix.Shutdown(int(m.r.files[i].Fd()), how)
		}
	}
	return nil
}

// fillSocket sends packets by fd, with the descriptors that travelled along.
func fillSocket(r *restorer, fd int, queue []image.Packet) error {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err != nil {
		return err
	}
	_ = unix.SetNonblock(fd, true)
	defer func() { _, _ = unix.FcntlInt(uintptr(fd), unix.F_SETFL, flags) }()
	for _, p := range queue {
		var oob []byte
		if len(p.Descriptions) > 0 {
			var fds []int
			for _, i := range p.Descriptions {
				if i < 0 || i >= len(r.files) || r.files[i] == nil {
					return fmt.Errorf("descriptor %d in flight is not there", i)
				}
				fds = append(fds, int(r.files[i].Fd()))
			}
			oob = unix.UnixRights(fds...)
		}
		for data := p.Data; ; {
			n, err := unix.SendmsgN(fd, data, oob, nil, unix.MSG_NOSIGNAL)
			if err != nil {
				return fmt.Errorf("%d bytes: %w", len(data), err)
			}
			if data, oob = data[n:], nil; len(data) == 0 {
				break
			}
		}
	}
	return nil
}
