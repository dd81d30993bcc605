package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/creack/pty"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/wakepoint/wakepoint/internal/screen"
)

// scriptTalk runs a program on a terminal of 33 rows and 99 columns and talks
// to it: lines `send "..."`, `expect "..."` and `shows "..."` of a file, in
// turn; `runs "..."` runs a command of sh(1) beside it. Then the program has to end, with the exit code that is given. What is
// expected has to come after what was expected before; what shows stands on
// the screen in the end, and blanks at the ends of its lines are none.
func scriptTalk(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: talk CODE FILE CMD...")
	}
	path, err := exec.LookPath(args[2])
	ts.Check(err)
	cmd := exec.Command(path, args[3:]...)
	cmd.Dir = ts.Getenv("WORK")
	for _, name := range []string{"PATH", "HOME", "WAKEPOINT_STORE", "WAKEPOINT_KEY"} {
		cmd.Env = append(cmd.Env, name+"="+ts.Getenv(name))
	}
	cmd.Env = append(cmd.Env, "TERM=xterm")
	master, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 33, Cols: 99})
	ts.Check(err)
	defer master.Close()
	defer cmd.Process.Kill()
	shown := watchScreen(master)
	for line := range strings.Lines(ts.ReadFile(args[1])) {
		verb, quoted, _ := strings.Cut(strings.TrimSpace(line), " ")
		text, err := strconv.Unquote(quoted)
		ts.Check(err)
		switch verb {
		case "send":
			_, err = master.WriteString(text)
			ts.Check(err)
		case "expect":
			if !shown.expect(text) {
				ts.Fatalf("waited in vain for %q; the terminal was sent\n%s", text, shown.rest())
			}
		case "runs":
			beside := exec.Command("sh", "-c", text)
			beside.Dir, beside.Env = cmd.Dir, cmd.Env
			if out, err := beside.CombinedOutput(); err != nil {
				ts.Fatalf("%s: %v\n%s", text, err, out)
			}
		case "shows":
			if !shown.shows(text) {
				ts.Fatalf("waited in vain for %q; the terminal shows\n%s", text, shown.text())
			}
		default:
			ts.Fatalf("%s is no verb", verb)
		}
	}
	code := 0
	var exit *exec.ExitError
	if err := cmd.Wait(); errors.As(err, &exit) {
		code = exit.ExitCode()
	}
	select {
	case <-shown.ended:
	case <-time.After(patience):
		ts.Fatalf("something holds the terminal open")
	}
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("exit code %d, want %s; the terminal was sent\n%s", code, args[0], shown.rest())
	}
}

// watched is a terminal: what it was sent and nobody has expected yet, and
// its screen.
type watched struct {
	ended chan struct{} // closed when nobody has the terminal open any more

	mu     sync.Mutex // guards the rest
	shown  bytes.Buffer
	screen *screen.Screen
}

func watchScreen(master *os.File) *watched {
	s := &watched{ended: make(chan struct{}), screen: screen.New(screen.Size{Rows: 33, Cols: 99})}
	go func() {
		defer close(s.ended)
		buf := make([]byte, 4096)
		for {
			n, err := master.Read(buf)
			s.mu.Lock()
			s.shown.Write(buf[:n])
			s.screen.Write(buf[:n])
			s.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return s
}

// expect waits for text and takes all that was shown before it.
func (s *watched) expect(text string) bool {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		s.mu.Lock()
		i := bytes.Index(s.shown.Bytes(), []byte(text))
		if i >= 0 {
			s.shown.Next(i + len(text))
		}
		s.mu.Unlock()
		if i >= 0 {
			return true
		}
	}
	return false
}

// shows waits until text stands on the screen.
func (s *watched) shows(text string) bool {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if strings.Contains(s.text(), text) {
			return true
		}
	}
	return false
}

// text is the screen.
func (s *watched) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.screen.String()
}

func (s *watched) rest() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.shown.String()
}
