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
)

// scriptTalk runs a program on a terminal of 33 rows and 99 columns and talks
// to it: lines `send "..."` and `expect "..."` of a file, in turn. Then the
// program has to end, with the exit code that is given.
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
	screen := watchScreen(master)
	for line := range strings.Lines(ts.ReadFile(args[1])) {
		verb, quoted, _ := strings.Cut(strings.TrimSpace(line), " ")
		text, err := strconv.Unquote(quoted)
		ts.Check(err)
		if verb == "send" {
			_, err = master.WriteString(text)
			ts.Check(err)
		} else if !screen.expect(text) {
			ts.Fatalf("waited in vain for %q; the terminal shows\n%s", text, screen.rest())
		}
	}
	code := 0
	var exit *exec.ExitError
	if err := cmd.Wait(); errors.As(err, &exit) {
		code = exit.ExitCode()
	}
	select {
	case <-screen.ended:
	case <-time.After(patience):
		ts.Fatalf("something holds the terminal open")
	}
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("exit code %d, want %s; the terminal shows\n%s", code, args[0], screen.rest())
	}
}

// screen is what a terminal was sent and nobody has expected yet.
type screen struct {
	ended chan struct{} // closed when nobody has the terminal open any more

	mu    sync.Mutex // guards shown
	shown bytes.Buffer
}

func watchScreen(master *os.File) *screen {
	s := &screen{ended: make(chan struct{})}
	go func() {
		defer close(s.ended)
		buf := make([]byte, 4096)
		for {
			n, err := master.Read(buf)
			s.mu.Lock()
			s.shown.Write(buf[:n])
			s.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return s
}

// expect waits for text and takes all that was shown before it.
func (s *screen) expect(text string) bool {
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

func (s *screen) rest() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.shown.String()
}
