package description

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/wakepoint/wakepoint/internal/image"
)

// PeekPipe opens a second reading end of a pipe and copies what waits in it.
// The copy has the same packets.
func PeekPipe(link string, waiting int, p *image.Pipe, packets bool) error {
	from, err := unix.Open(link, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open pipe: %w", err)
	}
	defer unix.Close(from)
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	defer w.Close()
	if _, err := unix.FcntlInt(w.Fd(), unix.F_SETPIPE_SZ, max(p.Size, 4096)); err != nil {
		return fmt.Errorf("room for %d bytes of a pipe: %w", p.Size, err)
	}
	n, err := unix.Tee(from, int(w.Fd()), max(p.Size, waiting), unix.SPLICE_F_NONBLOCK)
	if err != nil {
		return fmt.Errorf("copy the contents of a pipe: %w", err)
	}
	if int(n) != waiting {
		return fmt.Errorf("copied %d of %d bytes in a pipe", n, waiting)
	}
	p.Data = make([]byte, n)
	for at := 0; at < len(p.Data); {
		k, err := r.Read(p.Data[at:]) // one packet, or all of a stream
		if err != nil {
			return err
		}
		p.Packets = append(p.Packets, k)
		at += k
	}
	if len(p.Packets) == 1 && !packets {
		p.Packets = nil
	}
	return nil
}

// Pipes are the pipes and FIFOs that are being made, by the number that they
// had.
type Pipes map[uint64]*ends

// Close closes the ends that nobody took.
func (m Pipes) Close() {
	for _, p := range m {
		p.close()
	}
}

// ends are both sides of a pipe that is being made.
type ends struct {
	r, w         int
	usedR, usedW bool
}

func (p *ends) close() {
	if !p.usedR {
		_ = unix.Close(p.r)
	}
	if !p.usedW && p.w != p.r {
		_ = unix.Close(p.w)
	}
}

// End returns one end of a pipe; the pipe is made, and filled, at the
// first. A further description of an end is opened through /proc.
func (m Pipes) End(d *image.Description) (int, error) {
	p := m[d.Pipe.ID]
	if p == nil {
		var fds [2]int
		if err := unix.Pipe2(fds[:], unix.O_CLOEXEC|d.Flags&unix.O_DIRECT); err != nil {
			return -1, err
		}
		p = &ends{r: fds[0], w: fds[1]}
		m[d.Pipe.ID] = p
		if err := fillPipe(p.w, d.Pipe); err != nil {
			return -1, err
		}
	}
	mode := d.Flags & unix.O_ACCMODE
	switch {
	case mode == unix.O_RDONLY && !p.usedR:
		p.usedR = true
		return p.r, nil
	case mode == unix.O_WRONLY && !p.usedW:
		p.usedW = true
		return p.w, nil
	}
	return unix.Open(fmt.Sprintf("/proc/self/fd/%d", p.r), mode|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
}

func fillPipe(w int, p *image.Pipe) error {
	if p.Size > 0 {
		if _, err := unix.FcntlInt(uintptr(w), unix.F_SETPIPE_SZ, p.Size); err != nil {
			return fmt.Errorf("capacity %d: %w", p.Size, err)
		}
	}
	data, lengths := p.Data, p.Packets
	if len(lengths) == 0 {
		lengths = []int{len(data)}
	} else if _, err := unix.FcntlInt(uintptr(w), unix.F_SETFL, unix.O_DIRECT|unix.O_NONBLOCK); err != nil {
		return fmt.Errorf("packets: %w", err)
	}
	for _, k := range lengths {
		for part := data[:k]; len(part) > 0; {
			n, err := unix.Write(w, part)
			if err != nil {
				return fmt.Errorf("contents: %w", err)
			}
			part = part[n:]
		}
		data = data[k:]
	}
	return nil
}

// FIFO opens a FIFO by its name, which is made again if it is missing. It
// is first opened for both, so that nothing blocks and the contents stay.
func (m Pipes) FIFO(d *image.Description, path string) (int, error) {
	p := m[d.Pipe.ID]
	if p == nil {
		if err := unix.Mkfifo(path, d.Pipe.Mode&0o7777); err == nil {
			err = errors.Join(os.Chmod(path, os.FileMode(d.Pipe.Mode&0o777)), os.Lchown(path, int(d.Pipe.UID), int(d.Pipe.GID)))
			if err != nil {
				return -1, err
			}
		} else if err != unix.EEXIST {
			return -1, err
		}
		fd, err := unix.Open(path, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			return -1, err
		}
		p = &ends{r: fd, w: fd}
		m[d.Pipe.ID] = p
		drain(fd)
		if err := fillPipe(fd, d.Pipe); err != nil {
			return -1, err
		}
	}
	return unix.Open(path, d.Flags&unix.O_ACCMODE|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
}
