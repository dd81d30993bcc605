package terminal

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/wakepoint/wakepoint/internal/screen"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// socketPair returns two ends of a UNIX stream.
func socketPair(t *testing.T) (net.Conn, net.Conn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "pair")
		if ends[i], err = net.FileConn(f); err != nil {
			t.Fatal(err)
		}
		f.Close()
		t.Cleanup(func() { ends[i].Close() })
	}
	return ends[0], ends[1]
}

// openPTY returns a pty with the slave in raw mode.
func openPTY(t testing.TB) (master, slave *os.File) {
	t.Helper()
	master, slave, err := pty.Open()
	if err != nil {
		t.Skipf("no pty: %v", err)
	}
	if _, err := term.MakeRaw(int(slave.Fd())); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close(); slave.Close() })
	return master, slave
}

func newHub(t *testing.T, master *os.File, o Options) *Hub {
	t.Helper()
	h, err := NewHub(master, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

// join connects a viewer to h and says hello; served gets what Serve returns.
func join(t *testing.T, h *Hub, hi hello) (conn net.Conn, served chan error) {
	t.Helper()
	near, far := socketPair(t)
	served = make(chan error, 1)
	go func() { served <- h.Serve(far) }()
	if _, err := near.Write(appendFrame(nil, kindHello, hi.encode())); err != nil {
		t.Fatal(err)
	}
	near.SetReadDeadline(time.Now().Add(20 * time.Second))
	return near, served
}

// readShown reads data frames until want was shown.
func readShown(t *testing.T, conn net.Conn, want string) {
	t.Helper()
	var got []byte
	for !strings.Contains(string(got), want) {
		kind, p, err := readFrame(conn, nil)
		if err != nil || kind != kindData {
			t.Fatalf("kind %d, %v; shown so far %q, want %q", kind, err, got, want)
		}
		got = append(got, p...)
	}
}

func TestHubRelaysBothWays(t *testing.T) {
	master, slave := openPTY(t)
	h := newHub(t, master, Options{})
	fmt.Fprint(slave, "before anybody came\n")
	one, _ := join(t, h, hello{size: size{24, 80}})
	two, _ := join(t, h, hello{readOnly: true, size: size{10, 30}})
	readShown(t, one, "before anybody came")
	readShown(t, two, "before anybody came")
	fmt.Fprint(slave, "for both")
	readShown(t, one, "for both")
	readShown(t, two, "for both")

	two.Write(appendFrame(nil, kindData, []byte("not for you")))
	two.Write(appendFrame(nil, kindResize, size{11, 11}.encode()))
	one.Write(appendFrame(nil, kindData, []byte("typed")))
	buf := make([]byte, 100)
	n, err := slave.Read(buf)
	if err != nil || string(buf[:n]) != "typed" {
		t.Fatalf("the program read %q, %v", buf[:n], err)
	}
	if got := h.size(); got != (size{24, 80}) {
		t.Errorf("size %v, want the first viewer's", got)
	}
	one.Write(appendFrame(nil, kindResize, size{0, 0}.encode()))
	one.Write(appendFrame(nil, kindResize, size{50, 0}.encode()))
	one.Write(appendFrame(nil, kindResize, size{30, 90}.encode()))
	waitFor(t, func() bool { return h.size() == size{30, 90} })
}

func waitFor(t *testing.T, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("waited for 20 s in vain")
		}
	}
}

func TestHubDetachAndEnd(t *testing.T) {
	master, slave := openPTY(t)
	h := newHub(t, master, Options{})
	leaves, left := join(t, h, hello{})
	stays, served := join(t, h, hello{})
	readShown(t, stays, "\x1b[2J")
	leaves.Write(appendFrame(nil, kindDetach, nil))
	if err := <-left; err != nil {
		t.Errorf("a viewer that detached: %v", err)
	}
	fmt.Fprint(slave, "last words")
	if err := h.End(7 << 8); err != nil {
		t.Fatal(err)
	}
	readShown(t, stays, "last words")
	kind, p, err := readFrame(stays, nil)
	if kind != kindEnd || !bytes.Equal(p, []byte{0, 0, 7, 0}) || err != nil {
		t.Errorf("kind %d, payload %x, %v; want the wait status", kind, p, err)
	}
	if err := <-served; err != nil {
		t.Errorf("a viewer that saw the end: %v", err)
	}
	_, far := socketPair(t)
	late, lateFar := socketPair(t)
	late.Write(appendFrame(nil, kindHello, hello{}.encode()))
	if err := h.Serve(lateFar); err != ErrClosed {
		t.Errorf("a viewer after the end: %v", err)
	}
	far.Close()
	if err := h.Close(); err != nil {
		t.Errorf("the second close: %v", err)
	}
}

func TestHubLetsSlowViewersGo(t *testing.T) {
	master, slave := openPTY(t)
	h := newHub(t, master, Options{QueueBytes: 64 << 10})
	_, served := join(t, h, hello{})
	line := bytes.Repeat([]byte("0123456789abcd\r\n"), 256)
	stop := make(chan struct{})
	var written atomic.Int64
	go func() {
		defer close(stop)
		for range 1024 { // 4 MiB: more than a socket and the queue take
			n, err := slave.Write(line)
			if written.Add(int64(n)); err != nil {
				return
			}
		}
	}()
	select {
	case <-stop:
	case <-time.After(30 * time.Second):
		t.Fatal("the program waits for its viewer")
	}
	if err := <-served; err == nil || !strings.Contains(err.Error(), errSlow.Error()) {
		t.Errorf("the slow viewer: %v", err)
	}
	late, _ := join(t, h, hello{})
	kind, p, err := readFrame(late, nil)
	if n := bytes.Count(p, []byte("0123456789abcd")); kind != kindData || n < 22 || n > 24 || err != nil {
		t.Errorf("kind %d, %d lines of the past, %v", kind, n, err)
	}
}

func TestHubRefusesStrangers(t *testing.T) {
	master, _ := openPTY(t)
	h := newHub(t, master, Options{})
	for name, said := range map[string][]byte{
		"http":            []byte("GET / HTTP/1.1\r\n\r\n"),
		"data first":      appendFrame(nil, kindData, []byte("x")),
		"another version": appendFrame(nil, kindHello, []byte{2, 0, 0, 0, 0, 0}),
		"two hellos":      appendFrame(appendFrame(nil, kindHello, hello{}.encode()), kindHello, hello{}.encode()),
		"end from viewer": appendFrame(appendFrame(nil, kindHello, hello{}.encode()), kindEnd, nil),
	} {
		near, far := socketPair(t)
		served := make(chan error, 1)
		go func() { served <- h.Serve(far) }()
		near.Write(said)
		if err := <-served; err == nil {
			t.Errorf("%s: was served", name)
		}
	}
}

func TestHubWaitsForTheTerminalToBeOpened(t *testing.T) {
	master, slave := openPTY(t)
	name := slave.Name()
	h := newHub(t, master, Options{})
	one, _ := join(t, h, hello{})
	fmt.Fprint(slave, "first")
	readShown(t, one, "first")
	slave.Close()
	time.Sleep(10 * time.Millisecond)
	again, err := os.OpenFile(name, os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	fmt.Fprint(again, "second")
	readShown(t, one, "second")
}

// winch starts a program that prints its size whenever it is told that it has
// changed.
func winch(t *testing.T, slave *os.File) {
	t.Helper()
	cmd := exec.Command("sh", "-c", `trap 'stty size' WINCH; echo ready; while :; do read x; done`)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
}

func setSize(t *testing.T, f *os.File, rows, cols uint16) {
	t.Helper()
	if err := unix.IoctlSetWinsize(int(f.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: cols}); err != nil {
		t.Fatal(err)
	}
}

// TestStale: where it is not known what the program has printed, it is made
// to draw itself again, though nobody looks and the size is as before.
func TestStale(t *testing.T) {
	master, slave := openPTY(t)
	setSize(t, master, 24, 80)
	winch(t, slave)
	if ready := make([]byte, 6); func() bool { _, err := io.ReadFull(master, ready); return err != nil }() {
		t.Fatal("the program does not begin")
	}
	h := newHub(t, master, Options{Stale: true})
	one, _ := join(t, h, hello{readOnly: true})
	readShown(t, one, "24 80")
}

// shownScreen feeds what a viewer is shown to a screen until it shows want.
func shownScreen(t *testing.T, conn net.Conn, s *screen.Screen, want string) {
	t.Helper()
	for !strings.Contains(s.String(), want) {
		kind, p, err := readFrame(conn, nil)
		if err != nil || kind != kindData {
			t.Fatalf("kind %d, %v; the screen is\n%s\nwant %q", kind, err, s, want)
		}
		s.Write(p)
	}
}

// TestScreenGoesOn: the next hub begins with the screen of the one before,
// with what was printed just before it was asked, and so does its viewer.
func TestScreenGoesOn(t *testing.T) {
	master, slave := openPTY(t)
	setSize(t, master, 10, 40)
	h := newHub(t, master, Options{})
	fmt.Fprint(slave, "shell\r\n\x1b[?1049h\x1b[3;5H\x1b[1;31mfull screen\x1b[?25l")
	kept := bytes.Clone(h.Screen())
	h.Close()

	other, otherSlave := openPTY(t)
	setSize(t, other, 10, 40)
	next := newHub(t, other, Options{Screen: kept})
	if !bytes.Equal(next.Screen(), kept) {
		t.Errorf("the next hub has\n%q, not\n%q", next.Screen(), kept)
	}
	one, _ := join(t, next, hello{size: size{10, 40}})
	s := screen.New(screen.Size{Rows: 10, Cols: 40})
	s.Write([]byte("what stood there before"))
	shownScreen(t, one, s, "\n\n    full screen")
	fmt.Fprint(otherSlave, " goes on\x1b[?1049l")
	shownScreen(t, one, s, "shell")
	if s.String() != "shell" {
		t.Errorf("below it is %q", s)
	}

	damaged, _ := openPTY(t)
	if got := newHub(t, damaged, Options{Screen: kept[1:]}).Screen(); !bytes.Equal(got, newHub(t, damaged, Options{}).Screen()) {
		t.Errorf("of a damaged screen comes %q", got)
	}
}

// TestDrained: what a program that stands still has printed is on the screen,
// however much it was; nothing is shown twice or in another order.
func TestDrained(t *testing.T) {
	master, slave := openPTY(t)
	setSize(t, master, 24, 80)
	h := newHub(t, master, Options{})
	for i := range 300 {
		fmt.Fprintf(slave, "\x1b[H\x1b[2J%s\r\nlast %d", strings.Repeat("x", i), i)
		s, err := screen.Decode(h.Screen())
		if err != nil {
			t.Fatal(err)
		}
		if got := s.String(); !strings.HasSuffix(got, fmt.Sprintf("last %d", i)) || strings.Count(got, "x") != i {
			t.Fatalf("after %d: %q", i, got)
		}
	}
}

// TestProgramsOwnSize: a program may change the size of its terminal itself,
// and 0x0 is no size.
func TestProgramsOwnSize(t *testing.T) {
	master, slave := openPTY(t)
	h := newHub(t, master, Options{}) // of 0x0
	setSize(t, slave, 5, 12)
	fmt.Fprint(slave, "0123456789abcdef")
	if s, err := screen.Decode(h.Screen()); err != nil || s.Size() != (screen.Size{Rows: 5, Cols: 12}) || s.String() != "0123456789ab\ncdef" {
		t.Errorf("%v of %v, %v", s, s.Size(), err)
	}
	setSize(t, slave, 0, 0)
	one, _ := join(t, h, hello{})
	readShown(t, one, "0123456789ab")
}

func TestAttachOverAPTY(t *testing.T) {
	master, slave := openPTY(t)
	h := newHub(t, master, Options{})
	person, screen, err := pty.Open() // screen is what Attach is given
	if err != nil {
		t.Skip(err)
	}
	defer person.Close()
	defer screen.Close()
	pty.Setsize(person, &pty.Winsize{Rows: 33, Cols: 99})
	before, err := unix.IoctlGetTermios(int(screen.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	near, far := socketPair(t)
	go h.Serve(far)
	type result struct {
		o   Outcome
		err error
	}
	done := make(chan result, 1)
	go func() {
		o, err := Attach(near, screen, screen, AttachOptions{})
		done <- result{o, err}
	}()
	waitFor(t, func() bool { return h.size() == size{33, 99} })
	fmt.Fprint(slave, "\x1b[?1049hhello")
	readUntil(t, person, "\x1b[?1049hhello")
	fmt.Fprint(person, "\x03\x1a")
	typed := make([]byte, 2)
	if _, err := io.ReadFull(slave, typed); err != nil || string(typed) != "\x03\x1a" {
		t.Fatalf("typed %q, %v", typed, err)
	}
	pty.Setsize(person, &pty.Winsize{Rows: 40, Cols: 100})
	unix.Kill(os.Getpid(), unix.SIGWINCH) // the test has no controlling terminal
	waitFor(t, func() bool { return h.size() == size{40, 100} })

	fmt.Fprint(person, "\x1cd")
	r := <-done
	if r.err != nil || !r.o.Detached || r.o.Ended {
		t.Fatalf("%+v, %v", r.o, r.err)
	}
	after, err := unix.IoctlGetTermios(int(screen.Fd()), unix.TCGETS)
	if err != nil || *after != *before {
		t.Errorf("terminal left as %+v, was %+v (%v)", after, before, err)
	}
	readUntil(t, person, "\x1b[?1049l\x1b[40;1H\r\n")
}

// readUntil reads a file byte by byte until want has come.
func readUntil(t *testing.T, f *os.File, want string) {
	t.Helper()
	var got []byte
	for b := make([]byte, 1); !bytes.HasSuffix(got, []byte(want)); got = append(got, b[0]) {
		if _, err := io.ReadFull(f, b); err != nil {
			t.Fatalf("shown %q, %v; want %q", got, err, want)
		}
	}
}

func TestAttachOutcomes(t *testing.T) {
	t.Run("end", func(t *testing.T) {
		o, err := attachWith(t, func(h *Hub, slave *os.File, far net.Conn) { h.End(9) })
		if err != nil || o != (Outcome{Ended: true, Known: true, Wait: 9}) {
			t.Errorf("%+v, %v", o, err)
		}
	})
	t.Run("close", func(t *testing.T) {
		o, err := attachWith(t, func(h *Hub, slave *os.File, far net.Conn) { h.Close() })
		if err != nil || o != (Outcome{Ended: true}) {
			t.Errorf("%+v, %v", o, err)
		}
	})
	t.Run("signal", func(t *testing.T) {
		o, err := attachWith(t, func(h *Hub, slave *os.File, far net.Conn) { unix.Kill(os.Getpid(), unix.SIGTERM) })
		if err != nil || o != (Outcome{Detached: true}) {
			t.Errorf("%+v, %v", o, err)
		}
	})
	t.Run("lost", func(t *testing.T) {
		_, err := attachWith(t, func(h *Hub, slave *os.File, far net.Conn) { far.Close() })
		if err == nil || !strings.Contains(err.Error(), ErrLost.Error()) {
			t.Errorf("%v", err)
		}
	})
}

// attachWith attaches with /dev/null for a person, waits until the first
// output was shown, and lets do happen.
func attachWith(t *testing.T, do func(h *Hub, slave *os.File, far net.Conn)) (Outcome, error) {
	master, slave := openPTY(t)
	h := newHub(t, master, Options{})
	in, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	shown, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer shown.Close()
	defer out.Close()
	near, far := socketPair(t)
	served := make(chan struct{})
	go func() { defer close(served); h.Serve(far) }()
	go func() {
		fmt.Fprint(slave, "hello")
		readUntil(t, shown, "hello")
		do(h, slave, far)
	}()
	o, err := Attach(near, in, out, AttachOptions{ReadOnly: true})
	<-served
	return o, err
}
