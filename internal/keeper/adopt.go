package keeper

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/wakepoint/wakepoint/internal/api"
	"github.com/wakepoint/wakepoint/internal/engine"
	"github.com/wakepoint/wakepoint/internal/procfs"
)

// describeProcess fills in the spec of a process that is adopted.
func describeProcess(spec *api.Spec) error {
	pid := spec.Adopt
	dir := "/proc/" + strconv.Itoa(pid)
	if pid <= 0 || startTicks(pid) == 0 {
		if _, err := os.Stat(dir); err == nil && pid > 0 {
			return api.Errorf(api.CodeRefused, "its parent has yet to take its exit code", "process %d has ended: it is a zombie", pid)
		}
		return api.Errorf(api.CodeFailed, "", "there is no process %d", pid)
	}
	r := procfs.NewReader("/proc")
	spec.Argv, _ = r.Cmdline(pid)
	spec.Env, _ = r.Environ(pid)
	exe, err := os.Readlink(dir + "/exe")
	if err != nil && len(spec.Argv) == 0 {
		return api.Errorf(api.CodeRefused, "", "process %d is a kernel thread", pid)
	}
	if len(spec.Argv) == 0 {
		spec.Argv = []string{exe}
	}
	own := len(spec.Argv) > 1 && (spec.Argv[1] == "_keeper" || spec.Argv[1] == "_guard") || spec.Argv[0] == "wakepoint-init"
	if own || pid == os.Getpid() {
		return api.Errorf(api.CodeRefused, "name a process of your program", "process %d belongs to wakepoint itself", pid)
	}
	if pid == 1 || slices.Contains(r.Line(os.Getpid()), pid) {
		return api.Errorf(api.CodeRefused, "name another program, or adopt it from a shell that it has not started", "process %d is what this command was started by: it would have to freeze itself", pid)
	}
	spec.Dir, _ = os.Readlink(dir + "/cwd")
	return nil
}

// reserve makes a process the one that a workload's first run looks after,
// unless another workload does: one program has one keeper. Nobody else
// reserves until free is called, when the run record is written.
func (s Site) reserve(run *runRecord, spec api.Spec) (free func(), err error) {
	if run.Handle, err = engine.HandleOf(engine.PID(spec.Adopt)); err != nil {
		return nil, err
	}
	run.Handle.Cut = spec.Cut
	// A lock of its own: nobody else locks this directory.
	d, err := os.Open(filepath.Join(s.StoreDir, "workloads"))
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(d.Fd()), unix.LOCK_EX); err != nil {
		d.Close()
		return nil, fmt.Errorf("lock the workloads: %w", err)
	}
	if err := s.unprotected(spec); err != nil {
		d.Close()
		return nil, err
	}
	return func() { d.Close() }, nil
}

// unprotected refuses a process that belongs to another workload, is part of
// one, or has one below it.
func (s Site) unprotected(spec api.Spec) error {
	st, err := s.open()
	if err != nil {
		return err
	}
	names, err := st.Names()
	if err != nil {
		return err
	}
	line := procfs.NewReader("/proc").Line(spec.Adopt)
	for _, name := range names {
		if name == spec.Name {
			continue
		}
		w, err := st.Workload(name)
		if err != nil {
			continue
		}
		var run runRecord
		if err := getRecord(w, recordRun, &run); err != nil || !run.Wanted || !(realMachine{}).Alive(run.Handle) {
			continue
		}
		command, head := int(run.Handle.Command), int(run.Handle.Init)
		hint := "see `wakepoint status " + name + "`"
		switch {
		case command == spec.Adopt:
			return api.Errorf(api.CodeFailed, hint, "process %d is protected already, as %s", spec.Adopt, name)
		case slices.Contains(line, command), head != 0 && slices.Contains(line, head):
			return api.Errorf(api.CodeRefused, hint, "process %d is part of %s, which is protected already", spec.Adopt, name)
		case slices.Contains(procfs.NewReader("/proc").Line(command), spec.Adopt):
			return api.Errorf(api.CodeRefused, hint+", or `wakepoint rm "+name+"` first", "process %d is above %s, which is protected already", spec.Adopt, name)
		}
	}
	return nil
}
