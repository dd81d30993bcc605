package terminal

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	backlogDefault = 64 << 10 // what a new viewer is shown of the past
	queueDefault   = 4 << 20  // what a viewer may lag behind

	helloWait  = 10 * time.Second
	flushWait  = 2 * time.Second        // for viewers to take the last words
	redrawWait = 40 * time.Millisecond  // between the two sizes of a forced redraw
	hangupWait = 200 * time.Millisecond // between looks at a terminal that nobody has open
)

// ErrClosed is what Serve returns once the hub was closed.
var ErrClosed = errors.New("terminal closed")

// errSlow ends a viewer that does not read.
var errSlow = errors.New("viewer too slow")

// Options of a Hub. The zero value is good.
type Options struct {
	BacklogBytes int // shown to new viewers; 64 KiB when 0
	QueueBytes   int // a viewer that lags further behind is let go; 4 MiB when 0
}

// Hub relays one pty to its viewers. It always reads what the program
// prints, viewers or not, so that the program never waits for anybody.
type Hub struct {
	o      Options
	master *os.File      // our own duplicate, in non-blocking mode
	done   chan struct{} // closed by Close: the reader stops
	read   chan struct{} // closed when the reader has stopped

	input sync.Mutex // one write to the master at a time; taken alone

	mu      sync.Mutex // guards what follows; taken alone
	backlog []byte
	clipped bool // the backlog has lost its beginning
	viewers map[*viewer]struct{}
	closed  bool
	serving sync.WaitGroup
}

// NewHub begins to relay master, the master side of a pty. The caller keeps
// master open; the hub works on a duplicate. The open file description is put
// into non-blocking mode.
func NewHub(master *os.File, o Options) (*Hub, error) {
	if o.BacklogBytes <= 0 {
		o.BacklogBytes = backlogDefault
	}
	if o.QueueBytes <= 0 {
		o.QueueBytes = queueDefault
	}
	own, err := duplicate(master)
	if err != nil {
		return nil, fmt.Errorf("terminal: %w", err)
	}
	h := &Hub{
		o: o, master: own,
		done: make(chan struct{}), read: make(chan struct{}),
		viewers: map[*viewer]struct{}{},
	}
	go h.relay()
	return h, nil
}

// duplicate returns a non-blocking duplicate of f that knows deadlines.
func duplicate(f *os.File) (*os.File, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	var fd int
	var dup error
	if err := raw.Control(func(old uintptr) {
		fd, dup = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 3)
	}); err != nil {
		return nil, err
	}
	if dup != nil {
		return nil, dup
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

// relay reads the master until Close. EIO means that no process has the
// terminal open just now, which may change as long as somebody could open it.
func (h *Hub) relay() {
	defer close(h.read)
	buf := make([]byte, 32<<10)
	for {
		n, err := h.master.Read(buf)
		if n > 0 {
			h.show(buf[:n])
		}
		switch {
		case err == nil:
		case errors.Is(err, syscall.EIO):
			select {
			case <-h.done:
				return
			case <-time.After(hangupWait):
			}
		default:
			return // the deadline that Close set, or a master that is no more
		}
	}
}

// drain takes what is left in the master without waiting.
func (h *Hub) drain() {
	raw, err := h.master.SyscallConn()
	if err != nil {
		return
	}
	buf := make([]byte, 32<<10)
	for {
		n := 0
		if raw.Control(func(fd uintptr) { n, err = unix.Read(int(fd), buf) }) != nil || n <= 0 || err != nil {
			return
		}
		h.show(buf[:n])
	}
}

// show keeps p for viewers to come and queues it for those that are here.
func (h *Hub) show(p []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.backlog = append(h.backlog, p...)
	if over := len(h.backlog) - h.o.BacklogBytes; over > 0 {
		h.backlog = append(h.backlog[:0], h.backlog[over:]...)
		h.clipped = true
	}
	for v := range h.viewers {
		if !v.queueData(p, h.o.QueueBytes) {
			delete(h.viewers, v)
		}
	}
}

// Serve relays to and from one viewer until it detaches, its connection
// ends, or the program or the hub ends. It closes conn. An error is a viewer
// that does not speak the protocol or was too slow, or ErrClosed.
func (h *Hub) Serve(conn net.Conn) error {
	defer conn.Close()
	hi, err := readHello(conn)
	if err != nil {
		return fmt.Errorf("terminal: hello: %w", err)
	}
	v := newViewer(conn)
	if !h.join(v) {
		return ErrClosed
	}
	defer h.serving.Done()
	sent := make(chan struct{})
	go func() { defer close(sent); v.send() }()

	err = h.listen(v, hi)
	h.leave(v)
	<-sent
	if v.reason() != nil {
		return fmt.Errorf("terminal: %w", v.reason())
	}
	return err
}

// readHello reads the first frame; a silent stranger is not waited for.
func readHello(conn net.Conn) (hello, error) {
	conn.SetReadDeadline(time.Now().Add(helloWait))
	defer conn.SetReadDeadline(time.Time{})
	kind, p, err := readFrame(conn, nil)
	if err != nil {
		return hello{}, err
	}
	if kind != kindHello {
		return hello{}, fmt.Errorf("%w: kind %d came first", errFrame, kind)
	}
	return decodeHello(p)
}

// join adds a viewer, who first gets the backlog. False when the hub is closed.
func (h *Hub) join(v *viewer) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return false
	}
	h.serving.Add(1)
	past := h.backlog
	if h.clipped {
		past = afterLine(past)
	}
	v.queueData(past, h.o.QueueBytes+h.o.BacklogBytes)
	h.viewers[v] = struct{}{}
	return true
}

// afterLine drops the first, incomplete line, so that no half of an escape
// sequence is shown.
func afterLine(p []byte) []byte {
	for i, c := range p {
		if c == '\n' {
			return p[i+1:]
		}
	}
	return p
}

func (h *Hub) leave(v *viewer) {
	h.mu.Lock()
	delete(h.viewers, v)
	h.mu.Unlock()
	v.finish()
}

// listen obeys a viewer until it is gone.
func (h *Hub) listen(v *viewer, hi hello) error {
	if !hi.readOnly {
		h.redraw(hi.size)
	}
	var buf []byte
	for {
		kind, p, err := readFrame(v.conn, buf)
		if err != nil {
			if errors.Is(err, errFrame) {
				return fmt.Errorf("terminal: viewer: %w", err)
			}
			return nil // gone, with or without a word
		}
		buf = p
		switch kind {
		case kindDetach:
			return nil
		case kindData:
			if !hi.readOnly {
				h.typed(p)
			}
		case kindResize:
			s, err := decodeSize(p)
			if err == nil && !hi.readOnly {
				h.resize(s)
			}
		default:
			return fmt.Errorf("terminal: %w: kind %d from a viewer", errFrame, kind)
		}
	}
}

// typed writes what a viewer typed. When nobody reads the terminal it waits,
// until the hub closes; what cannot be written then is lost, as on a cut line.
func (h *Hub) typed(p []byte) {
	h.input.Lock()
	defer h.input.Unlock()
	h.master.Write(p)
}

// resize tells the terminal its size. Sizes that are not known change nothing.
func (h *Hub) resize(s size) {
	if !s.known() {
		return
	}
	raw, err := h.master.SyscallConn()
	if err != nil {
		return
	}
	raw.Control(func(fd uintptr) {
		unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: s.rows, Col: s.cols})
	})
}

// size asks the terminal for its size.
func (h *Hub) size() size {
	var s size
	raw, err := h.master.SyscallConn()
	if err != nil {
		return s
	}
	raw.Control(func(fd uintptr) {
		if w, err := unix.IoctlGetWinsize(int(fd), unix.TIOCGWINSZ); err == nil {
			s = size{rows: w.Row, cols: w.Col}
		}
	})
	return s
}

// redraw makes full-screen programs draw their screen again, at the size of
// the viewer that came, or at their old size if it has none. A SIGWINCH is
// sent only when the size changes, and some programs (less) compare it, so
// the size really is another one for a moment.
func (h *Hub) redraw(s size) {
	now := h.size()
	if !s.known() {
		s = now
	}
	if !s.known() {
		return
	}
	if s == now {
		other := s
		other.rows++
		if s.rows > 1 {
			other.rows = s.rows - 1
		}
		h.resize(other)
		select {
		case <-h.done:
		case <-time.After(redrawWait):
		}
	}
	h.resize(s)
}

// End tells the viewers that the program has ended, with the wait status as
// wait(2) encodes it, and closes the hub. What the program printed last is
// shown first.
func (h *Hub) End(wait uint32) error {
	return h.close([]byte{byte(wait >> 24), byte(wait >> 16), byte(wait >> 8), byte(wait)})
}

// Close ends the relay; the program keeps its terminal. Viewers are told that
// it ended for them, without a status. Close returns when every Serve is over.
func (h *Hub) Close() error { return h.close(nil) }

func (h *Hub) close(status []byte) error {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return nil
	}
	h.closed = true
	h.mu.Unlock()

	close(h.done)
	h.master.SetDeadline(time.Unix(1, 0))
	<-h.read
	h.drain()

	h.mu.Lock()
	viewers := h.viewers
	h.viewers = map[*viewer]struct{}{}
	h.mu.Unlock()
	for v := range viewers {
		v.end(status)
	}
	h.serving.Wait()
	return h.master.Close()
}
