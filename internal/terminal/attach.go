package terminal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/wakepoint/wakepoint/internal/screen"
)

// ErrLost is what Attach returns when the connection ended without a word:
// the keeper is gone, or it let a viewer go that did not read.
var ErrLost = errors.New("connection to the terminal lost")

// AttachOptions of one viewer.
type AttachOptions struct {
	ReadOnly bool // nothing that is typed reaches the program, nor the window's size
}

// Outcome is how a viewer's visit ended.
type Outcome struct {
	Detached bool   // the person left (C-\ d, or this process was asked to end)
	Ended    bool   // the program, or its terminal, ended
	Known    bool   // Wait is valid
	Wait     uint32 // the program's wait status, see wait(2)
}

// Attach joins a person's terminal, in and out, to the hub at the other end
// of conn until one of the two leaves. It closes conn. In every case the
// terminal has its former modes when Attach returns. Either file may be
// something else than a terminal. While it runs, SIGTERM, SIGHUP and SIGINT
// to this process detach.
func Attach(conn net.Conn, in, out *os.File, o AttachOptions) (Outcome, error) {
	defer conn.Close()
	a := &attachment{conn: conn, in: in, out: out, o: o, left: make(chan struct{}), screen: screen.New(screen.Size{Rows: 300, Cols: 200})}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, unix.SIGWINCH, unix.SIGTERM, unix.SIGHUP, unix.SIGINT)
	defer signal.Stop(signals)
	stop, wake, err := os.Pipe()
	if err != nil {
		return Outcome{}, fmt.Errorf("attach: %w", err)
	}
	defer stop.Close()

	restore, err := rawMode(in)
	if err != nil {
		wake.Close()
		return Outcome{}, fmt.Errorf("attach: raw mode: %w", err)
	}
	defer restore()
	defer func() { out.Write(a.farewell()) }()

	if err := a.send(kindHello, hello{readOnly: o.ReadOnly, size: sizeOf(out)}.encode()); err != nil {
		wake.Close()
		return Outcome{}, fmt.Errorf("attach: %w", err)
	}
	var helpers sync.WaitGroup
	finished := make(chan struct{})
	helpers.Go(func() { a.typing(stop) })
	helpers.Go(func() { a.signalled(signals, finished) })
	outcome, err := a.watch()
	close(finished)
	wake.Close()
	helpers.Wait()
	return outcome, err
}

// attachment is one visit.
type attachment struct {
	conn    net.Conn
	in, out *os.File
	o       AttachOptions

	// screen follows what is shown, so that leaving in the middle of a
	// full-screen program gives the person's terminal back as it was. Its size
	// is nobody's: a scroll region of any terminal fits in. Used by watch, then
	// by Attach.
	screen *screen.Screen

	leave sync.Once
	left  chan struct{} // closed when the person wants to leave

	sending sync.Mutex // one frame at a time; taken alone
}

func (a *attachment) send(kind byte, payload []byte) error {
	a.sending.Lock()
	defer a.sending.Unlock()
	_, err := a.conn.Write(appendFrame(nil, kind, payload))
	return err
}

// farewell is what the person's terminal gets last. Who leaves a program that
// runs on finds the cursor below its screen.
func (a *attachment) farewell() []byte {
	b := a.screen.Leave()
	select {
	case <-a.left:
		if s := sizeOf(a.out); s.known() {
			b = fmt.Appendf(b, "\x1b[%d;1H\r\n", s.rows)
		}
	default:
	}
	return b
}

// detach leaves in good order. It does not wait for a hub that does not read.
func (a *attachment) detach() {
	a.leave.Do(func() {
		close(a.left)
		if a.sending.TryLock() {
			a.conn.SetWriteDeadline(time.Now().Add(time.Second))
			a.conn.Write(appendFrame(nil, kindDetach, nil))
			a.sending.Unlock()
		}
		a.conn.Close()
	})
}

// watch shows what the hub sends until one side is gone.
func (a *attachment) watch() (Outcome, error) {
	var buf []byte
	for {
		kind, p, err := readFrame(a.conn, buf)
		if err != nil {
			select {
			case <-a.left:
				return Outcome{Detached: true}, nil
			default:
			}
			if errors.Is(err, io.EOF) || errors.Is(err, unix.ECONNRESET) {
				err = ErrLost
			}
			return Outcome{}, fmt.Errorf("attach: %w", err)
		}
		buf = p
		switch kind {
		case kindData:
			a.screen.Write(p)
			if _, err := a.out.Write(p); err != nil {
				return Outcome{}, fmt.Errorf("attach: %w", err)
			}
		case kindEnd:
			o := Outcome{Ended: true, Known: len(p) == 4}
			if o.Known {
				o.Wait = binary.BigEndian.Uint32(p)
			}
			return o, nil
		default:
			return Outcome{}, fmt.Errorf("attach: %w: kind %d from the hub", errFrame, kind)
		}
	}
}

// signalled passes the window's size on and detaches when asked to end.
func (a *attachment) signalled(signals <-chan os.Signal, finished <-chan struct{}) {
	for {
		select {
		case <-finished:
			return
		case sig := <-signals:
			if sig != unix.SIGWINCH {
				a.detach()
				return
			}
			if s := sizeOf(a.out); s.known() && !a.o.ReadOnly {
				a.send(kindResize, s.encode())
			}
		}
	}
}

// typing sends what is typed until stop can be read or the input ends. It
// polls, so that it never takes a byte that is meant for whoever reads next.
func (a *attachment) typing(stop *os.File) {
	var keys detachKeys
	buf := make([]byte, 4096)
	for {
		n, err := readUnless(stop, a.in, buf)
		if err != nil || n == 0 {
			return // no more input: go on watching
		}
		out, detach := keys.feed(buf[:n])
		if len(out) > 0 && !a.o.ReadOnly {
			if a.send(kindData, out) != nil {
				return // watch sees why
			}
		}
		if detach {
			a.detach()
			return
		}
	}
}

// readUnless reads from in, or returns 0 as soon as stop is at its end.
func readUnless(stop, in *os.File, buf []byte) (int, error) {
	var n int
	var failed error
	err := withFD(stop, func(stopFD int) {
		inner := withFD(in, func(inFD int) { n, failed = pollRead(stopFD, inFD, buf) })
		failed = errors.Join(failed, inner)
	})
	return n, errors.Join(err, failed)
}

func pollRead(stop, in int, buf []byte) (int, error) {
	for {
		fds := []unix.PollFd{{Fd: int32(stop), Events: unix.POLLIN}, {Fd: int32(in), Events: unix.POLLIN}}
		_, err := unix.Poll(fds, -1)
		if err == nil && fds[0].Revents != 0 {
			return 0, nil
		}
		if err == nil {
			var n int
			if n, err = unix.Read(in, buf); err == nil {
				return n, nil
			}
		}
		if err != unix.EINTR && err != unix.EAGAIN {
			return 0, err
		}
	}
}

func withFD(f *os.File, do func(fd int)) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	return raw.Control(func(fd uintptr) { do(int(fd)) })
}

// rawMode switches a terminal to raw mode; restore undoes it. Anything else is left alone.
func rawMode(in *os.File) (restore func(), err error) {
	restore = func() {}
	failed := withFD(in, func(fd int) {
		if !term.IsTerminal(fd) {
			return
		}
		var old *term.State
		if old, err = term.MakeRaw(fd); err == nil {
			restore = func() { withFD(in, func(fd int) { term.Restore(fd, old) }) }
		}
	})
	return restore, errors.Join(err, failed)
}

// sizeOf is the size of a terminal; 0x0 for anything else.
func sizeOf(out *os.File) size {
	var s size
	withFD(out, func(fd int) {
		s, _ = sizeAt(fd)
	})
	return s
}

func sizeAt(fd int) (size, error) {
	w, err := unix.IoctlGetWinsize(fd, unix.TIOCGWINSZ)
	if err != nil {
		return size{}, err
	}
	return size{rows: w.Row, cols: w.Col}, nil
}
