package engine

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/wakepoint/wakepoint/internal/description"
	"github.com/wakepoint/wakepoint/internal/image"
	"github.com/wakepoint/wakepoint/internal/setting"
	"github.com/wakepoint/wakepoint/internal/sockopt"
	"github.com/wakepoint/wakepoint/internal/sys"
	"github.com/wakepoint/wakepoint/internal/tape"
)

// hasPeer says that a UNIX socket is made together with its peer.
func (m *maker) hasPeer(s *image.Socket) bool {
	return s.Family == unix.AF_UNIX && s.Type != unix.SOCK_DGRAM && s.Connected && !s.Listening || m.paired(s)
}

// connectUnix makes the connected UNIX sockets: pairs within the tree, then
// those whose peer is gone, then those that wait to be accepted, in their order.
func (m *maker) connectUnix() error {
	for i := range m.r.tree.Descriptions {
		s := m.r.tree.Descriptions[i].Socket
		if s == nil || m.r.files[i] != nil || !m.hasPeer(s) || s.PeerID == 0 {
			continue
		}
		k, ok := m.sockets[s.PeerID]
		if !ok || m.r.files[k] != nil {
			return fmt.Errorf("the peer %d of a socket is not there", s.PeerID)
		}
		a, b, err := m.connected(s, m.r.tree.Descriptions[k].Socket)
		if err != nil {
			return err
		}
		if err := errors.Join(m.keep(i, a), m.keep(k, b)); err != nil {
			return err
		}
	}
	for i := range m.r.tree.Descriptions {
		s := m.r.tree.Descriptions[i].Socket
		if s == nil || m.r.files[i] != nil || s.Family != unix.AF_UNIX || !s.Reset {
			continue
		}
		if err := m.hungUp(i, s); err != nil {
			return err
		}
	}
	return m.dialAgain()
}

// keep makes a socket the one of description i.
func (m *maker) keep(i, fd int) error {
	d := &m.r.tree.Descriptions[i]
	m.r.files[i] = os.NewFile(uintptr(fd), "socket")
	return errors.Join(sockopt.SetAll(fd, d.Socket), description.Finish(fd, d))
}

// hungUp makes a connection whose other end is closed at once. What waits in
// it is sent before, in sendInFlight's way: what travels in it must be there.
func (m *maker) hungUp(i int, s *image.Socket) error {
	if !s.Hung {
		m.r.resets.add(s)
	}
	other := &image.Socket{Family: s.Family, Type: s.Type, Protocol: s.Protocol, Local: s.Peer, Bound: len(s.Peer) > 2, Creds: s.By}
	a, b, err := m.connected(s, other)
	if err != nil {
		return err
	}
	if err := m.keep(i, a); err != nil {
		return err
	}
	m.gone = append(m.gone, gonePeer{i, b})
	return nil
}

// gonePeer is the other end of a connection, which is closed when all is sent.
type gonePeer struct {
	index int
	fd    int
}

// closeGone sends what the peers that are gone had sent, and closes them. One
// that had not read everything leaves an error behind.
func (m *maker) closeGone() error {
	var errs error
	for _, g := range m.gone {
		s := m.r.tree.Descriptions[g.index].Socket
		errs = errors.Join(errs, fillSocket(m.r, g.fd, s.Queue))
		if s.Error != 0 {
			_ = unix.Sendto(int(m.r.files[g.index].Fd()), []byte{0}, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, nil)
		}
		errs = errors.Join(errs, unix.Close(g.fd))
	}
	m.gone = nil
	return errs
}

// connected makes two sockets that are each other's peer, with the names that
// they had and made by the processes that had made them (SO_PEERCRED).
func (m *maker) connected(a, b *image.Socket) (fdA, fdB int, err error) {
	switch {
	case !a.Bound && !b.Bound:
		return m.socketpair(a)
	case !a.Bound || b.Bound && m.listener(b) != nil && m.listener(a) == nil:
		fdA, fdB, err = m.dialed(a, b)
	default:
		fdB, fdA, err = m.dialed(b, a)
	}
	return fdA, fdB, err
}

// socketpair has socketpair(2) called by the process that had called it.
func (m *maker) socketpair(s *image.Socket) (fdA, fdB int, err error) {
	b, err := m.actor(s.Creds[0])
	if err != nil {
		return -1, -1, err
	}
	var tp tape.Tape
	var fds tape.Data
	m.as(&tp, s.Creds, func() {
		fds = tp.Space(8)
		tp.Add("socketpair", m.r.arch.NR.Socketpair, tape.N(s.Family), tape.N(s.Type), tape.N(s.Protocol), tape.At(fds, 0))
	})
	p, err := b.leader().Play(&b.space, &tp)
	if err != nil {
		return -1, -1, err
	}
	pidfd, err := unix.PidfdOpen(b.pid, 0)
	if err != nil {
		return -1, -1, err
	}
	defer unix.Close(pidfd)
	raw := p.Data(fds)
	if fdA, err = unix.PidfdGetfd(pidfd, int(binary.LittleEndian.Uint32(raw)), 0); err != nil {
		return -1, -1, err
	}
	fdB, err = unix.PidfdGetfd(pidfd, int(binary.LittleEndian.Uint32(raw[4:])), 0)
	return fdA, fdB, err
}

// dialed connects a client to where the server's end was accepted: the socket
// that listens there, or one that does so for a moment.
func (m *maker) dialed(client, server *image.Socket) (fdClient, fdServer int, err error) {
	l, door, err := m.door(client, server)
	if err != nil {
		return -1, -1, err
	}
	defer l.Close()
	if door != nil {
		defer door.Close()
	}
	if fdClient, err = m.dial(client, server.Creds, server.Local, door); err != nil {
		return -1, -1, err
	}
	p := []unix.PollFd{{Fd: int32(l.Fd()), Events: unix.POLLIN}}
	if n, err := unix.Poll(p, 0); err != nil || n == 0 {
		return -1, -1, fmt.Errorf("the connection to %q did not arrive: %w", server.Local[2:], err)
	}
	fdServer, _, err = unix.Accept4(int(l.Fd()), unix.SOCK_CLOEXEC)
	return fdClient, fdServer, err
}

// listener finds the socket of the tree that listens under a socket's name.
func (m *maker) listener(s *image.Socket) *os.File {
	for i := range m.r.tree.Descriptions {
		o := m.r.tree.Descriptions[i].Socket
		if o != nil && o.Family == unix.AF_UNIX && o.Listening && o.Type == s.Type && bytes.Equal(o.Local, s.Local) &&
			(o.Path != "" || o.Local[2] == 0) {
			return m.r.files[i]
		}
	}
	return nil
}

// door returns a listening socket for one connection, and its file unless its
// name is an abstract one. Both are to be closed.
func (m *maker) door(client, server *image.Socket) (l, door *os.File, err error) {
	abstract := server.Local[2] == 0
	if f := m.listener(server); f != nil {
		fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return nil, nil, err
		}
		l = os.NewFile(uintptr(fd), "socket")
		if !abstract {
			door, err = m.open1(m.socketPath(server))
		}
		return l, door, err
	}
	fd, err := unix.Socket(unix.AF_UNIX, server.Type|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	l = os.NewFile(uintptr(fd), "socket")
	if abstract {
		err = sys.Bind(fd, server.Local)
	} else {
		door, err = sockopt.BindApart(fd, server.Local)
	}
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("bind: %w", err), l.Close())
	}
	return l, door, m.listen(fd, &image.Socket{Family: unix.AF_UNIX, Creds: client.Creds, Backlog: 1})
}

// socketPath is where the file of the socket that listens under a name lies.
func (m *maker) socketPath(s *image.Socket) string {
	for i := range m.r.tree.Descriptions {
		o := m.r.tree.Descriptions[i].Socket
		if o != nil && o.Listening && o.Path != "" && o.Type == s.Type && bytes.Equal(o.Local, s.Local) {
			return o.Path
		}
	}
	return ""
}

func (m *maker) open1(path string) (*os.File, error) {
	fd, err := unix.Open(m.r.inside(path), unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	return os.NewFile(uintptr(fd), path), err
}

// dial makes a client's socket and has it connected by a process: to the file
// of a socket, which may have lost its name, or to an abstract name.
func (m *maker) dial(client *image.Socket, by [3]int, to []byte, door *os.File) (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, client.Type|unix.SOCK_CLOEXEC, client.Protocol)
	if err != nil {
		return -1, err
	}
	f := os.NewFile(uintptr(fd), "socket")
	defer f.Close()
	if client.Bound {
		if err := m.bind(fd, client); err != nil {
			return -1, err
		}
	}
	b, err := m.actor(by[0])
	if err != nil {
		return -1, err
	}
	files := []*os.File{f}
	if door != nil {
		files = append(files, door)
	}
	fds, err := m.r.fetch(b, files)
	if err != nil {
		return -1, err
	}
	if door != nil {
		to = append([]byte{to[0], to[1]}, fmt.Sprintf("/proc/self/fd/%d\x00", fds[1])...)
	}
	var tp tape.Tape
	m.as(&tp, by, func() {
		tp.Add("connect", m.r.arch.NR.Connect, tape.N(fds[0]), tape.At(tp.Bytes(to), 0), tape.N(len(to)))
	})
	for _, n := range fds {
		tp.Add("close", m.r.arch.NR.Close, tape.N(n))
	}
	if _, err := b.leader().Play(&b.space, &tp); err != nil {
		return -1, err
	}
	return unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
}

// dialAgain makes the connections that wait to be accepted.
func (m *maker) dialAgain() error {
	for i := range m.r.tree.Descriptions {
		s := m.r.tree.Descriptions[i].Socket
		if s == nil || s.Family != unix.AF_UNIX || !s.Listening {
			continue
		}
		for _, cookie := range s.Accept {
			k, ok := m.sockets[cookie]
			if !ok || m.r.files[k] != nil {
				continue // from outside: its client sees a reset
			}
			var door *os.File
			var err error
			if s.Local[2] != 0 {
				if door, err = m.open1(s.Path); err != nil {
					return err
				}
			}
			c := m.r.tree.Descriptions[k].Socket
			fd, err := m.dial(c, c.By, s.Local, door)
			if door != nil {
				_ = door.Close()
			}
			if err != nil {
				return err
			}
			if err := m.keep(k, fd); err != nil {
				return err
			}
		}
	}
	return nil
}

// listen has listen(2) called by the process that had called it, where that
// matters: clients of a UNIX socket see who listens.
func (m *maker) listen(fd int, s *image.Socket) error {
	if s.Family != unix.AF_UNIX {
		return unix.Listen(fd, s.Backlog)
	}
	dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(dup), "socket")
	defer f.Close()
	b, err := m.actor(s.Creds[0])
	if err != nil {
		return err
	}
	fds, err := m.r.fetch(b, []*os.File{f})
	if err != nil {
		return err
	}
	var tp tape.Tape
	m.as(&tp, s.Creds, func() { tp.Add("listen", m.r.arch.NR.Listen, tape.N(fds[0]), tape.N(s.Backlog)) })
	tp.Add("close", m.r.arch.NR.Close, tape.N(fds[0]))
	_, err = b.leader().Play(&b.space, &tp)
	return err
}

// actor is the process with a number; one that is gone is played by a ghost.
func (m *maker) actor(number int) (*builtProcess, error) {
	if b := m.r.built[number]; b != nil {
		return b, nil
	}
	if m.ghosts[number] == nil {
		b, err := m.r.child(m.r.stub, 0, number, nil)
		if err != nil {
			return nil, err
		}
		m.ghosts[number] = b
	}
	return m.ghosts[number], nil
}

// as adds calls that are made as another user, with all rights.
func (m *maker) as(tp *tape.Tape, who [3]int, calls func()) {
	nr, own := &m.r.arch.NR, &m.r.own
	uid, gid := int(own.UID[1]), int(own.GID[1])
	if who[1] == uid && who[2] == gid {
		calls()
		return
	}
	keep := ^uint64(0)
	tp.Add("prctl", nr.Prctl, tape.N(unix.PR_SET_SECUREBITS), tape.N(setting.NoSetuidFixup))
	tp.Add("setresgid", nr.Setresgid, tape.N(keep), tape.N(who[2]), tape.N(keep))
	tp.Add("setresuid", nr.Setresuid, tape.N(keep), tape.N(who[1]), tape.N(keep))
	calls()
	tp.Add("setresuid", nr.Setresuid, tape.N(keep), tape.N(uid), tape.N(keep))
	tp.Add("setresgid", nr.Setresgid, tape.N(keep), tape.N(gid), tape.N(keep))
	tp.Add("prctl", nr.Prctl, tape.N(unix.PR_SET_SECUREBITS), tape.N(own.SecureBits))
}
