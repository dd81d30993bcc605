package pocket

import (
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	variable = "WAKEPOINT_POCKET" // in the environment of who inherits one: its two descriptors
	stored   = "wakepoint-pocket" // its name in systemd's store of descriptors
)

// Inherit returns the pocket of the process before this one, as Environ says or,
// for the process of a unit, systemd; or a new one, which systemd gets to keep.
// What the environment said of it is removed from it: children inherit none.
func Inherit(unit bool) (*Pocket, error) {
	said, ok := os.LookupEnv(variable)
	os.Unsetenv(variable)
	if !ok && unit {
		said, ok = fromManager()
	}
	if a, b, two := strings.Cut(said, ","); ok && two {
		x, xerr := strconv.Atoi(a)
		y, yerr := strconv.Atoi(b)
		if xerr == nil && yerr == nil && x > 2 && y > 2 && x != y && isPocket(x) && isPocket(y) {
			unix.CloseOnExec(x)
			unix.CloseOnExec(y)
			return of(x, y), nil
		}
	}
	p, err := New()
	if err != nil || !unit {
		return p, err
	}
	if err := p.store(); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// isPocket says whether a descriptor can be an end of one.
func isPocket(fd int) bool {
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	family, ferr := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	return err == nil && ferr == nil && kind == unix.SOCK_SEQPACKET && family == unix.AF_UNIX
}

// fromManager finds the pocket among what systemd has kept for this process
// (sd_listen_fds_with_names(3)).
func fromManager() (said string, ok bool) {
	defer func() {
		for _, name := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
			os.Unsetenv(name)
		}
	}()
	if os.Getenv("LISTEN_PID") != strconv.Itoa(os.Getpid()) {
		return "", false
	}
	var fds []string
	for i, name := range strings.Split(os.Getenv("LISTEN_FDNAMES"), ":") {
		if name == stored {
			fds = append(fds, strconv.Itoa(3+i))
		}
	}
	return strings.Join(fds, ","), len(fds) == 2
}

// store has systemd keep the pocket for whom it starts next
// (sd_pid_notify_with_fds(3)). Where nobody asked to be told it does nothing.
func (p *Pocket) store() error {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return nil
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("pocket: %w", err)
	}
	defer unix.Close(fd)
	rights := unix.UnixRights(int(p.ends[0].Fd()), int(p.ends[1].Fd()))
	words := "FDSTORE=1\nFDPOLL=0\nFDNAME=" + stored
	if err := unix.Sendmsg(fd, []byte(words), rights, &unix.SockaddrUnix{Name: path}, unix.MSG_NOSIGNAL); err != nil {
		return fmt.Errorf("give systemd the pocket: %w", err)
	}
	return nil
}

// Files are what a child must have to inherit the pocket, in that order.
func (p *Pocket) Files() []*os.File { return p.ends[:] }

// Environ says to a child that Files begin at descriptor first.
func Environ(first int) string { return fmt.Sprintf("%s=%d,%d", variable, first, first+1) }

// Bequeath has the pocket outlive exec, and returns the environment of what is
// executed.
func (p *Pocket) Bequeath(env []string) ([]string, error) {
	for _, f := range p.ends {
		if _, err := unix.FcntlInt(f.Fd(), unix.F_SETFD, 0); err != nil {
			return nil, fmt.Errorf("pocket: %w", err)
		}
	}
	return append(slices.Clone(env), fmt.Sprintf("%s=%d,%d", variable, p.ends[0].Fd(), p.ends[1].Fd())), nil
}

// BequeathNothing keeps all descriptors of this process from what it starts,
// those too that it was given by its own parent.
func BequeathNothing() error {
	if err := unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("close what was inherited: %w", err)
	}
	return nil
}
