package service

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Foreign says what this process has of its own that a unit's processes do not
// have: its namespaces, and what narrows its rights. What it starts inherits
// that, and what a unit starts would not. "" when there is nothing.
func (u *Units) Foreign() (string, error) {
	manager := u.Manager
	if manager == "" {
		manager = "/proc/1"
	}
	for _, ns := range []string{"mnt", "net", "pid", "user", "uts", "ipc", "cgroup", "time"} {
		own, err := os.Readlink("/proc/self/ns/" + ns)
		if err != nil {
			continue // a kernel without it
		}
		if first, err := os.Readlink(manager + "/ns/" + ns); err != nil || own != first {
			return fmt.Sprintf("the %s namespace of whoever started it", ns), err
		}
	}
	own, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return "", err
	}
	first, err := os.ReadFile(manager + "/status")
	if err != nil {
		return "", err
	}
	for _, name := range []string{"CapBnd", "NoNewPrivs", "Seccomp", "Cpus_allowed", "Mems_allowed"} {
		if field(string(own), name) != field(string(first), name) {
			return "what narrows whoever started it (" + name + ")", nil
		}
	}
	for _, name := range []string{"Uid", "Gid", "Groups"} {
		for _, id := range strings.Fields(field(string(own), name)) {
			if id != "0" {
				return "the users and groups of whoever started it", nil
			}
		}
	}
	if attr, err := unix.SchedGetAttr(0, 0); err == nil && attr.Policy != unix.SCHED_NORMAL {
		return "the scheduling policy of whoever started it", nil
	}
	return "", nil
}

// field returns a field of /proc/PID/status (proc_pid_status(5)).
func field(status, name string) string {
	for line := range strings.Lines(status) {
		if v, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(v)
		}
	}
	return ""
}
