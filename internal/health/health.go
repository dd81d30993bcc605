// Package health asks whether a program is well: by a command, a TCP
// connection or an HTTP request. Whatever is asked answers in a bounded time,
// and what it says is bounded.
package health

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	saidMax = 200      // bytes of a command's output in an error
	readMax = 1 << 20  // bytes of it that are read: what prints more is not well
	bodyMax = 64 << 10 // bytes of an answer that are read, and of its head
	dying   = time.Second
)

// Check is a question. The zero Check is always answered well.
type Check struct {
	kind, what string
	dir        string
}

// In returns the check with the directory in which its command runs.
func (c Check) In(dir string) Check {
	c.dir = dir
	return c
}

// The kinds of checks.
const (
	byExec = "exec"
	byTCP  = "tcp"
	byHTTP = "http"
)

// Parse reads exec:COMMAND, tcp:HOST:PORT or an http(s) URL; "" is the zero
// Check.
func Parse(text string) (Check, error) {
	if text == "" {
		return Check{}, nil
	}
	if command, ok := strings.CutPrefix(text, "exec:"); ok {
		if strings.TrimSpace(command) == "" || strings.ContainsRune(command, 0) {
			return Check{}, errors.New("exec: names no command")
		}
		return Check{kind: byExec, what: command}, nil
	}
	if address, ok := strings.CutPrefix(text, "tcp:"); ok {
		host, port, err := net.SplitHostPort(address)
		if err == nil && (host == "" || port == "") {
			err = errors.New("host or port is missing")
		}
		if err != nil {
			return Check{}, fmt.Errorf("tcp:%s: %w", address, err)
		}
		return Check{kind: byTCP, what: address}, nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return Check{}, fmt.Errorf("%q is none of http://..., https://..., exec:COMMAND and tcp:HOST:PORT", text)
	}
	return Check{kind: byHTTP, what: text}, nil
}

// String is what Parse read.
func (c Check) String() string {
	switch c.kind {
	case byExec, byTCP:
		return c.kind + ":" + c.what
	}
	return c.what
}

// Run asks once. nil is well; else the error says what was not. It returns soon
// after ctx has ended, and leaves no process behind.
func (c Check) Run(ctx context.Context) error {
	var err error
	switch c.kind {
	case byExec:
		err = c.execute(ctx)
	case byTCP:
		err = c.connect(ctx)
	case byHTTP:
		err = c.get(ctx)
	}
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("%v: no answer in time", c)
	}
	if err != nil {
		return fmt.Errorf("%v: %w", c, err)
	}
	return nil
}

// execute runs a command by the shell, in a process group of its own. With it
// ends what it has started: its group and, when it runs out of time, all that
// descends from it.
//
// BUG: a command that leaves a daemon behind, which is in a session of its own
// and nobody's child, leaves one with each question.
func (c Check) execute(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", c.what)
	cmd.Dir = c.dir
	said := &tail{}
	cmd.Stdout, cmd.Stderr = said, said
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error {
		below := descendants(cmd.Process.Pid)
		err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		for _, pid := range below {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		return err
	}
	cmd.WaitDelay = dying // for what has left the group and holds the output open
	err := cmd.Run()
	if cmd.Process != nil {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // what it has left in the background
	}
	if errors.Is(err, exec.ErrWaitDelay) && ctx.Err() == nil {
		err = nil // it ended well; what it left has the output open
	}
	if said.over {
		return errFlood
	}
	if text := strings.TrimSpace(said.String()); err != nil && text != "" {
		err = fmt.Errorf("%w: %s", err, text)
	}
	return err
}

// errFlood says that a command is not to be listened to any more.
var errFlood = errors.New("it prints without an end")

// descendants lists what descends from a process (proc_tid_children(5)).
func descendants(pid int) (list []int) {
	for next := []int{pid}; len(next) > 0; next = next[1:] {
		tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", next[0]))
		for _, t := range tasks {
			text, _ := os.ReadFile(t)
			for _, f := range strings.Fields(string(text)) {
				if n, err := strconv.Atoi(f); err == nil {
					list, next = append(list, n), append(next, n)
				}
			}
		}
	}
	return list
}

// connect opens a connection and closes it.
func (c Check) connect(ctx context.Context) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", c.what)
	if err != nil {
		return err
	}
	return conn.Close()
}

// get asks for a page. Any answer below 400 is well. Who answers is not
// verified: the question is whether it lives.
func (c Check) get(ctx context.Context) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.what, nil)
	if err != nil {
		return err
	}
	t := &http.Transport{DisableKeepAlives: true, MaxResponseHeaderBytes: bodyMax, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	defer t.CloseIdleConnections()
	client := http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	answer, err := client.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if _, err := io.Copy(io.Discard, io.LimitReader(answer.Body, bodyMax)); err != nil {
		return err
	}
	if answer.StatusCode >= 400 {
		return errors.New(answer.Status)
	}
	return nil
}

// tail keeps the end of what is written to it, until that is too much.
type tail struct {
	b    []byte
	n    int
	over bool
}

func (t *tail) Write(p []byte) (int, error) {
	if t.n += len(p); t.n > readMax {
		t.over = true
		return 0, errFlood
	}
	t.b = append(t.b, p[max(0, len(p)-saidMax):]...)
	t.b = append(t.b[:0], t.b[max(0, len(t.b)-saidMax):]...)
	return len(p), nil
}

func (t *tail) String() string { return strings.ToValidUTF8(string(t.b), "?") }
