package description

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/wakepoint/wakepoint/internal/image"
)

// groups is where control groups are mounted (systemd's file-hierarchy(7)).
const groups = "/sys/fs/cgroup/"

// OwnGroup returns the path of an open file, and the control group of the
// process to which it belongs, as a line of /proc/PID/cgroup; "" when it belongs
// to none of them. Such a file comes and goes with a controller of the group: its
// path is as if it were there. Programs keep them open to learn their limits
// (Go 1.25: cpu.max).
func OwnGroup(pid int, link string) (path, group string) {
	if !strings.HasPrefix(link, groups) {
		return link, ""
	}
	if group = groupOf(groupsOf(pid), link); group == "" {
		return link, ""
	}
	return strings.TrimSuffix(link, " (deleted)"), group
}

// groupsOf returns /proc/PID/cgroup; a process that has ended has none.
func groupsOf(pid int) string {
	list, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	return string(list)
}

func groupOf(list, path string) string {
	for line := range strings.Lines(list) {
		line = strings.TrimSpace(line)
		if _, group := cutGroup(line); group != "/" && group != "" && strings.HasSuffix(filepath.Dir(path), group) {
			return line
		}
	}
	return ""
}

// InGroup returns the path of a description's file: for one of its process's
// own control group that in the group where process pid is, or the nearest
// above that has it; where none has, nothing is to be read. inside is a path as
// this process reaches it.
func InGroup(d *image.Description, pid int, inside func(string) string) string {
	if d.Cgroup == "" {
		return d.Path
	}
	return inGroup(d, groupsOf(pid), func(path string) bool {
		_, err := os.Stat(inside(path))
		return err == nil
	})
}

func inGroup(d *image.Description, list string, exists func(string) bool) string {
	controllers, group := cutGroup(d.Cgroup)
	mount := strings.TrimSuffix(filepath.Dir(d.Path), group)
	for line := range strings.Lines(list) {
		c, now := cutGroup(strings.TrimSpace(line))
		for c == controllers && len(now) > 1 {
			path := filepath.Join(mount, now, filepath.Base(d.Path))
			if exists(path) {
				return path
			}
			now = filepath.Dir(now)
		}
	}
	if d.Kind == image.Regular {
		return os.DevNull
	}
	return d.Path
}

// cutGroup splits a line of /proc/PID/cgroup (cgroups(7)). The number of a
// hierarchy is of one boot only.
func cutGroup(line string) (controllers, group string) {
	_, rest, _ := strings.Cut(line, ":")
	controllers, group, _ = strings.Cut(rest, ":")
	return controllers, group
}
