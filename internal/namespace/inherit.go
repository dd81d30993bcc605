package namespace

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Inherited is what a process inherits from its parent, beside its directory,
// environment and umask: the limits by their numbers (getrlimit(2)), soft and
// hard, its nice value, and how readily it is ended for want of memory.
type Inherited struct {
	Limits      [][2]uint64 `json:"limits"`
	Nice        int         `json:"nice"`
	OOMScoreAdj int         `json:"oom_score_adj"`
}

// limits is how many limits there are (RLIM_NLIMITS).
const limits = 16

const oomFile = "/proc/self/oom_score_adj"

// Heritage returns what a process that this one starts would inherit. The
// limits are asked of a child: of our own, Go's runtime has raised one, and
// puts it back where it starts something.
func Heritage() (*Inherited, error) {
	in := &Inherited{Limits: make([][2]uint64, limits)}
	runtime.LockOSThread() // who may trace the child
	defer runtime.UnlockOSThread()
	child, err := os.StartProcess("/proc/self/exe", []string{"wakepoint"}, &os.ProcAttr{Sys: &syscall.SysProcAttr{Ptrace: true, Pdeathsig: unix.SIGKILL}})
	if err != nil {
		return nil, err
	}
	defer func() { _ = child.Kill(); _, _ = child.Wait() }()
	var stop unix.WaitStatus // at its exec, before anything of it ran
	if _, err := unix.Wait4(child.Pid, &stop, 0, nil); err != nil || !stop.Stopped() {
		return nil, fmt.Errorf("start a child: %w", err)
	}
	for n := range in.Limits {
		var l unix.Rlimit
		if err := unix.Prlimit(child.Pid, n, nil, &l); err != nil {
			return nil, fmt.Errorf("limit %d: %w", n, err)
		}
		in.Limits[n] = [2]uint64{l.Cur, l.Max}
	}
	nice, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
	if err != nil {
		return nil, fmt.Errorf("nice value: %w", err)
	}
	in.Nice = 20 - nice // the system call's own way of counting
	text, err := os.ReadFile(oomFile)
	if err != nil {
		return nil, err
	}
	in.OOMScoreAdj, err = strconv.Atoi(strings.TrimSpace(string(text)))
	return in, err
}

// set makes this process one that inherited it.
func (in *Inherited) set() error {
	for n, l := range in.Limits {
		// Not x/sys: this one tells Go's runtime to leave it as it is.
		if err := syscall.Setrlimit(n, &syscall.Rlimit{Cur: l[0], Max: l[1]}); err != nil {
			return fmt.Errorf("limit %d: %w", n, err)
		}
	}
	if err := unix.Setpriority(unix.PRIO_PROCESS, 0, in.Nice); err != nil {
		return fmt.Errorf("nice value: %w", err)
	}
	return os.WriteFile(oomFile, []byte(strconv.Itoa(in.OOMScoreAdj)), 0)
}
