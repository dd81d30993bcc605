package terminal

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/wakepoint/wakepoint/internal/screen"
)

// heldMax is what a person may type while there is no connection.
const heldMax = 64 << 10

// ErrLost is what Attach returns when the connection ended without a word:
// the keeper is gone, or it let a viewer go that did not read.
var ErrLost = errors.New("connection to the terminal lost")

// AttachOptions of one viewer.
type AttachOptions struct {
	ReadOnly bool // nothing that is typed reaches the program, nor the window's size
	// Again connects to the hub that takes the place of one whose connection was
	// lost, for as long as that may take; nil: there is none. ctx ends when the
	// person leaves.
	Again func(ctx context.Context) (net.Conn, error)
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
	a := &attachment{in: in, out: out, o: o, left: make(chan struct{}), screen: newScreen()}
	a.conn.Store(&conn)
	defer func() { (*a.conn.Load()).Close() }()
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

	if err := a.greet(conn, false); err != nil && o.Again == nil {
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

// newScreen is of nobody's size: a scroll region of any terminal fits in.
func newScreen() *screen.Screen { return screen.New(screen.Size{Rows: 300, Cols: 200}) }

// attachment is one visit.
type attachment struct {
	conn    atomic.Pointer[net.Conn]
	in, out *os.File
	o       AttachOptions

	// screen follows what is shown, so that leaving in the middle of a
	// full-screen program gives the person's terminal back as it was. Used by
	// watch, then by Attach.
	screen *screen.Screen

	leave sync.Once
	left  chan struct{} // closed when the person wants to leave

	sending sync.Mutex // one frame at a time, and what follows; taken alone
	joined  bool       // the hub has answered, and the connection was not lost since
	held    []byte     // frames of what was typed while that was not so
}

// greet says the first words on a connection.
func (a *attachment) greet(conn net.Conn, again bool) error {
	h := hello{readOnly: a.o.ReadOnly, again: again, size: sizeOf(a.out)}
	_, err := conn.Write(appendFrame(nil, kindHello, h.encode()))
	return err
}

func (a *attachment) send(kind byte, payload []byte) error {
	a.sending.Lock()
	defer a.sending.Unlock()
	frame := appendFrame(nil, kind, payload)
	if a.joined || a.o.Again == nil {
		_, err := (*a.conn.Load()).Write(frame)
		if err == nil || a.o.Again == nil {
			return err
		}
		a.joined = false
	}
	if kind == kindData && len(a.held) < heldMax {
		a.held = append(a.held, frame...)
	}
	return nil
}

// answered notes that the hub has taken this viewer. What was typed and what
// the window's size became meanwhile follows; what cannot be written is lost
// with the connection, as watch will see.
func (a *attachment) answered(conn net.Conn) {
	a.sending.Lock()
	defer a.sending.Unlock()
	if a.joined {
		return
	}
	a.joined = true
	if s := sizeOf(a.out); s.known() && !a.o.ReadOnly {
		conn.Write(appendFrame(nil, kindResize, s.encode()))
	}
	conn.Write(a.held)
	a.held = nil
}

// rejoin goes on with another connection, in the place of one that was lost:
// the person sees the screen drawn again, and what was typed meanwhile counts.
func (a *attachment) rejoin() error {
	(*a.conn.Load()).Close() // nobody waits for it any more
	a.sending.Lock()
	a.joined = false
	a.sending.Unlock()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	go func() {
		select {
		case <-a.left:
			stop()
		case <-ctx.Done():
		}
	}()
	conn, err := a.o.Again(ctx)
	if err != nil {
		return err
	}
	if _, err := a.out.Write(a.screen.Leave()); err != nil {
		conn.Close()
		return err
	}
	a.screen = newScreen()
	a.conn.Store(&conn)
	if a.leaves() { // who left closed only the former one
		conn.Close()
	}
	a.greet(conn, true) // if it cannot be said, nobody answers
	return nil
}

// farewell is what the person's terminal gets last. Who leaves a program that
// runs on finds the cursor below its screen.
func (a *attachment) farewell() []byte {
	b := a.screen.Leave()
	if s := sizeOf(a.out); a.leaves() && s.known() {
		b = fmt.Appendf(b, "\x1b[%d;1H\r\n", s.rows)
	}
	return b
}

// detach leaves in good order. It does not wait for a hub that does not read.
func (a *attachment) detach() {
	a.leave.Do(func() {
		close(a.left)
		conn := *a.conn.Load()
		if a.sending.TryLock() {
			conn.SetWriteDeadline(time.Now().Add(time.Second))
			conn.Write(appendFrame(nil, kindDetach, nil))
			a.sending.Unlock()
		}
		conn.Close()
	})
}

// watch shows what hubs send until one side is gone for good.
func (a *attachment) watch() (Outcome, error) {
	for {
		o, err := a.follow()
		if err == nil {
			return o, nil
		}
		lost := errors.Is(err, ErrLost) && a.o.Again != nil
		if !a.leaves() && lost && a.rejoin() == nil {
			continue
		}
		if a.leaves() {
			return Outcome{Detached: true}, nil
		}
		return o, err
	}
}

// leaves says whether the person wants to leave.
func (a *attachment) leaves() bool {
	select {
	case <-a.left:
		return true
	default:
		return false
	}
}

// follow shows what one hub sends until its connection ends.
func (a *attachment) follow() (Outcome, error) {
	var buf []byte
	conn, joined := *a.conn.Load(), false
	for {
		kind, p, err := readFrame(conn, buf)
		if err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, unix.ECONNRESET) {
				err = ErrLost
			}
			return Outcome{}, fmt.Errorf("attach: %w", err)
		}
		if buf = p; !joined {
			joined = true
			a.answered(conn)
		}
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
