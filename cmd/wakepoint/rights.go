package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/wakepoint/wakepoint/internal/api"
)

// neededRights are the capabilities without which no program can be saved or
// brought back, see capabilities(7): SYS_NICE reads the timer slack of others
// (proc_pid_timerslack_ns(5)), SYS_TIME sets the clocks of a time namespace
// (time_namespaces(7)).
var neededRights = []struct {
	bit  int
	name string
}{
	{unix.CAP_SYS_ADMIN, "CAP_SYS_ADMIN"},
	{unix.CAP_SYS_PTRACE, "CAP_SYS_PTRACE"},
	{unix.CAP_SYS_NICE, "CAP_SYS_NICE"},
	{unix.CAP_SYS_TIME, "CAP_SYS_TIME"},
}

// rights reads which of the needed capabilities this process has not.
func rights() (missing []string, err error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return nil, err
	}
	text := statusField(string(status), "CapEff")
	mask, err := strconv.ParseUint(text, 16, 64)
	if err != nil {
		return nil, fmt.Errorf("effective capabilities %q: %w", text, err)
	}
	return missingRights(mask), nil
}

func missingRights(mask uint64) (missing []string) {
	for _, r := range neededRights {
		if mask&(1<<r.bit) == 0 {
			missing = append(missing, r.name)
		}
	}
	return missing
}

// statusField returns a field of /proc/PID/status, "" if it is not there.
func statusField(status, name string) string {
	for line := range strings.Lines(status) {
		if v, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// rightsError says what is missing and what to do; nil when nothing is.
func rightsError(missing []string, uid int) error {
	if len(missing) == 0 {
		return nil
	}
	hint := "run it as root, for example with sudo"
	if uid == 0 {
		var add []string
		for _, m := range missing {
			add = append(add, "--cap-add "+strings.TrimPrefix(m, "CAP_"))
		}
		hint = "this is root without all its rights, as in a container: start the container with " + strings.Join(add, " ")
	}
	return api.Errorf(api.CodeFailed, hint, "this process lacks %s", inWords(missing, "and"))
}

// needRights fails when this process cannot save or bring back programs.
func needRights() error {
	missing, err := rights()
	if err != nil {
		return err
	}
	return rightsError(missing, os.Geteuid())
}
