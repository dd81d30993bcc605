// Package service puts keepers into the hands of systemd.
package service

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Recovery is the unit that brings everything back at a boot.
const Recovery = "wakepoint-recover.service"

// Template is the unit of which each workload has an instance.
const Template = "wakepoint@.service"

// Unit is the unit of a workload. A name needs no escape: it has no character
// that systemd.unit(5) does not allow in a unit's name.
func Unit(name string) string { return "wakepoint@" + name + ".service" }

// unitDirs is where units lie, the first one that has it counts
// (systemd.unit(5)).
var unitDirs = [...]string{"/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"}

// Booted says whether systemd runs this machine (sd_booted(3)).
func Booted() bool {
	info, err := os.Lstat("/run/systemd/system")
	return err == nil && info.IsDir()
}

// Installed returns where a unit of ours lies, "" where there is none.
func Installed(unit string) string {
	for _, dir := range unitDirs {
		path := filepath.Join(dir, unit)
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	return ""
}

// answerMax is how long systemd may take to say what it does.
const answerMax = 2 * time.Second

// GoingDown says whether the machine is being stopped: what ends now may have
// been asked to.
func GoingDown(ctx context.Context) bool {
	if !Booted() {
		return false
	}
	if name, err := os.ReadFile("/proc/1/comm"); err == nil && strings.HasPrefix(string(name), "systemd-shutdow") {
		return true // the last act: whoever is left is asked to end, and killed
	}
	ctx, stop := context.WithTimeout(ctx, answerMax)
	defer stop()
	// It exits with 1 unless the state is running.
	state, _ := exec.CommandContext(ctx, "systemctl", "is-system-running").Output()
	return strings.TrimSpace(string(state)) == "stopping"
}

// Notify tells systemd how this process is (sd_notify(3)). Where nobody asked
// to be told it does nothing.
func Notify(state string) error {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return nil
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("tell systemd: %w", err)
	}
	defer c.Close()
	_, err = c.Write([]byte(state))
	return err
}

// Units starts the units of workloads, and gives their keepers their orders.
type Units struct {
	Runtime   string // directory for sockets, which a boot empties; empty: /run/wakepoint-orders
	Systemctl string // empty: systemctl
	Manager   string // directory in /proc of what starts them; empty: /proc/1
}

// ErrBusy says that somebody else is giving the same keeper an order, or has
// started it without one.
var ErrBusy = errors.New("somebody else is starting it")

const (
	takenAgain = 500 * time.Millisecond // between looks at a unit whose keeper does not come
	takenMax   = 30 * time.Second       // for one that comes and goes
	runsLooks  = 6                      // at one that runs, and takes no order: it began without
)

// An Offer is an order for the keeper of a workload that does not run yet: it
// fetches it from a socket when its unit starts. A keeper that finds none was
// started by systemd itself, and knows what that means.
type Offer struct {
	u    *Units
	unit string
	lock *os.File // held: one offer at a time
	l    *net.UnixListener
}

func (u *Units) path(name string) string {
	dir := u.Runtime
	if dir == "" {
		dir = "/run/wakepoint-orders" // root's alone, which /run/wakepoint is not
	}
	return filepath.Join(dir, name)
}

// Offer makes the offer; ErrBusy when there is one.
func (u *Units) Offer(name string) (*Offer, error) {
	path := u.path(name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		lock.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = ErrBusy
		}
		return nil, err
	}
	_ = os.Remove(path) // of one who died
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		lock.Close()
		return nil, err
	}
	return &Offer{u: u, unit: Unit(name), lock: lock, l: l}, nil
}

// Close takes the offer back.
func (o *Offer) Close() {
	_ = o.l.Close() // which removes the socket
	_ = o.lock.Close()
}

// Taken starts the unit and waits until its keeper has come; ErrBusy when one
// runs that was started by somebody else. The connection is to the keeper.
func (o *Offer) Taken(ctx context.Context) (net.Conn, error) {
	stop := context.AfterFunc(ctx, func() { _ = o.l.Close() })
	defer stop()
	idle, runs := 0, 0 // looks in a row at which nothing was going on, or one ran that wants no order
	for end := time.Now().Add(takenMax); ; {
		if err := o.u.systemctl(ctx, "start", "--no-block", o.unit); err != nil {
			return nil, err
		}
		_ = o.l.SetDeadline(time.Now().Add(takenAgain))
		c, err := o.l.AcceptUnix()
		switch {
		case err == nil:
			return c, nil
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return nil, err
		}
		state, waits, err := o.u.state(ctx, o.unit)
		if err != nil {
			return nil, err
		}
		if idle++; waits || !slices.Contains([]string{"failed", "inactive"}, state) {
			idle = 0
		}
		if runs++; waits || state != "active" {
			runs = 0
		}
		if runs >= runsLooks {
			return nil, fmt.Errorf("%s runs already: %w", o.unit, ErrBusy)
		}
		if idle >= 2 || !waits && time.Now().After(end) {
			return nil, fmt.Errorf("systemd does not start %s: it is %s", o.unit, state)
		}
	}
}

// state returns a unit's ActiveState, and whether a job for it waits.
func (u *Units) state(ctx context.Context, unit string) (state string, waits bool, err error) {
	text, err := u.command(ctx, "show", "-p", "ActiveState", "-p", "Job", unit).Output()
	if err != nil {
		return "", false, fmt.Errorf("look at %s: %w", unit, err)
	}
	for line := range strings.Lines(string(text)) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), "ActiveState="); ok {
			state = v
		}
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), "Job="); ok {
			waits = v != "" && v != "0"
		}
	}
	return state, waits, nil
}

func (u *Units) command(ctx context.Context, args ...string) *exec.Cmd {
	program := u.Systemctl
	if program == "" {
		program = "systemctl"
	}
	return exec.CommandContext(ctx, program, args...)
}

// systemctl runs a command of systemctl(1); what it said is the error.
func (u *Units) systemctl(ctx context.Context, args ...string) error {
	out, err := u.command(ctx, args...).CombinedOutput()
	if err == nil || ctx.Err() != nil {
		return ctx.Err()
	}
	if words := strings.TrimSpace(string(out)); words != "" {
		return errors.New(words)
	}
	return fmt.Errorf("systemctl %s: %w", strings.Join(args, " "), err)
}

// Take fetches the order for the keeper of a workload; nil when there is none.
func (u *Units) Take(name string) (net.Conn, error) {
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: u.path(name), Net: "unix"})
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return c, nil
}

// versionMax is how long a new program may take to say its version.
const versionMax = 10 * time.Second

// Executable says why an installed program of ours cannot be executed.
func Executable(ctx context.Context, program string) error {
	ctx, stop := context.WithTimeout(ctx, versionMax)
	defer stop()
	if out, err := exec.CommandContext(ctx, program, "version").CombinedOutput(); err != nil {
		return fmt.Errorf("try the new program: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}
