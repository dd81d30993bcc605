//go:build linux

package programs

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// process is one process as the host sees it.
type process struct {
	pid   int
	nspid int // in its own PID namespace
	ppid  int
	name  string
}

// proc returns a path below /proc/PID.
func proc(pid int, parts ...string) string {
	return filepath.Join(append([]string{"/proc", strconv.Itoa(pid)}, parts...)...)
}

// pids lists the processes of the host, zombies included.
func pids() []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var list []int
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			list = append(list, pid)
		}
	}
	return list
}

// statusFields reads a status file of /proc into its fields.
func statusFields(path string) (map[string]string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	fields := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(line, ":"); ok {
			fields[key] = strings.TrimSpace(value)
		}
	}
	return fields, nil
}

func readProcess(pid int) (process, error) {
	fields, err := statusFields(proc(pid, "status"))
	if err != nil {
		return process{}, err
	}
	p := process{pid: pid, name: fields["Name"], nspid: innermost(fields["NSpid"])}
	p.ppid, err = strconv.Atoi(fields["PPid"])
	return p, err
}

// ended says whether a process has ended: it waits to be reaped (Z), is being
// reaped (X), or is gone since somebody saw it last.
func ended(pid int) bool {
	fields, err := statusFields(proc(pid, "status"))
	return err != nil || strings.HasPrefix(fields["State"], "Z") || strings.HasPrefix(fields["State"], "X")
}

// TestEnded looks at a process while it sleeps, before it is reaped, and after.
func TestEnded(t *testing.T) {
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := cmd.Process.Pid
	if ended(pid) {
		t.Error("it sleeps, and has ended")
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil); err != nil || !ended(pid) {
		t.Errorf("it waits to be reaped, and has not ended: %v", err)
	}
	if cmd.Wait(); !ended(pid) {
		t.Error("it is gone, and has not ended")
	}
}

// innermost returns the last of the numbers in a line such as NSpid.
func innermost(line string) int {
	parts := strings.Fields(line)
	if len(parts) == 0 {
		return 0
	}
	n, _ := strconv.Atoi(parts[len(parts)-1])
	return n
}

// tree lists the processes of the PID namespace that pid is in, its init
// first, then by number; it fails where that is the caller's own namespace.
func tree(pid int) ([]process, error) {
	own, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return nil, err
	}
	space, err := os.Readlink(proc(pid, "ns/pid"))
	if err != nil {
		return nil, err
	}
	if space == own {
		return nil, fmt.Errorf("pid %d is not in a PID namespace of its own", pid)
	}
	var list []process
	for _, candidate := range pids() {
		if inSpace(candidate, space) {
			if p, err := readProcess(candidate); err == nil {
				list = append(list, p)
			}
		}
	}
	slices.SortFunc(list, func(a, b process) int { return a.nspid - b.nspid })
	return list, nil
}

// inSpace says whether a process is in a PID namespace. A zombie has no
// namespaces any more: its parent's counts.
func inSpace(pid int, space string) bool {
	for range 8 {
		link, err := os.Readlink(proc(pid, "ns/pid"))
		if err == nil {
			return link == space
		}
		p, err := readProcess(pid)
		if err != nil || p.ppid == 0 {
			return false
		}
		pid = p.ppid
	}
	return false
}

// keepers lists the processes that execute the binary under test in any role,
// parents before children.
func keepers() []process {
	var list []process
	for _, pid := range pids() {
		exe, err := os.Readlink(proc(pid, "exe"))
		if err != nil || strings.TrimSuffix(exe, " (deleted)") != session.bin {
			continue
		}
		if p, err := readProcess(pid); err == nil {
			list = append(list, p)
		}
	}
	slices.SortFunc(list, func(a, b process) int { return depth(a.pid) - depth(b.pid) })
	return list
}

// depth is the number of ancestors of a process.
func depth(pid int) int {
	for n := 0; ; n++ {
		p, err := readProcess(pid)
		if err != nil || p.ppid == 0 {
			return n
		}
		pid = p.ppid
	}
}

// grip holds a process by descriptor, so that a signal meets it and no other
// that took over its number.
type grip struct {
	process
	fd int
}

// hold takes hold of processes; those that are gone already are left out.
func hold(list []process) ([]grip, error) {
	var grips []grip
	for _, p := range list {
		fd, err := unix.PidfdOpen(p.pid, 0)
		if errors.Is(err, unix.ESRCH) {
			continue
		}
		if err != nil {
			release(grips)
			return nil, fmt.Errorf("pidfd of %d: %w", p.pid, err)
		}
		grips = append(grips, grip{p, fd})
	}
	return grips, nil
}

func release(grips []grip) {
	for _, g := range grips {
		unix.Close(g.fd)
	}
}

// killAll kills what is held, in order and as fast as it can, then waits until
// everything is gone.
func killAll(grips []grip) error {
	for _, g := range grips {
		if err := unix.PidfdSendSignal(g.fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("kill %d (%s): %w", g.pid, g.name, err)
		}
	}
	deadline := time.Now().Add(20 * time.Second)
	for _, g := range grips {
		poll := []unix.PollFd{{Fd: int32(g.fd), Events: unix.POLLIN}}
		for {
			left := time.Until(deadline)
			n, err := unix.Poll(poll, int(max(left, 0).Milliseconds()))
			if errors.Is(err, unix.EINTR) {
				continue
			}
			if err != nil || n == 0 {
				return fmt.Errorf("pid %d (%s) does not die: %v", g.pid, g.name, err)
			}
			break
		}
	}
	return nil
}

// eventually waits until ok holds, and fails the test with what when it does
// not within limit.
func eventually(t *testing.T, limit time.Duration, what string, ok func() error) {
	t.Helper()
	began := time.Now()
	deadline := began.Add(limit)
	var last error
	for {
		err := ok()
		if err == nil {
			if took := time.Since(began); took > limit/12 && last != nil {
				t.Logf("%s: only after %.1f s; before that: %v", what, took.Seconds(), last)
			}
			return
		}
		last = err
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v: %v", what, limit, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
