package procfs

import (
	"os"
	"slices"
)

// Holder finds a process that was started under a name (argv[0]) and has the
// file of a path open; os.ErrNotExist when there is none.
func (r *Reader) Holder(name, path string) (pid int, err error) {
	list, err := r.Processes()
	if err != nil {
		return 0, err
	}
	for _, pid := range list {
		if args, err := r.Cmdline(pid); err != nil || len(args) == 0 || args[0] != name {
			continue
		}
		fds, _ := r.FDs(pid)
		if slices.ContainsFunc(fds, func(fd int) bool {
			to, err := r.FDLink(pid, fd)
			return err == nil && to.Path == path && !to.Deleted
		}) {
			return pid, nil
		}
	}
	return 0, os.ErrNotExist
}
