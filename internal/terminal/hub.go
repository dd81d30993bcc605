package terminal

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wakepoint/wakepoint/internal/screen"
)

const (
	queueDefault = 4 << 20 // what a viewer may lag behind
	screenMax    = 2 << 20 // what a new viewer is shown of the past
	drainMax     = 4 << 20 // what is taken without waiting, of a program that does not stop

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
	QueueBytes int // a viewer that lags further behind is let go; 4 MiB when 0

	// Screen is what the program had printed before, as Hub.Screen gave it; nil
	// or damaged: nothing.
	Screen []byte
	// Stale: the program may have printed since, which nobody has read. It is
	// made to draw itself again.
	Stale bool
}

// Hub relays one pty to its viewers. It always reads what the program
// prints, viewers or not, so that the program never waits for anybody, and
// knows from that what its screen looks like.
type Hub struct {
	o      Options
	master *os.File      // our own duplicate, in non-blocking mode
	done   chan struct{} // closed by Close: the reader stops
	read   chan struct{} // closed when the reader has stopped

	input sync.Mutex // one write to the master at a time; taken alone
	pull  sync.Mutex // one read of the master at a time, until it was shown; taken before mu

	mu      sync.Mutex // guards what follows
	screen  *screen.Screen
	encoded []byte // of the screen; nil: it has changed
	viewers map[*viewer]struct{}
	closed  bool
	serving sync.WaitGroup
}

// NewHub begins to relay master, the master side of a pty. The caller keeps
// master open; the hub works on a duplicate. The open file description is put
// into non-blocking mode.
func NewHub(master *os.File, o Options) (*Hub, error) {
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
	if h.screen, err = screen.Decode(o.Screen); err != nil {
		h.screen = screen.New(h.size().screen())
	}
	h.screen.Resize(h.size().screen())
	go h.relay()
	if o.Stale {
		h.serving.Go(h.poke)
	}
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
	raw, err := h.master.SyscallConn()
	if err != nil {
		return
	}
	buf := make([]byte, 32<<10)
	for {
		var failed error
		if raw.Read(func(fd uintptr) bool {
			_, failed = h.take(int(fd), buf)
			return failed != unix.EAGAIN
		}) != nil {
			return // the deadline that Close set, or a master that is no more
		}
		switch failed {
		case nil, unix.EINTR:
		case unix.EIO:
			select {
			case <-h.done:
				return
			case <-time.After(hangupWait):
			}
		default:
			return
		}
	}
}

// take reads the master once, without waiting, and shows what it has read.
func (h *Hub) take(fd int, buf []byte) (int, error) {
	h.pull.Lock()
	defer h.pull.Unlock()
	n, err := unix.Read(fd, buf)
	if n > 0 {
		s, _ := sizeAt(fd)
		h.show(buf[:n], s)
	}
	return n, err
}

// drain takes what is left in the master without waiting. When the program
// stands still that is all it has printed: n_tty_read looks at what is on its
// way through the kernel (tty_buffer_flush_work) before it says EAGAIN.
func (h *Hub) drain() {
	raw, err := h.master.SyscallConn()
	if err != nil {
		return
	}
	buf := make([]byte, 32<<10)
	for taken := 0; taken < drainMax; {
		n := 0
		if raw.Control(func(fd uintptr) { n, err = h.take(int(fd), buf) }) != nil || n <= 0 || err != nil {
			return
		}
		taken += n
	}
}

// Screen returns the screen after all that the program has printed so far, for
// Options.Screen of another hub. It must not be changed. The program must
// stand still for it to be exact.
func (h *Hub) Screen() []byte {
	h.drain()
	s := h.size()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fit(s)
	if h.encoded == nil {
		h.encoded = h.screen.Encode()
	}
	return h.encoded
}

// fit gives the screen the size that the terminal has.
func (h *Hub) fit(s size) {
	if at := s.screen(); at.Known() && at != h.screen.Size() {
		h.screen.Resize(at)
		h.encoded = nil
	}
}

// show draws p on the screen of a terminal of size s, and queues it for the
// viewers.
func (h *Hub) show(p []byte, s size) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fit(s)
	h.screen.Write(p)
	h.encoded = nil
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
	if !h.join(v, hi) {
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

// join adds a viewer, who first gets the screen. Its size becomes the
// program's, if it may change anything. False when the hub is closed.
func (h *Hub) join(v *viewer, hi hello) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return false
	}
	h.serving.Add(1)
	if !hi.readOnly {
		h.resize(hi.size)
	}
	h.fit(h.size())
	if !hi.again {
		v.queueData(welcome(hi.size), h.o.QueueBytes)
	}
	v.queueData(h.screen.Redraw(hi.size.screen()), h.o.QueueBytes+screenMax)
	h.viewers[v] = struct{}{}
	return true
}

// welcome makes room on a viewer's terminal: what stood there goes up into its
// history.
func welcome(s size) []byte {
	if !s.known() {
		return nil
	}
	down := fmt.Appendf(nil, "\x1b[%d;1H", s.rows)
	return append(down, bytes.Repeat([]byte("\n"), min(int(s.rows), 1000))...)
}

func (h *Hub) leave(v *viewer) {
	h.mu.Lock()
	delete(h.viewers, v)
	h.mu.Unlock()
	v.finish()
}

// listen obeys a viewer until it is gone.
func (h *Hub) listen(v *viewer, hi hello) error {
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
	raw.Control(func(fd uintptr) { s, _ = sizeAt(int(fd)) })
	return s
}

// poke makes full-screen programs draw their screen again. A SIGWINCH is sent
// only when the size changes, and some programs (less) compare it, so the size
// really is another one for a moment. It is worth it only where what the
// program printed is not known: the keeper before us has read it and is gone,
// or it was restored from a generation without a screen. A viewer that comes
// needs it never.
func (h *Hub) poke() {
	now := h.size()
	if !now.known() {
		return
	}
	other := now
	other.rows++
	if now.rows > 1 {
		other.rows = now.rows - 1
	}
	h.resize(other)
	select {
	case <-h.done:
	case <-time.After(redrawWait):
	}
	if h.size() == other { // nobody has come meanwhile
		h.resize(now)
	}
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
	if !h.shut() {
		return nil
	}
	close(h.done)
	h.master.SetDeadline(time.Unix(1, 0))
	<-h.read
	h.drain()
	for v := range h.parted() {
		v.end(status)
	}
	h.serving.Wait()
	return h.master.Close()
}

// Leave ends the relay for another hub, which goes on with the screen that is
// returned (Options.Screen): nothing that the program prints is lost between
// the two, or shown twice, and nothing that a viewer types. Viewers find that
// their connection has ended without a word, and connect again. nil when the
// hub was closed before.
func (h *Hub) Leave() ([]byte, error) {
	if !h.shut() {
		return nil, nil
	}
	close(h.done)
	h.master.SetWriteDeadline(time.Now().Add(flushWait)) // nobody may read it
	for v := range h.parted() {
		v.part()
	}
	h.serving.Wait()
	h.master.SetDeadline(time.Unix(1, 0))
	<-h.read
	return h.Screen(), h.master.Close()
}

// shut lets nobody in any more; false when that was so before.
func (h *Hub) shut() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	was := h.closed
	h.closed = true
	return !was
}

// parted takes the viewers off the hub, which shows them nothing any more.
func (h *Hub) parted() map[*viewer]struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	viewers := h.viewers
	h.viewers = map[*viewer]struct{}{}
	return viewers
}
