package pocket

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// As a child, this program says what is noted in the pocket that it inherits,
// and whether its own children would inherit it too.
func TestMain(m *testing.M) {
	if len(os.Args) != 2 || os.Args[1] != "look" {
		os.Exit(m.Run())
	}
	if pid := os.Getenv("PRETEND_PID"); pid != "" {
		os.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid()))
	}
	p, err := Inherit(true)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	data, err := p.Noted("words")
	flags, _ := unix.FcntlInt(p.ends[0].Fd(), unix.F_GETFD, 0)
	fmt.Println(string(data), err, flags == unix.FD_CLOEXEC, strings.Contains(strings.Join(os.Environ(), " "), variable))
	os.Exit(0)
}

func newPocket(t *testing.T) *Pocket {
	t.Helper()
	p, err := New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func note(t *testing.T, p *Pocket, name, data string) {
	t.Helper()
	if err := p.Note(name, []byte(data)); err != nil {
		t.Fatal(err)
	}
}

func noted(t *testing.T, p *Pocket, name string) string {
	t.Helper()
	data, err := p.Noted(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestPocket(t *testing.T) {
	p := newPocket(t)
	if _, err := p.Look("one"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("of an empty pocket: %v", err)
	}
	for i := range 50 {
		note(t, p, "one", strconv.Itoa(i))
	}
	note(t, p, "two", "second")
	if got := noted(t, p, "two") + noted(t, p, "one") + noted(t, p, "one"); got != "second49" {
		t.Errorf("%q", got)
	}
	if items, message, err := p.look(); items != nil || message != nil || err != nil {
		t.Errorf("it still holds %v, %q, %v", items, message, err)
	}
}

// What is looked at stays, and is not another mode's for that.
func TestLook(t *testing.T) {
	p := newPocket(t)
	path := filepath.Join(t.TempDir(), "s")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Put("ear", conn); err != nil {
		t.Fatal(err)
	}
	note(t, p, "other", "more")
	from, err := net.Dial("unixgram", path)
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	raw, _ := conn.SyscallConn()
	raw.Control(func(fd uintptr) {
		if flags, _ := unix.FcntlInt(fd, unix.F_GETFL, 0); flags&unix.O_NONBLOCK == 0 {
			t.Error("it was made blocking")
		}
	})
	conn.Close()
	for i := range 3 {
		if _, err := from.Write([]byte{byte(i)}); err != nil {
			t.Fatalf("nobody holds it: %v", err)
		}
		f, err := p.Look("ear")
		if err != nil {
			t.Fatal(err)
		}
		again, err := net.FilePacketConn(f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 2)
		if n, _, err := again.ReadFrom(got); n != 1 || int(got[0]) != i || err != nil {
			t.Errorf("%q, %v", got[:n], err)
		}
		again.Close()
	}
	if err := p.Drop("ear"); err != nil {
		t.Fatal(err)
	}
	if _, err := from.Write([]byte("x")); err == nil {
		t.Error("it is still held")
	}
	if got := noted(t, p, "other"); got != "more" {
		t.Errorf("%q", got)
	}
}

// Who dies while it puts something in leaves two messages: the older one
// counts, and both go with the next.
func TestTorn(t *testing.T) {
	p := newPocket(t)
	note(t, p, "one", "old")
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Sendmsg(int(p.ends[0].Fd()), []byte("2\none"), unix.UnixRights(int(f.Fd())), nil, 0); err != nil {
		t.Fatal(err)
	}
	q := &Pocket{ends: [2]*os.File{p.ends[1], p.ends[0]}} // inherited in the other order
	note(t, q, "two", "new")
	if got := noted(t, q, "one") + noted(t, p, "two"); got != "oldnew" {
		t.Errorf("%q", got)
	}
	if _, message, err := p.look(); message != nil || err != nil {
		t.Errorf("%q is left, %v", message, err)
	}
}

// A child inherits it, from us, by exec or from systemd; what is no pocket is
// not taken for one.
func TestInherit(t *testing.T) {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	look := func(files []*os.File, env ...string) string {
		t.Helper()
		cmd := exec.Command(program, "look")
		cmd.ExtraFiles, cmd.Env = files, env
		out, err := cmd.Output()
		if err != nil {
			t.Errorf("%v: %s", err, out)
		}
		return strings.TrimSpace(string(out))
	}
	p := newPocket(t)
	ends := p.Files()
	note(t, p, "words", "child")
	if got := look([]*os.File{nil, ends[0], ends[1]}, Environ(4)); got != "child <nil> true false" {
		t.Errorf("a child: %q", got)
	}
	note(t, p, "words", "stored")
	names := []string{"PRETEND_PID=1", "LISTEN_FDS=3", "LISTEN_FDNAMES=" + stored + ":other:" + stored}
	if got := look([]*os.File{ends[1], null, ends[0]}, names...); got != "stored <nil> true false" {
		t.Errorf("systemd's: %q", got)
	}
	note(t, p, "words", "not for you")
	if got := look([]*os.File{ends[1], null, ends[0]}, append(names[1:], "LISTEN_PID=1")...); got != "<nil> true false" {
		t.Errorf("another's: %q", got)
	}
	for _, said := range []string{"3,3", "4,5", "3", "", "x,4", "1,2", "70,80"} {
		if got := look([]*os.File{ends[1], null, ends[0]}, variable+"="+said); got != "<nil> true false" {
			t.Errorf("of %q: %q", said, got)
		}
	}
	env, err := p.Bequeath([]string{"A=b"})
	if err != nil || len(env) != 2 {
		t.Fatalf("%q, %v", env, err)
	}
	for _, f := range p.ends {
		if flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFD, 0); flags != 0 || err != nil {
			t.Errorf("flags %d, %v", flags, err)
		}
		unix.CloseOnExec(int(f.Fd()))
	}
}

// A new one is given to systemd.
func TestStored(t *testing.T) {
	path := filepath.Join(t.TempDir(), "manager")
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	p, err := Inherit(true)
	if err != nil {
		t.Fatal(err)
	}
	note(t, p, "words", "kept")
	data, control := make([]byte, 200), make([]byte, 200)
	n, cn, _, _, err := manager.ReadMsgUnix(data, control)
	if err != nil || string(data[:n]) != "FDSTORE=1\nFDPOLL=0\nFDNAME=wakepoint-pocket" {
		t.Fatalf("%q, %v", data[:n], err)
	}
	list, err := unix.ParseSocketControlMessage(control[:cn])
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	fds, err := unix.ParseUnixRights(&list[0])
	if err != nil || len(fds) != 2 {
		t.Fatal(fds, err)
	}
	p.Close()
	kept := of(fds[0], fds[1])
	defer kept.Close()
	if got := noted(t, kept, "words"); got != "kept" {
		t.Errorf("%q", got)
	}
}
