// Package pocket holds descriptors for the process that comes after this one.
package pocket

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	messageMax = 4096
	itemsMax   = 16
)

// Pocket is a pair of connected sockets that both lie with whoever has it. What
// it holds travels between them and never arrives: one message, which is looked
// at and not taken (MSG_PEEK, recv(2)), with the descriptors (SCM_RIGHTS,
// unix(7)) and their names. So it lives as long as anybody has the pocket open,
// however its owner dies, and whoever inherits it needs nobody's help. Where
// the last one that has it is gone, all in it is closed.
//
// One process uses it at a time. nil is one that is always
// empty, whatever is put in.
type Pocket struct {
	mu   sync.Mutex // one look or change at a time; taken alone
	ends [2]*os.File
}

// New makes an empty one.
func New() (*Pocket, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("pocket: %w", err)
	}
	return of(fds[0], fds[1]), nil
}

func of(a, b int) *Pocket {
	return &Pocket{ends: [2]*os.File{os.NewFile(uintptr(a), "pocket"), os.NewFile(uintptr(b), "pocket")}}
}

// Close gives the pocket up.
func (p *Pocket) Close() error { return errors.Join(p.ends[0].Close(), p.ends[1].Close()) }

// item is a descriptor with its name. It is no os.File, whose methods would
// change the mode of what other duplicates are used for.
type item struct {
	name string
	fd   int
}

// The message is text: a number that is another one in each message, and the
// names of the descriptors, one in a line. Which end it waits at is not said:
// who inherits them may have them in either order.

// look returns what the pocket holds, and the message that says so; nil: nothing.
func (p *Pocket) look() (items []item, message []byte, err error) {
	for _, end := range p.ends {
		message, fds, err := receive(end, unix.MSG_PEEK)
		if err != nil {
			return nil, nil, err
		}
		if message == nil {
			continue
		}
		names := strings.Split(string(message), "\n")[1:]
		if len(names) != len(fds) {
			closeAll(fds)
			return nil, nil, errors.New("pocket: it holds what is none of ours")
		}
		for i, fd := range fds {
			items = append(items, item{names[i], fd})
		}
		return items, message, nil
	}
	return nil, nil, nil
}

func closeAll(fds []int) {
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
}

// receive takes one message, or looks at it; nil when there is none.
func receive(end *os.File, flags int) (message []byte, fds []int, err error) {
	data, control := make([]byte, messageMax), make([]byte, unix.CmsgSpace(4*itemsMax))
	n, cn, _, _, err := unix.Recvmsg(int(end.Fd()), data, control, flags|unix.MSG_CMSG_CLOEXEC|unix.MSG_DONTWAIT)
	if err == unix.EAGAIN || err == nil && n == 0 {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("pocket: %w", err)
	}
	list, err := unix.ParseSocketControlMessage(control[:cn])
	for i := range list {
		more, rerr := unix.ParseUnixRights(&list[i])
		fds, err = append(fds, more...), errors.Join(err, rerr)
	}
	return data[:n], fds, err
}

// hold makes items all that the pocket holds. They are in it before those that
// it held are out.
func (p *Pocket) hold(items []item, before []byte) error {
	number := 0
	if before != nil {
		first, _, _ := bytes.Cut(before, []byte("\n"))
		number, _ = strconv.Atoi(string(first))
	}
	message, fds := strconv.Itoa(number+1), []int{}
	for _, it := range items {
		message += "\n" + it.name
		fds = append(fds, it.fd)
	}
	if len(items) > 0 {
		if err := unix.Sendmsg(int(p.ends[0].Fd()), []byte(message), unix.UnixRights(fds...), nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL); err != nil {
			return fmt.Errorf("pocket: %w", err)
		}
	}
	for _, end := range p.ends {
		for {
			m, fds, err := receive(end, unix.MSG_PEEK)
			closeAll(fds)
			if err != nil {
				return err
			}
			if m == nil || len(items) > 0 && string(m) == message {
				break
			}
			_, fds, err = receive(end, 0)
			closeAll(fds)
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// Put puts a duplicate of a descriptor into the pocket, in the place of the
// one of that name.
func (p *Pocket) Put(name string, c syscall.Conn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return fmt.Errorf("pocket: %w", err)
	}
	cerr := raw.Control(func(fd uintptr) {
		err = p.change(name, func(rest []item) []item { return append(rest, item{name, int(fd)}) })
	})
	return errors.Join(cerr, err)
}

// Drop takes what has that name out of the pocket.
func (p *Pocket) Drop(name string) error {
	return p.change(name, func(rest []item) []item { return rest })
}

func (p *Pocket) change(name string, to func(rest []item) []item) error {
	if p == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	items, before, err := p.look()
	if err != nil {
		return err
	}
	rest := slices.DeleteFunc(slices.Clone(items), func(it item) bool { return it.name == name })
	err = p.hold(to(rest), before)
	for _, it := range items {
		_ = unix.Close(it.fd)
	}
	return err
}

// Look returns a duplicate of what has that name, which stays in the pocket;
// os.ErrNotExist when there is none.
func (p *Pocket) Look(name string) (*os.File, error) {
	if p == nil {
		return nil, os.ErrNotExist
	}
	p.mu.Lock()
	items, _, err := p.look()
	p.mu.Unlock()
	if err != nil {
		return nil, err
	}
	var f *os.File
	for _, it := range items {
		if it.name == name && f == nil {
			f = os.NewFile(uintptr(it.fd), name)
			continue
		}
		_ = unix.Close(it.fd)
	}
	if f == nil {
		return nil, os.ErrNotExist
	}
	return f, nil
}

// Note puts data into the pocket, in the place of what has that name: it is
// in memory only.
func (p *Pocket) Note(name string, data []byte) error {
	fd, err := unix.MemfdCreate("wakepoint-"+name, unix.MFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("pocket: %w", err)
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	if _, err := f.Write(data); err != nil {
		return fmt.Errorf("pocket: %w", err)
	}
	return p.Put(name, f)
}

// Noted takes what was noted out of the pocket; nil when there is nothing.
func (p *Pocket) Noted(name string) ([]byte, error) {
	f, err := p.Look(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.NewSectionReader(f, 0, st.Size()))
	return data, errors.Join(err, p.Drop(name))
}
