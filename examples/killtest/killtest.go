// Package killtest runs the examples as their users do, and kills them.
package killtest

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// Rounds is how often a server is killed in a test.
const Rounds = 5

// A Server is an example's program, which is started and killed.
type Server struct {
	t       testing.TB
	program string
	dir     string
	args    []string
	addr    string
	cmd     *exec.Cmd
	rand    *rand.Rand
}

// linesMax is how long an example may be, with all that is in it.
const linesMax = 59

// Build builds the program in the present directory, which must be short.
func Build(t testing.TB, args ...string) *Server {
	t.Helper()
	text, err := os.ReadFile("main.go")
	if n := bytes.Count(text, []byte("\n")); err != nil || n > linesMax {
		t.Errorf("main.go has %d lines, at most %d: %v", n, linesMax, err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	s := &Server{t: t, program: filepath.Join(t.TempDir(), "program"), dir: t.TempDir(), addr: addr,
		args: append([]string{"-listen", addr}, args...), rand: rand.New(rand.NewPCG(1, 1))}
	if out, err := exec.Command("go", "build", "-o", s.program, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Cleanup(s.end)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return s
}

// Start starts the server where it has been before, and waits until it answers.
// One that runs is killed.
func (s *Server) Start() {
	s.t.Helper()
	s.end()
	s.cmd = exec.Command(s.program, s.args...)
	s.cmd.Dir, s.cmd.Stderr = s.dir, os.Stderr
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		c, err := net.Dial("tcp", s.addr)
		if err == nil {
			c.Close()
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("the server does not answer: %v", err)
		}
	}
}

func (s *Server) end() {
	if s.cmd != nil {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
		s.cmd = nil
	}
}

// KillAmid starts the server, has clients call it, each again and again until it
// says that the server is gone, and kills it in between, with SIGKILL.
func (s *Server) KillAmid(clients int, client func(n int) (gone bool)) {
	s.t.Helper()
	s.Start()
	var wg sync.WaitGroup
	for n := range clients {
		wg.Go(func() {
			for !client(n) {
			}
		})
	}
	time.Sleep(20*time.Millisecond + time.Duration(s.rand.IntN(200))*time.Millisecond)
	s.end()
	wg.Wait()
}

// Do sends a request, and returns what was answered; an error means that there
// was no answer, so that nobody knows what was done.
func (s *Server) Do(method, path, body string) (status int, answer string, err error) {
	r, err := http.NewRequest(method, "http://"+s.addr+path, strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode >= http.StatusInternalServerError {
		err = fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, b)
		s.t.Error(err)
	}
	return resp.StatusCode, string(b), err
}
