package api

import (
	"context"
	"errors"
	"net"
	"os"
	"strconv"
	"strings"
)

// ErrSilent says that a keeper holds its socket and does not answer.
var ErrSilent = errors.New("does not answer")

// SilentError names a keeper that does not answer, and what to do.
func SilentError(pid int) error {
	if pid == 0 {
		return Errorf(CodeFailed, "", "its keeper %w", ErrSilent)
	}
	if stateOf(pid) == "T" {
		return Errorf(CodeFailed, "`kill -CONT "+strconv.Itoa(pid)+"` lets it go on",
			"its keeper (pid %d) is stopped and %w", pid, ErrSilent)
	}
	return Errorf(CodeFailed, "`kill -KILL "+strconv.Itoa(pid)+"` ends the keeper: the program runs on, and a new keeper takes over",
		"its keeper (pid %d) %w", pid, ErrSilent)
}

// KeeperPID returns who listens in dir, 0 when that cannot be known.
func KeeperPID(ctx context.Context, dir string) int {
	c, err := Dial(ctx, dir)
	if err != nil {
		return 0
	}
	defer c.Close()
	u, ok := c.(*net.UnixConn)
	if !ok {
		return 0
	}
	cred, err := Peer(u)
	if err != nil {
		return 0
	}
	return int(cred.Pid)
}

// stateOf returns the state of a process (proc_pid_stat(5), field 3).
func stateOf(pid int) string {
	p, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return ""
	}
	f := strings.Fields(string(p[strings.LastIndexByte(string(p), ')')+1:]))
	if len(f) == 0 {
		return ""
	}
	return f[0]
}
