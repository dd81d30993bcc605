package notify

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long something may take that is to come.
const patience = 20 * time.Second

func listen(t *testing.T, path string) (*Ear, *bytes.Buffer) {
	t.Helper()
	log := &bytes.Buffer{}
	e, err := Listen(path, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	return e, log
}

func send(t *testing.T, path, text string) {
	t.Helper()
	c, err := net.Dial("unixgram", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
}

// until takes what is heard until it is what is wanted.
func until(t *testing.T, e *Ear, want func(Words) bool) (all Words) {
	t.Helper()
	for end := time.After(patience); !want(all); {
		select {
		case <-e.Heard():
			all = all.Then(e.Take())
		case <-end:
			t.Fatalf("never: %+v", all)
		}
	}
	return all
}

func myself(pid int) bool { return pid == os.Getpid() }

func TestEar(t *testing.T) {
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	path := t.TempDir() + "/run/web.notify"
	e, log := listen(t, path)
	for name, want := range map[string]os.FileMode{path: 0o666 | os.ModeSocket, path[:len(path)-11]: 0o755 | os.ModeDir} {
		if st, err := os.Stat(name); err != nil || st.Mode() != want {
			t.Errorf("%s: %v, %v", name, st.Mode(), err)
		}
	}
	send(t, path, "READY=1\nSTATUS=early") // nobody's words count yet: it waits
	select {
	case <-e.Heard():
		t.Error("heard before it was known whose words count")
	case <-time.After(50 * time.Millisecond):
	}
	e.Of(myself, false)
	if w := until(t, e, func(w Words) bool { return w.Ready }); w.Status != "early" {
		t.Errorf("%+v", w)
	}
	before := time.Now()
	send(t, path, "WATCHDOG=1")
	if w := until(t, e, func(w Words) bool { return w.Well }); w.At.Before(before) {
		t.Errorf("%+v", w)
	}
	send(t, path, strings.Repeat("STATUS=much\n", 2000)+"WAKEPOINT=durable")
	send(t, path, "\x00\xff\n\n====")
	send(t, path, "")
	send(t, path, "WAKEPOINT=checkpoint")
	if w := until(t, e, func(w Words) bool { return w.Checkpoint }); w.Durable || w.Told {
		t.Errorf("%+v", w)
	}
	if _, err := Listen(path, slog.New(slog.DiscardHandler)); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("another one listens: %v", err)
	}
	if err := e.Close(false); err != nil {
		t.Error(err)
	}
	e, _ = listen(t, path) // the next keeper, at the same place
	if err := e.Close(true); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path[:len(path)-11]); !os.IsNotExist(err) {
		t.Errorf("it is left: %v", err)
	}
	if n := strings.Count(log.String(), "too much at once"); n != 1 {
		t.Errorf("said %d times: %s", n, log)
	}
}

// Who is not of the workload is not heard, whatever it says, and is complained
// of once; nor is what it passes along kept.
func TestForged(t *testing.T) {
	path := t.TempDir() + "/web.notify"
	e, log := listen(t, path)
	var asked atomic.Int32
	e.Of(func(int) bool { asked.Add(1); return false }, false)
	for range 5 {
		send(t, path, "WAKEPOINT=durable")
	}
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_DGRAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Sendmsg(fd, []byte("READY=1"), syscall.UnixRights(int(w.Fd())), &syscall.SockaddrUnix{Name: path}, 0); err != nil {
		t.Fatal(err)
	}
	syscall.Close(fd)
	w.Close()
	if _, err := r.Read(make([]byte, 1)); err == nil { // EOF once nobody has it
		t.Error("what came along is kept")
	}
	r.Close()
	for end := time.Now().Add(patience); asked.Load() < 6 && time.Now().Before(end); time.Sleep(time.Millisecond) {
	}
	if w := e.Take(); w != (Words{}) {
		t.Errorf("%+v", w)
	}
	if err := e.Close(true); err != nil {
		t.Error(err)
	}
	if n := strings.Count(log.String(), "not of the workload"); n != 1 {
		t.Errorf("said %d times: %s", n, log)
	}
}

// What another process says is known by its number, which it cannot choose.
func TestSender(t *testing.T) {
	path := t.TempDir() + "/web.notify"
	e, _ := listen(t, path)
	var who atomic.Int32
	e.Of(func(pid int) bool { who.Store(int32(pid)); return true }, false)
	cmd := exec.Command(os.Args[0], "-test.run=^TestSpeaker$")
	cmd.Env = append(os.Environ(), "SPEAK_TO="+path)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	e.Settle()
	until(t, e, func(w Words) bool { return w.Ready })
	if int(who.Load()) != cmd.Process.Pid {
		t.Errorf("it was %d, not %d", who.Load(), cmd.Process.Pid)
	}
	if err := e.Close(true); err != nil {
		t.Error(err)
	}
}

// TestSpeaker is the other process of TestSender.
func TestSpeaker(t *testing.T) {
	if path := os.Getenv("SPEAK_TO"); path != "" {
		send(t, path, "READY=1")
	}
}

// A flood costs a bounded number of readings, says so, and is no silence.
func TestFlood(t *testing.T) {
	path := t.TempDir() + "/web.notify"
	e, log := listen(t, path)
	var read atomic.Int64
	e.Of(func(int) bool { read.Add(1); return true }, false)
	c, err := net.Dial("unixgram", path)
	if err != nil {
		t.Fatal(err)
	}
	begun, over := time.Now(), make(chan struct{})
	go func() {
		defer close(over)
		for {
			if _, err := c.Write([]byte("STATUS=busy")); err != nil {
				return
			}
		}
	}()
	until(t, e, func(w Words) bool { return !w.Deaf.IsZero() })
	if n, most := read.Load(), secondMax*(int64(time.Since(begun)/time.Second)+2); n > most {
		t.Errorf("%d were read, at most %d should be", n, most)
	}
	if err := e.Close(true); err != nil {
		t.Error(err)
	}
	<-over
	c.Close()
	if n := strings.Count(log.String(), "more is said"); n != 1 {
		t.Errorf("said %d times: %s", n, log)
	}
}

// A path that leads to something else is not ours to remove, nor a name that
// leads elsewhere.
func TestPath(t *testing.T) {
	file := t.TempDir() + "/file"
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(file, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("it listens in the place of a file")
	}
	Remove(file)
	if _, err := os.Stat(file); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"", "..", "../x", "a/b", ".x", strings.Repeat("x", 100)} {
		if p := Path(name, "/d"); p != "" && os.Geteuid() == 0 {
			t.Errorf("%q: %s", name, p)
		}
	}
	long := strings.Repeat("n", 64)
	if a, b := Name(long, "1"), Name(long, "2"); a == b || a != Name(long, "1") || len(a) > 41 {
		t.Errorf("%s, %s", a, b)
	}
	if os.Geteuid() == 0 {
		if p := Path("web-1", "/d"); p != Runtime+"/web-1.notify" {
			t.Error(p)
		}
	}
}
