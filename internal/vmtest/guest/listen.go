//go:build linux

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wakepoint/wakepoint/internal/vmtest"
)

// line is the serial line on which the host talks.
const line = "/dev/ttyS1"

// speaker says words to the host.
type speaker struct {
	mu sync.Mutex // one word at a time
	w  io.Writer
}

func (s *speaker) say(w vmtest.Word) {
	p, err := json.Marshal(w)
	if err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.w.Write(append(p, '\n')) // a host that is gone hears nothing
}

// listen obeys the host as long as there is one.
func listen() error {
	f, err := os.OpenFile(line, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := raw(int(f.Fd())); err != nil {
		return err
	}
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return err
	}
	s := &speaker{w: f}
	s.say(vmtest.Word{Line: unix.ByteSliceToString(name.Release[:])})
	orders := bufio.NewReader(f)
	for {
		text, err := orders.ReadBytes('\n')
		if err != nil {
			return err
		}
		var o vmtest.Order
		if err := json.Unmarshal(text, &o); err != nil {
			return err
		}
		go s.obey(o)
	}
}

// raw lets every byte through as it is.
func raw(fd int) error {
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return err
	}
	t.Iflag, t.Oflag, t.Lflag = 0, 0, 0
	t.Cflag = unix.B115200 | unix.CS8 | unix.CREAD | unix.CLOCAL
	t.Cc[unix.VMIN], t.Cc[unix.VTIME] = 1, 0
	return unix.IoctlSetTermios(fd, unix.TCSETS, t)
}

// obey runs a command and says what it prints, line by line.
func (s *speaker) obey(o vmtest.Order) {
	done := vmtest.Word{ID: o.ID, Done: true}
	defer func() { s.say(done) }()
	if len(o.Argv) == 0 {
		done.Code = 127
		return
	}
	out, complaint := &lines{s: s, id: o.ID}, &lines{s: s, id: o.ID, err: true}
	defer out.rest()
	defer complaint.rest()
	cmd := exec.Command(o.Argv[0], o.Argv[1:]...)
	cmd.Stdout, cmd.Stderr = out, complaint
	cmd.WaitDelay = time.Second // what it has started may hold them still
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit) && exit.ExitCode() < 0:
		done.Code = 128 + int(exit.Sys().(interface{ Signal() unix.Signal }).Signal())
	case errors.As(err, &exit):
		done.Code = exit.ExitCode()
	case err != nil && !errors.Is(err, exec.ErrWaitDelay):
		done.Code = 127
		complaint.Write([]byte(err.Error()))
	}
}

// lines says each line that is written to it.
type lines struct {
	s    *speaker
	id   int
	err  bool
	text []byte
}

func (l *lines) Write(p []byte) (int, error) {
	l.text = append(l.text, p...)
	for {
		i := bytes.IndexByte(l.text, '\n')
		if i < 0 {
			return len(p), nil
		}
		l.s.say(vmtest.Word{ID: l.id, Line: string(l.text[:i]), Err: l.err})
		l.text = l.text[i+1:]
	}
}

// rest says what has no end.
func (l *lines) rest() {
	if len(l.text) > 0 {
		l.s.say(vmtest.Word{ID: l.id, Line: string(l.text), Err: l.err})
	}
}
