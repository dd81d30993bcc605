//go:build linux

package programs

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/creack/pty"
)

// screenSize is the same for every viewer, so that no restored program has to
// draw itself anew.
var screenSize = pty.Winsize{Rows: 24, Cols: 80}

// screen is a viewer at a terminal: a front end of wakepoint, or in a plain
// run the program itself.
type screen struct {
	cmd    *exec.Cmd
	master *os.File
	mu     sync.Mutex // guards text
	text   []byte
	over   chan struct{}
}

func openScreen(cmd *exec.Cmd) (*screen, error) {
	master, err := pty.StartWithSize(cmd, &screenSize)
	if err != nil {
		return nil, err
	}
	s := &screen{cmd: cmd, master: master, over: make(chan struct{})}
	go s.read()
	return s, nil
}

func (s *screen) read() {
	defer close(s.over)
	b := make([]byte, 4096)
	for {
		n, err := s.master.Read(b)
		s.mu.Lock()
		s.text = append(s.text, b[:n]...)
		s.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// mark is the present end of what was shown.
func (s *screen) mark() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.text)
}

func (s *screen) since(mark int) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return string(s.text[mark:])
}

func (s *screen) send(keys string) error {
	_, err := s.master.WriteString(keys)
	return err
}

// escapes are the control sequences of a terminal.
var escapes = regexp.MustCompile(`\x1b(\[[0-9;?>]*[ -/]*[@-~]|[()][A-Za-z0-9]|[=>78cDEHM])`)

// expect waits until what is shown after mark, without control sequences,
// matches.
func (s *screen) expect(mark int, pattern *regexp.Regexp) error {
	deadline := time.Now().Add(patience / 3)
	for {
		shown := escapes.ReplaceAllString(s.since(mark), "")
		if pattern.MatchString(shown) {
			return nil
		}
		select {
		case <-s.over:
			return fmt.Errorf("the terminal closed before it showed %s: %.300q", pattern, shown)
		default:
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the terminal does not show %s: %.300q", pattern, shown)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// close hangs up: the program lives on behind it.
func (s *screen) close() {
	s.cmd.Process.Kill()
	s.master.Close()
	s.cmd.Wait()
	<-s.over
}

// console gives a rig's program a terminal, and viewers to it one after the other.
type console struct {
	r    *rig
	view *screen
}

// start runs the program with a terminal, protected, in front.
func (c *console) start(options, argv []string) {
	c.r.t.Helper()
	c.r.env = append(c.r.env, "TERM=xterm", "HOME="+c.r.dir, "LC_ALL=C.UTF-8")
	var cmd *exec.Cmd
	if session.plain {
		inside := []string{"--pid", "--ipc", "--fork", "--mount-proc", "--kill-child", "--", "sh", "-c", `"$@"; exit $?`, "sh"}
		cmd = exec.Command("unshare", append(inside, argv...)...)
		cmd.Env, cmd.Dir = c.r.env, c.r.dir
		c.r.plain = cmd
	} else {
		args := append([]string{"run", "-t", "--name", c.r.name}, options...)
		cmd = c.r.command(append(append(args, "--"), argv...)...)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	var err error
	if c.view, err = openScreen(cmd); err != nil {
		c.r.t.Fatal(err)
	}
	c.r.waitRunning()
	c.r.waitGeneration()
}

// waitGeneration waits until something is committed.
func (r *rig) waitGeneration() {
	r.t.Helper()
	if session.plain {
		return
	}
	eventually(r.t, patience, "the first generation", func() error {
		w, err := r.row()
		if err == nil && w.Generation == 0 {
			err = fmt.Errorf("none yet")
		}
		return err
	})
}

// attach replaces the viewer by a new one.
func (c *console) attach() error {
	if session.plain {
		return nil
	}
	c.detach()
	view, err := openScreen(c.r.command("attach", c.r.name))
	c.view = view
	return err
}

// detach hangs up.
func (c *console) detach() {
	if c.view != nil && !session.plain {
		c.view.close()
		c.view = nil
	}
}

func (c *console) close() {
	if c.view != nil {
		c.view.close()
		c.view = nil
	}
}

// vim types numbered lines into an editor; the state is its buffer, which is
// on no disk.
type vim struct {
	console
	position, typed uint64
	writes          int
}

func (v *vim) step() (uint64, error) {
	n := v.position + 1
	v.typed = n
	mark := v.view.mark()
	if err := v.view.send(fmt.Sprintf("Goline %06d\x1b", n)); err != nil {
		return 0, err
	}
	if err := v.view.expect(mark, regexp.MustCompile(fmt.Sprintf("%06d", n))); err != nil {
		return 0, err
	}
	v.position = n
	return n, nil
}

func (v *vim) sent() uint64 { return anywhere }

// check has the buffer written to a file. The last line may be one that was
// being typed: it is deleted.
func (v *vim) check() (uint64, error) {
	if err := v.attach(); err != nil {
		return 0, err
	}
	v.writes++
	out := filepath.Join(v.r.top, fmt.Sprintf("buffer-%d", v.writes))
	mark := v.view.mark()
	if err := v.view.send("\x1b\x1b:w! " + out + "\r"); err != nil {
		return 0, err
	}
	if err := v.view.expect(mark, regexp.MustCompile(`written`)); err != nil {
		return 0, err
	}
	text, err := os.ReadFile(out)
	if err != nil {
		return 0, err
	}
	lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	for n, line := range lines[1:] {
		want := fmt.Sprintf("line %06d", n+1)
		if line == want {
			continue
		}
		if n+2 != len(lines) || !strings.HasPrefix(want, line) {
			return 0, fmt.Errorf("line %d is %q, of %d", n+2, line, len(lines))
		}
		lines = lines[:n+1]
		if err := v.view.send("Gdd"); err != nil {
			return 0, err
		}
		break
	}
	n := uint64(len(lines) - 1)
	if v.typed != 0 && n > v.typed {
		return 0, fmt.Errorf("%d lines, though only %d were typed", n, v.typed)
	}
	v.position = n
	return n, nil
}

func (v *vim) rest() error {
	v.detach()
	time.Sleep(time.Second)
	return nil
}
