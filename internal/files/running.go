package files

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// WrittenBy lists what running processes have open for writing or mapped
// shared: pid and those below it, or with below only these. CloseAll ends it.
// Whoever comes while it looks is looked at too, so that nothing is missed
// that a process of the tree maps from before the call until after it.
func WrittenBy(pid int, below bool) ([]Open, error) {
	var list []Open
	seen := map[int]bool{}
	for again := true; again; {
		again = false
		for _, pid := range treeOf(pid, below) {
			if seen[pid] {
				continue
			}
			seen[pid], again = true, true
			of, err := writtenBy(fmt.Sprintf("/proc/%d", pid))
			if err != nil && !gone(err) {
				CloseAll(append(list, of...))
				return nil, err
			}
			list = append(list, of...)
		}
	}
	return list, nil
}

// CloseAll closes the files of a list.
func CloseAll(list []Open) {
	for _, f := range list {
		_ = f.File.Close()
	}
}

// gone says of an error that the process, or what it had, has ended meanwhile.
func gone(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) }

// treeOf lists a process and its descendants, or with below only these.
func treeOf(pid int, below bool) []int {
	list := []int{pid}
	for i := 0; i < len(list); i++ {
		tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", list[i]))
		for _, t := range tasks {
			text, _ := os.ReadFile(t)
			for _, n := range strings.Fields(string(text)) {
				if pid, err := strconv.Atoi(n); err == nil {
					list = append(list, pid)
				}
			}
		}
	}
	if below {
		list = list[1:]
	}
	return list
}

// writtenBy is what one process has, by its directory in /proc.
func writtenBy(proc string) ([]Open, error) {
	var list []Open
	fds, err := os.ReadDir(proc + "/fd")
	if err != nil {
		return nil, err
	}
	for _, fd := range fds {
		flags, err := flagsOf(proc + "/fdinfo/" + fd.Name())
		if err != nil || flags&unix.O_PATH != 0 || flags&unix.O_ACCMODE == unix.O_RDONLY {
			continue // it is closed
		}
		if o, ok := openOf(proc + "/fd/" + fd.Name()); ok {
			o.Append = flags&unix.O_APPEND != 0
			list = append(list, o)
		}
	}
	maps, err := os.ReadFile(proc + "/maps")
	if err != nil {
		return list, err
	}
	for line := range bytes.Lines(maps) {
		f := bytes.Fields(line)
		if len(f) < 6 || len(f[1]) < 4 || f[1][3] != 's' || f[5][0] != '/' {
			continue
		}
		from, to, _ := strings.Cut(string(f[0]), "-") // there they have no leading zeros
		if o, ok := openOf(proc + "/map_files/" + strings.TrimLeft(from, "0") + "-" + strings.TrimLeft(to, "0")); ok {
			o.Mapped = true // or will be, for all that can be seen (mprotect(2))
			list = append(list, o)
		}
	}
	return list, nil
}

// openOf is the regular file behind a link of /proc.
func openOf(link string) (o Open, ok bool) {
	path, err := os.Readlink(link)
	if err != nil {
		return o, false
	}
	f, err := os.OpenFile(link, unix.O_PATH, 0) // of which nobody is told
	if err != nil {
		return o, false
	}
	st, err := f.Stat()
	if err != nil || !st.Mode().IsRegular() {
		_ = f.Close()
		return o, false
	}
	return Open{Path: path, File: f, Writable: true, Volatile: volatile(f)}, true
}

// volatile says that a file lies where a boot empties it.
func volatile(f *os.File) bool {
	var st unix.Statfs_t
	err := unix.Fstatfs(int(f.Fd()), &st)
	return err == nil && (int64(st.Type) == unix.TMPFS_MAGIC || int64(st.Type) == unix.RAMFS_MAGIC)
}

// flagsOf reads the flags of an open file (proc_pid_fdinfo(5)).
func flagsOf(fdinfo string) (int, error) {
	text, err := os.ReadFile(fdinfo)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if v, ok := strings.CutPrefix(line, "flags:"); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(v), 8, 64)
			return int(n), err
		}
	}
	return 0, fmt.Errorf("%s: no flags", fdinfo)
}
