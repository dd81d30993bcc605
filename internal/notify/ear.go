package notify

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	datagramMax = 4096 // bytes; what is longer is ignored
	secondMax   = 200  // datagrams that are read in a second
	pathMax     = 107  // of a socket's address (unix(7))
	settleMax   = 100  // times that is looked whether all was heard, a millisecond apart
	nameMax     = 32   // bytes of a workload's name in a path
)

// Runtime is where root's sockets are; a boot empties it.
const Runtime = "/run/wakepoint"

// Name makes the name by which a workload's socket is known for ever, whatever
// keeper binds it: from the workload's name, for people, and from what no
// other workload shares.
func Name(workload, unique string) string {
	sum := sha256.Sum256([]byte(workload + "\x00" + unique))
	return fmt.Sprintf("%s-%x", workload[:min(len(workload), nameMax)], sum[:4])
}

// Path is where the socket of that name lies: in Runtime for root, else in
// $XDG_RUNTIME_DIR, or in dir, which is the workload's. "" where none can be.
func Path(name, dir string) string {
	if name == "" || name != filepath.Base(name) || strings.HasPrefix(name, ".") {
		return ""
	}
	path := filepath.Join(Runtime, name+".notify")
	if os.Geteuid() != 0 {
		path = filepath.Join(dir, "notify.sock")
		if run := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(run) {
			path = filepath.Join(run, "wakepoint", name+".notify")
		}
	}
	if len(path) > pathMax {
		return ""
	}
	return path
}

// Together says whether two processes are in one PID namespace.
func Together(a, b int) bool {
	space := func(pid int) string {
		to, _ := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", pid))
		return to
	}
	return space(a) != "" && space(a) == space(b)
}

// Environ is a command's environment with the socket at path, and how long it
// may be silent; 0 is not said. An address that it was to inherit is another
// supervisor's, and gives way.
func Environ(env []string, path string, limit time.Duration) []string {
	env = slices.DeleteFunc(slices.Clone(env), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return slices.Contains([]string{"NOTIFY_SOCKET", "WAKEPOINT_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"}, name)
	})
	env = append(env, "NOTIFY_SOCKET="+path, "WAKEPOINT_SOCKET="+path)
	if limit > 0 {
		env = append(env, "WATCHDOG_USEC="+strconv.FormatInt(limit.Microseconds(), 10))
	}
	return env
}

// Ear listens to a program.
type Ear struct {
	path  string
	keeps Pocket // nil: nothing is kept for who listens next
	goes  bool   // on with the socket of the one before
	conn  *net.UnixConn
	log   *slog.Logger
	heard chan struct{} // has one when there is something to take
	ended chan struct{}

	mu      sync.Mutex // guards what follows
	ours    func(pid int) bool
	changed *sync.Cond // of ours and over
	over    bool
	words   Words
	said    Words           // of what was said since Of, what lasts
	left    Words           // what nobody has taken, when nobody's words count
	named   map[string]bool // what was complained of already
}

// Listen binds the socket at path, in the place of one that nobody listens on
// any more. Everybody may send to it; nothing is read before Of says who
// counts.
func Listen(path string, log *slog.Logger) (*Ear, error) {
	var conn *net.UnixConn
	var err error
	for range 3 { // the directory goes with the last socket in it
		if conn, err = bind(path); !errors.Is(err, os.ErrNotExist) {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("listen to the program: %w", err)
	}
	return listenOn(conn, path, log), nil
}

func listenOn(conn *net.UnixConn, path string, log *slog.Logger) *Ear {
	e := &Ear{path: path, conn: conn, log: log, heard: make(chan struct{}, 1), ended: make(chan struct{}), named: map[string]bool{}}
	e.changed = sync.NewCond(&e.mu)
	go e.listen()
	return e
}

func bind(path string) (*net.UnixConn, error) {
	dir := filepath.Dir(path)
	if err := os.Mkdir(dir, 0o755); err == nil {
		if err := os.Chmod(dir, 0o755); err != nil { // whatever the umask is
			return nil, err
		}
	} else if !errors.Is(err, os.ErrExist) {
		return nil, err
	}
	if st, err := os.Lstat(path); err == nil {
		if st.Mode().Type() != os.ModeSocket {
			return nil, fmt.Errorf("%s is something else", path)
		}
		if c, err := net.Dial("unixgram", path); err == nil {
			c.Close()
			return nil, fmt.Errorf("%s: %w", path, syscall.EADDRINUSE)
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
	}
	// Before it has a name: each datagram says who sent it (SO_PASSCRED, unix(7)).
	passes := func(_, _ string, c syscall.RawConn) error {
		var serr error
		err := c.Control(func(fd uintptr) { serr = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_PASSCRED, 1) })
		return errors.Join(err, serr)
	}
	c := net.ListenConfig{Control: passes}
	conn, err := c.ListenPacket(context.Background(), "unixgram", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o666); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn.(*net.UnixConn), nil
}

// Path is the socket's.
func (e *Ear) Path() string { return e.path }

// Heard has something when there is something to take.
func (e *Ear) Heard() <-chan struct{} { return e.heard }

// Take returns what was said since the last time.
func (e *Ear) Take() Words {
	e.mu.Lock()
	defer e.mu.Unlock()
	w := e.words
	e.words = Words{}
	return w
}

// Settle waits, for a moment at most, until what was said so far was heard.
func (e *Ear) Settle() {
	raw, err := e.conn.SyscallConn()
	if err != nil {
		return
	}
	for range settleMax {
		empty := true
		err := raw.Control(func(fd uintptr) {
			_, _, err := syscall.Recvfrom(int(fd), nil, syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
			empty = err != nil
		})
		time.Sleep(time.Millisecond)
		if err != nil || empty {
			return
		}
	}
}

// Of says whose words count: those of processes for which ours says so. nil:
// nobody's, and what is said waits. again: the one before has listened to the
// same processes, and if it was on this socket, what they said to it and lasts is
// said again.
func (e *Ear) Of(ours func(pid int) bool, again bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var said Words
	if again && e.goes {
		said = e.noted()
	}
	e.begin(ours, said)
}

// begin has what is heard begin with said; mu is held.
func (e *Ear) begin(ours func(pid int) bool, said Words) {
	defer e.changed.Broadcast()
	if e.ours != nil {
		e.left = e.words
	}
	if e.ours, e.words = ours, (Words{}); ours == nil {
		return // who listens next may listen to the same ones
	}
	e.left, e.words, e.said = Words{}, said, said.lasting()
	if said.Well {
		e.words.At = time.Now()
	}
	e.note(e.said)
	if said != (Words{}) {
		e.nudge()
	}
}

// Close stops listening. gone says that the program will not be back: its
// socket is removed, and the directory with the last one.
func (e *Ear) Close(gone bool) error {
	e.mu.Lock()
	e.over = true
	e.changed.Broadcast()
	e.mu.Unlock()
	err := e.conn.Close()
	<-e.ended
	e.mu.Lock()
	if e.ours != nil {
		e.left = e.words
	}
	if e.left != (Words{}) {
		e.note(e.said.Then(e.left))
	}
	e.mu.Unlock()
	if gone {
		Remove(e.path)
	}
	return err
}

// linkName is a link in a workload's directory to its socket, by which that is
// found when nothing else of the workload can be read.
const linkName = "notify"

// Link notes in dir, a workload's directory, where its socket lies.
func Link(dir, path string) error {
	link := filepath.Join(dir, linkName)
	if to, err := os.Readlink(link); err == nil && to == path {
		return nil
	}
	if err := os.Remove(link); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return os.Symlink(path, link)
}

// Forget removes the socket of the workload in dir, which nobody will listen
// on any more. A link to what is none of ours leads nowhere.
func Forget(dir string) {
	to, err := os.Readlink(filepath.Join(dir, linkName))
	name, ours := strings.CutSuffix(filepath.Base(to), ".notify")
	if err == nil && ours && Path(name, dir) == to {
		Remove(to)
	}
}

// Remove removes a socket that nobody will listen on any more.
func Remove(path string) {
	if st, err := os.Lstat(path); err == nil && st.Mode().Type() == os.ModeSocket {
		_ = os.Remove(path)
		_ = os.Remove(filepath.Dir(path)) // unless there are others
	}
}

// listen reads until the socket is closed, a bounded number of datagrams a
// second.
func (e *Ear) listen() {
	defer close(e.ended)
	data := make([]byte, datagramMax+1)
	// Room for the sender alone: descriptors that come along are closed by the
	// kernel.
	control := make([]byte, syscall.CmsgSpace(syscall.SizeofUcred))
	second, read := time.Now(), 0
	for {
		if !e.readable() {
			return
		}
		ours := e.who() // until then what is said waits, also for who listens next
		if ours == nil {
			return
		}
		n, c, flags, _, err := e.conn.ReadMsgUnix(data, control)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		now := time.Now()
		if now.Sub(second) >= time.Second {
			second, read = now, 0
		}
		var w Words
		if read++; read >= secondMax {
			e.complain("more is said than is listened to", 0)
			time.Sleep(time.Until(second.Add(time.Second)))
			w.Deaf = time.Now()
		}
		pid := sender(control[:c])
		switch {
		case err != nil:
			e.complain(err.Error(), pid)
		case pid == 0 || !ours(pid):
			if syscall.Kill(pid, 0) != syscall.ESRCH {
				e.complain("who speaks is not of the workload", pid)
			}
		case n > datagramMax || flags&syscall.MSG_TRUNC != 0:
			e.complain("too much at once", pid)
		default:
			said := Parse(data[:n])
			if said.Well {
				said.At = time.Now()
			}
			w = w.Then(said)
		}
		e.hear(w)
	}
}

// readable waits until there is something to read, and leaves it where it is;
// false when the socket is closed.
func (e *Ear) readable() bool {
	raw, err := e.conn.SyscallConn()
	if err != nil {
		return false
	}
	return raw.Read(func(fd uintptr) bool {
		_, _, err := syscall.Recvfrom(int(fd), nil, syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		return err != syscall.EAGAIN
	}) == nil
}

// who waits until somebody's words count; nil when it is over.
func (e *Ear) who() func(int) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	for e.ours == nil && !e.over {
		e.changed.Wait()
	}
	if e.over {
		return nil
	}
	return e.ours
}

func (e *Ear) hear(w Words) {
	if w == (Words{}) {
		return
	}
	e.mu.Lock()
	if e.ours == nil {
		e.left = e.left.Then(w)
	} else {
		e.words = e.words.Then(w)
	}
	if said := e.said.Then(w.lasting()); said != e.said {
		e.said = said
		e.note(said)
	}
	e.mu.Unlock()
	e.nudge()
}

func (e *Ear) nudge() {
	select {
	case e.heard <- struct{}{}:
	default:
	}
}

// complain says once what is ignored.
func (e *Ear) complain(what string, pid int) {
	if !e.named[what] {
		e.named[what] = true
		e.log.Warn("notify socket: ignored", "why", what, "pid", pid)
	}
}

// sender is who sent a datagram, as the kernel says (SCM_CREDENTIALS); 0 when
// it does not.
func sender(control []byte) int {
	list, err := syscall.ParseSocketControlMessage(control)
	if err != nil {
		return 0
	}
	for i := range list {
		if cred, err := syscall.ParseUnixCredentials(&list[i]); err == nil {
			return int(cred.Pid)
		}
	}
	return 0
}
