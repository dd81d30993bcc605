package service

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// systemctl makes a script that stands for systemctl(1).
func systemctl(t *testing.T, script string) *Units {
	t.Helper()
	path := filepath.Join(t.TempDir(), "systemctl")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	return &Units{Runtime: t.TempDir(), Systemctl: path}
}

// The keeper that a unit starts fetches its order, and finds none when nobody
// gave one or whoever did has gone.
func TestOffer(t *testing.T) {
	u := systemctl(t, `case "$*" in "start --no-block wakepoint@web.service") ;; show*) echo ActiveState=activating ;; *) exit 3 ;; esac`)
	if c, err := u.Take("web"); c != nil || err != nil {
		t.Fatal(c, err)
	}
	o, err := u.Offer("web")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := u.Offer("web"); !errors.Is(err, ErrBusy) {
		t.Errorf("a second offer: %v", err)
	}
	got := make(chan string, 1)
	go func() {
		c, err := u.Take("web")
		if err != nil || c == nil {
			got <- "nothing"
			return
		}
		defer c.Close()
		text, _ := io.ReadAll(c)
		got <- string(text)
	}()
	c, err := o.Taken(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte("go on")); err != nil {
		t.Fatal(err)
	}
	c.Close()
	if s := <-got; s != "go on" {
		t.Errorf("the keeper got %q", s)
	}
	o.Close()
	if c, err := u.Take("web"); c != nil || err != nil {
		t.Errorf("an offer that was taken back: %v %v", c, err)
	}
	if o, err = u.Offer("web"); err != nil {
		t.Fatal(err)
	}
	o.Close()
}

// One who died left his socket: the keeper finds no order there, and the next
// offer is made all the same.
func TestOfferOfTheDead(t *testing.T) {
	u := systemctl(t, "")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: u.path("web"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	if c, err := u.Take("web"); c != nil || err != nil {
		t.Errorf("%v %v", c, err)
	}
	o, err := u.Offer("web")
	if err != nil {
		t.Fatal(err)
	}
	o.Close()
}

// A unit that systemd refuses or cannot start is an error, not a wait.
func TestOfferThatNobodyTakes(t *testing.T) {
	for script, want := range map[string]string{
		`case "$1" in start) echo "Unit wakepoint@web.service not found." >&2; exit 5 ;; esac`: "Unit wakepoint@web.service not found.",
		`case "$1" in show) echo ActiveState=failed; echo Job= ;; esac`:                        "systemd does not start wakepoint@web.service: it is failed",
		`case "$1" in show) echo ActiveState=inactive ;; esac`:                                 "systemd does not start wakepoint@web.service: it is inactive",
		`case "$1" in start) exit 1 ;; esac`:                                                   "systemctl start --no-block wakepoint@web.service: exit status 1",
		`case "$1" in show) exit 1 ;; esac`:                                                    "look at wakepoint@web.service: exit status 1",
	} {
		o, err := systemctl(t, script).Offer("web")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := o.Taken(context.Background()); err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
		o.Close()
	}
	o, err := systemctl(t, `case "$1" in show) echo ActiveState=active; echo Job= ;; esac`).Offer("web")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := o.Taken(context.Background()); !errors.Is(err, ErrBusy) {
		t.Errorf("a unit that somebody has started by hand: %v", err)
	}
	o.Close()
	o, err = systemctl(t, `case "$1" in show) echo ActiveState=inactive; echo Job=7 ;; esac`).Offer("web")
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	ctx, stop := context.WithTimeout(context.Background(), 3*takenAgain)
	defer stop()
	if _, err := o.Taken(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a unit that waits for another one: %v", err)
	}
}

func TestNotify(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	if err := Notify("READY=1"); err != nil {
		t.Error(err)
	}
	for _, name := range []string{filepath.Join(t.TempDir(), "notify"), "@wakepoint-test-" + strconv.Itoa(os.Getpid())} {
		l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
		if err != nil {
			t.Fatal(err)
		}
		t.Setenv("NOTIFY_SOCKET", name)
		if err := Notify("READY=1"); err != nil {
			t.Error(err)
		}
		b := make([]byte, 100)
		if n, err := l.Read(b); err != nil || string(b[:n]) != "READY=1" {
			t.Errorf("%q %v", b[:n], err)
		}
		l.Close()
		if Notify("READY=1") == nil {
			t.Error("nobody listens, and there is no error")
		}
	}
}

// A process in a namespace of its own, or with narrowed rights, has what no
// unit could give.
func TestForeign(t *testing.T) {
	u := &Units{Manager: "/proc/self"}
	if os.Geteuid() != 0 {
		t.Skip("skip: needs root: another namespace is made")
	}
	if what, err := u.Foreign(); what != "" || err != nil {
		t.Errorf("compared with itself: %q %v", what, err)
	}
	for want, args := range map[string][]string{
		"the net namespace":   {"unshare", "-n"},
		"the mnt namespace":   {"unshare", "-m"},
		"what narrows":        {"setpriv", "--no-new-privs"},
		"what narrows whoeve": {"setpriv", "--bounding-set", "-kill"},
	} {
		cmd := exec.Command(args[0], append(args[1:], "sh", "-c", "echo; exec sleep 1000")...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		_, _ = out.Read(make([]byte, 1))
		u.Manager = "/proc/" + strconv.Itoa(cmd.Process.Pid)
		if what, err := u.Foreign(); !strings.HasPrefix(what, want) || err != nil {
			t.Errorf("%v: %q %v", args, what, err)
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
}
