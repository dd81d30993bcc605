package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/wakepoint/wakepoint/internal/api"
)

// initName is what the init of a tree is called in its arguments.
const initName = "wakepoint-init"

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
// init, part of wakepoint, or above this very command.
func protectable(typed string) (int, error) {
	pid, err := strconv.Atoi(typed)
	if err != nil || pid <= 0 {
		return 0, misuse("give the number of a process", "%q is not a PID", typed)
	}
	p, err := readProcess(pid)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
		return 0, api.Errorf(api.CodeFailed, "it has ended, or runs in another container; `ps -ef` lists what runs here", "there is no process %d", pid)
	}
	if err != nil {
		return 0, err
	}
	why, hint := p.untouchable(os.Getpid())
	if why == "" && slices.Contains(ancestors(os.Getpid()), pid) {
		why, hint = "started this very command, which cannot be saved with it", "give the command from another terminal, or save the program alone by its own PID"
	}
	if why != "" {
		return 0, api.Errorf(api.CodeRefused, hint, "pid %d %s", pid, why)
	}
	return pid, nil
}

// untouchable says why a process can never be a workload; "" if it may be one.
func (p process) untouchable(self int) (why, hint string) {
	switch {
	case p.flags&kernelThread != 0:
		return "is a kernel thread and cannot be saved", "it comes with the kernel of each host; `ps -ef` shows kernel threads in brackets"
	case p.state == 'Z' || p.state == 'X':
		return "has ended; it only waits for its parent to take note", fmt.Sprintf("its parent is pid %d", p.parent)
	case p.tgid != p.pid:
		return fmt.Sprintf("is a thread of pid %d", p.tgid), fmt.Sprintf("give the process: %d", p.tgid)
	case p.pid == 1:
		return "is this system's init and cannot be saved", "save the programs below it, each by its own PID; the main program of a container is saved from outside, by its PID there"
	case p.pid == self:
		return "is this very command", "give the PID of your program; `ps -ef` lists what runs here"
	case len(p.args) > 0 && p.args[0] == initName || len(p.args) > 1 && (p.args[1] == keeperName || p.args[1] == guardName):
		return "is part of wakepoint itself and cannot be saved", "`wakepoint ps` shows the workloads with their own PIDs"
	}
	return "", ""
}

// ancestors returns the parents of a process, nearest first, as far as they
// can be seen.
func ancestors(pid int) []int {
	var up []int
	for {
		p, err := readProcess(pid)
		if err != nil || p.parent == 0 || slices.Contains(up, p.parent) {
			return up
		}
		pid = p.parent
		up = append(up, pid)
	}
}

// ownerOf returns the name of the workload that a process belongs to, "" when
// it is in none of this store: it or one of its parents is the workload's
// command or that command's init.
func (a *app) ownerOf(ctx context.Context, pid int) string {
	list, err := a.list(ctx)
	if err != nil {
		return "" // it is not there to be found
	}
	line := append([]int{pid}, ancestors(pid)...)
	for _, w := range list {
		if w.PID == 0 {
			continue
		}
		top := w.PID
		if command, err := readProcess(w.PID); err == nil {
			if init, err := readProcess(command.parent); err == nil && init.args[0] == initName {
				top = init.pid
			}
		}
		if slices.Contains(line, top) || slices.Contains(line, w.PID) {
			return w.Name
		}
	}
	return ""
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
