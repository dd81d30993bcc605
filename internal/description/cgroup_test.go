package description

import (
	"slices"
	"testing"

	"github.com/wakepoint/wakepoint/internal/image"
)

// A program that holds a file of its own control group open, as every one of
// Go 1.25 does, finds that of the group in which it comes back.
func TestGroup(t *testing.T) {
	const one, two = "/sys/fs/cgroup", "/sys/fs/cgroup/memory"
	was := "4:memory:/jobs/a\n2:pids:/\n0::/user.slice/session-3.scope\n"
	now := "9:memory:/jobs/b/c\n0::/wakepoint.slice/wakepoint@web.service\n"
	there := []string{one + "/wakepoint.slice/wakepoint@web.service/cpu.max", one + "/wakepoint.slice/memory.max",
		two + "/jobs/b/memory.limit_in_bytes", one + "/user.slice/session-4.scope/cpu.max"}
	for _, c := range []struct{ path, group, want string }{
		{one + "/user.slice/session-3.scope/cpu.max", "0::/user.slice/session-3.scope", there[0]},
		{one + "/user.slice/session-3.scope/memory.max", "0::/user.slice/session-3.scope", there[1]}, // the nearest above
		{two + "/jobs/a/memory.limit_in_bytes", "4:memory:/jobs/a", there[2]},
		{one + "/user.slice/session-3.scope/io.max", "0::/user.slice/session-3.scope", "/dev/null"}, // none has it
		{one + "/user.slice/session-4.scope/cpu.max", "", ""},                                       // of others
		{one + "/cpu.max", "", ""},
	} {
		group := groupOf(was, c.path)
		if group != c.group {
			t.Errorf("%s is of %q, want %q", c.path, group, c.group)
		}
		if c.group == "" {
			continue
		}
		d := &image.Description{Kind: image.Regular, Path: c.path, Cgroup: c.group}
		if got := inGroup(d, now, func(path string) bool { return slices.Contains(there, path) }); got != c.want {
			t.Errorf("%s is then %s, want %s", c.path, got, c.want)
		}
	}
}
