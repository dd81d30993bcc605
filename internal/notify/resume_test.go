package notify

import (
	"log/slog"
	"net"
	"os"
	"syscall"
	"testing"
	"time"
)

// pockets keeps one socket and one note, as a pocket does.
type pockets struct {
	f    *os.File
	note []byte
}

func (p *pockets) Note(_ string, data []byte) error { p.note = data; return nil }

func (p *pockets) Noted(string) ([]byte, error) {
	defer func() { p.note = nil }()
	return p.note, nil
}

func (p *pockets) Look(name string) (*os.File, error) {
	if p.f == nil || name != Kept {
		return nil, os.ErrNotExist
	}
	fd, err := syscall.Dup(int(p.f.Fd()))
	return os.NewFile(uintptr(fd), name), err
}

func (p *pockets) Put(_ string, c syscall.Conn) error {
	p.close()
	var err error
	p.f, err = c.(*net.UnixConn).File()
	return err
}

func (p *pockets) close() {
	if p.f != nil {
		p.f.Close()
		p.f = nil
	}
}

// Who listens next goes on with the socket of the one before: what is connected
// to it is heard, and what was said meanwhile. A socket to which nothing leads
// any more is not gone on with, and one that somebody else has is waited for.
func TestResume(t *testing.T) {
	path := t.TempDir() + "/run/web.notify"
	kept := &pockets{}
	defer kept.close()
	resume := func(want bool) *Ear {
		t.Helper()
		e, err := Resume(path, kept, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		if e.Resumed() != want {
			t.Errorf("resumed: %v", e.Resumed())
		}
		e.Of(myself, false)
		return e
	}
	hears := func(e *Ear, c net.Conn, status string) {
		t.Helper()
		if _, err := c.Write([]byte("STATUS=" + status)); err != nil {
			t.Fatal(err)
		}
		until(t, e, func(w Words) bool { return w.Status == status })
	}
	e := resume(false)
	c, err := net.Dial("unixgram", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	hears(e, c, "first")
	e.Close(false)
	if _, err := c.Write([]byte("READY=1")); err != nil {
		t.Fatal(err)
	}
	e = resume(true)
	until(t, e, func(w Words) bool { return w.Ready })
	hears(e, c, "second")
	e.Close(false)

	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	e = resume(false)
	send(t, path, "STATUS=third")
	until(t, e, func(w Words) bool { return w.Status == "third" })
	e.Close(false)

	other := kept.f
	kept.f = nil
	time.AfterFunc(100*time.Millisecond, func() { other.Close() })
	e = resume(false)
	e.Close(true)
}

// What the program said to the one before, and lasts, is heard again; not what
// it wanted then, nor what another run of it said.
func TestAgain(t *testing.T) {
	path := t.TempDir() + "/run/web.notify"
	kept := &pockets{}
	defer kept.close()
	resume := func() *Ear {
		t.Helper()
		e, err := Resume(path, kept, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	e := resume()
	e.Of(myself, false)
	send(t, path, "READY=1\nSTATUS=old\nWAKEPOINT=checkpoint\nWAKEPOINT=durable\nWAKEPOINT=hold")
	send(t, path, "STATUS=new\nWATCHDOG=1\nWATCHDOG_USEC=5000000")
	until(t, e, func(w Words) bool { return w.Well })
	e.Close(false)
	for range 2 {
		before := time.Now()
		e = resume()
		e.Of(myself, true)
		w := until(t, e, func(w Words) bool { return w.Well })
		if w.At.Before(before) {
			t.Errorf("it was well at %v", w.At)
		}
		w.At = time.Time{}
		if want := (Words{Ready: true, Well: true, Status: "new", Told: true, Watchdog: 5 * time.Second}); w != want {
			t.Errorf("%+v", w)
		}
		e.Close(false)
	}
	e = resume()
	e.Of(myself, true)
	e.Take()
	send(t, path, "WAKEPOINT=checkpoint")
	<-e.Heard()
	e.Of(nil, false) // nobody has taken that
	send(t, path, "WAKEPOINT=durable")
	e.Close(false)
	e = resume()
	e.Of(myself, true)
	until(t, e, func(w Words) bool { return w.Checkpoint && w.Durable && w.Ready })
	e.Of(myself, false)
	e.Close(false)
	e = resume()
	e.Of(myself, true)
	if w := e.Take(); w != (Words{}) {
		t.Errorf("another run said %+v", w)
	}
	e.Close(true)
}
