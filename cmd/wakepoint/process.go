package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/wakepoint/wakepoint/internal/api"
)

// kernelThread is the flag of a kernel thread in /proc/PID/stat: PF_KTHREAD of
// include/linux/sched.h.
const kernelThread = 0x00200000

// process is what must be known of a process before it is touched.
type process struct {
	pid, tgid, parent int
	state             byte
	flags             uint64
	args              []string
}

// protectable reads a PID that was typed and says by name why that process
// can never be a workload: it is gone, a kernel thread, a zombie, a thread,
// init, or part of wakepoint.
func protectable(typed string) (int, error) {
	pid, err := strconv.Atoi(typed)
	if err != nil || pid <= 0 {
		return 0, misuse("give the number of a process", "%q is not a PID", typed)
	}
	p, err := readProcess(pid)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
		return 0, api.Errorf(api.CodeFailed, "", "there is no process %d", pid)
	}
	if err != nil {
		return 0, err
	}
	why, hint := p.untouchable(os.Getpid())
	if why != "" {
		return 0, api.Errorf(api.CodeRefused, hint, "pid %d %s", pid, why)
	}
	return pid, nil
}

// untouchable says why a process can never be a workload; "" if it may be one.
func (p process) untouchable(self int) (why, hint string) {
	switch {
	case p.flags&kernelThread != 0:
		return "is a kernel thread and cannot be saved", ""
	case p.state == 'Z' || p.state == 'X':
		return "has ended; it only waits for its parent to take note", fmt.Sprintf("its parent is pid %d", p.parent)
	case p.tgid != p.pid:
		return fmt.Sprintf("is a thread of pid %d", p.tgid), fmt.Sprintf("give the process: %d", p.tgid)
	case p.pid == 1:
		return "is this system's init and cannot be saved", ""
	case p.pid == self:
		return "is this very command", ""
	case len(p.args) > 1 && (p.args[1] == keeperName || p.args[1] == guardName):
		return "is a keeper of wakepoint itself and cannot be saved", "`wakepoint ps` shows the workloads with their own PIDs"
	}
	return "", ""
}

// readProcess reads /proc/PID, see proc_pid_stat(5).
func readProcess(pid int) (process, error) {
	dir := "/proc/" + strconv.Itoa(pid)
	stat, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return process{}, err
	}
	p, err := parseStat(string(stat))
	if err != nil {
		return process{}, fmt.Errorf("%s/stat: %w", dir, err)
	}
	p.pid = pid
	status, err := os.ReadFile(dir + "/status")
	if err != nil {
		return process{}, err
	}
	if p.tgid, err = strconv.Atoi(statusField(string(status), "Tgid")); err != nil {
		return process{}, fmt.Errorf("%s/status: %w", dir, err)
	}
	cmdline, err := os.ReadFile(dir + "/cmdline")
	if err != nil {
		return process{}, err
	}
	p.args = strings.Split(strings.TrimRight(string(cmdline), "\x00"), "\x00")
	return p, nil
}

// parseStat reads state, parent and flags; the name before them may hold
// anything, and ends with the last parenthesis.
func parseStat(stat string) (process, error) {
	var p process
	end := strings.LastIndexByte(stat, ')')
	fields := strings.Fields(stat[end+1:])
	if end < 0 || len(fields) < 7 {
		return p, fmt.Errorf("cannot be read: %.80q", stat)
	}
	var err error
	p.state = fields[0][0]
	if p.parent, err = strconv.Atoi(fields[1]); err != nil {
		return p, err
	}
	p.flags, err = strconv.ParseUint(fields[6], 10, 64)
	return p, err
}
