package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	linesMax = 149 // of server and client together
	rounds   = 12  // in which somebody is killed
)

// program is a server or a client that is killed and started again.
type program struct {
	t    *testing.T
	path string
	dir  string
	args []string
	cmd  *exec.Cmd
	in   io.WriteCloser

	mu   sync.Mutex
	life int
	said []string // what it has printed in this life: all that was ever said
	errs *os.File // and to stderr
}

func (p *program) start() {
	p.mu.Lock()
	p.life++
	life := p.life
	p.said = nil
	p.mu.Unlock()
	p.cmd = exec.Command(p.path, p.args...)
	p.cmd.Dir, p.cmd.Stderr = p.dir, p.errs
	out, err := p.cmd.StdoutPipe()
	if err == nil {
		p.in, err = p.cmd.StdinPipe()
	}
	if err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		p.t.Fatal(err)
	}
	go func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			p.mu.Lock()
			if p.life == life {
				p.said = append(p.said, lines.Text())
			}
			p.mu.Unlock()
		}
	}()
}

func (p *program) kill() {
	if err := p.cmd.Process.Kill(); err != nil {
		p.t.Errorf("%q has ended: %v\n%s", p.args, err, p.complaints())
	}
	_ = p.cmd.Wait() // it was killed
}

// complaints are what it has printed to stderr.
func (p *program) complaints() string {
	text, err := os.ReadFile(p.errs.Name())
	if err != nil {
		p.t.Error(err)
	}
	return string(text)
}

// has says whether a line was printed, and how often.
func (p *program) has(line string) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.said {
		if l == line {
			n++
		}
	}
	return n
}

// wait waits until a line was printed.
func (p *program) wait(line string) {
	p.t.Helper()
	for deadline := time.Now().Add(time.Minute); p.has(line) == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			p.t.Fatalf("%q does not come; there is %q", line, p.said)
		}
	}
}

// TestKilled: whoever is killed, whenever, all that was said stands before everybody,
// once, and nobody logs in again.
func TestKilled(t *testing.T) {
	text, err := os.ReadFile("main.go")
	if n := bytes.Count(text, []byte("\n")); err != nil || n > linesMax {
		t.Errorf("main.go has %d lines, at most %d: %v", n, linesMax, err)
	}
	dir, path := t.TempDir(), filepath.Join(t.TempDir(), "chat")
	if out, err := exec.Command("go", "build", "-o", path, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	new := func(args ...string) *program {
		errs, err := os.CreateTemp(t.TempDir(), "stderr")
		if err != nil {
			t.Fatal(err)
		}
		p := &program{t: t, path: path, dir: dir, args: args, errs: errs}
		p.start()
		t.Cleanup(func() {
			p.kill()
			_ = errs.Close() // it was only written by others
		})
		return p
	}
	server, ann, bob := new("-serve"), new("-name", "ann"), new("-name", "bob")
	say := func(p *program, line string) {
		if _, err := fmt.Fprintln(p.in, line); err != nil {
			t.Fatal(err)
		}
	}
	say(ann, "hello")
	ann.wait("ann: hello")
	say(bob, "hello")
	ann.wait("bob: hello")
	r := rand.New(rand.NewPCG(1, 1))
	for n := range rounds {
		line := fmt.Sprint("line ", n)
		say(ann, line)
		time.Sleep(time.Duration(r.IntN(3000)) * time.Microsecond)
		killed := []*program{server, bob, ann}[n%3]
		if killed == ann {
			ann.wait("ann: " + line) // or else nobody knows whether it has read it
		}
		killed.kill()
		killed.start()
		ann.wait("ann: " + line)
		bob.wait("ann: " + line)
	}
	if said := server.complaints(); strings.Count(said, "logs in") != 2 {
		t.Errorf("not 2 logins:\n%s", said)
	}
	for _, p := range []*program{ann, bob} {
		for n := range rounds {
			if line := fmt.Sprint("ann: line ", n); p.has(line) != 1 {
				t.Errorf("%q has %q %d times", p.args, line, p.has(line))
			}
		}
	}
}
