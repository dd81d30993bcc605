package procfs

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"syscall"
	"testing"
)

// TestLiveSelf parses what the kernel says of this very process.
func TestLiveSelf(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	r, pid, tid := NewReader("/proc"), os.Getpid(), syscall.Gettid()
	stat, err := r.TaskStat(pid, tid)
	if err != nil {
		t.Fatal(err)
	}
	if stat.PID != tid || stat.PPID != os.Getppid() || stat.State != 'R' || stat.ArgStart == 0 {
		t.Errorf("got %+v", stat)
	}
	status, err := r.Status(pid)
	if err != nil {
		t.Fatal(err)
	}
	if status.Pid != pid || status.Uid[0] != uint32(os.Getuid()) || !status.Memory.Present || status.Map()["Pid"] == "" {
		t.Errorf("got %+v", status)
	}
	tasks, err := r.Tasks(pid)
	if err != nil || !slices.Contains(tasks, tid) {
		t.Errorf("tasks %v, %v", tasks, err)
	}
	maps, err := r.Maps(pid)
	if err != nil {
		t.Fatal(err)
	}
	if i := slices.IndexFunc(maps, func(m Mapping) bool { return m.Path == "[vdso]" }); i < 0 || maps[i].Prot&ProtExec == 0 {
		t.Errorf("no vdso among %d mappings", len(maps))
	}
}

// TestLiveDescriptors opens a file and finds it.
func TestLiveDescriptors(t *testing.T) {
	r, pid := NewReader("/proc"), os.Getpid()
	f, err := os.CreateTemp(t.TempDir(), "a\nb*")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString("12345"); err != nil {
		t.Fatal(err)
	}
	fd := int(f.Fd())
	if fds, err := r.FDs(pid); err != nil || !slices.Contains(fds, fd) {
		t.Errorf("fds %v, %v", fds, err)
	}
	if l, err := r.FDLink(pid, fd); err != nil || l != (Link{Path: f.Name()}) {
		t.Errorf("got %+v, %v", l, err)
	}
	info, err := r.Fdinfo(pid, fd)
	if err != nil || info.Pos != 5 || info.Flags&syscall.O_ACCMODE != syscall.O_RDWR || info.Flags&syscall.O_CLOEXEC == 0 {
		t.Errorf("got %+v, %v", info, err)
	}
	if err := os.Remove(f.Name()); err != nil {
		t.Fatal(err)
	}
	if l, err := r.FDLink(pid, fd); err != nil || l != (Link{Path: f.Name(), Deleted: true}) {
		t.Errorf("got %+v, %v", l, err)
	}
}

// TestDescendants: a shell and what it has started are below this process.
func TestDescendants(t *testing.T) {
	cmd := exec.Command("sh", "-c", "sleep 1000 & echo $!; wait")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var sleep int
	if _, err := fmt.Fscan(out, &sleep); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = syscall.Kill(sleep, syscall.SIGKILL)
		_ = cmd.Wait()
	}()
	r := NewReader("/proc")
	list := r.Descendants(os.Getpid())
	if shell := slices.Index(list, cmd.Process.Pid); list[0] != os.Getpid() || shell < 1 || slices.Index(list, sleep) < shell {
		t.Errorf("%v, not %d, %d and %d", list, os.Getpid(), cmd.Process.Pid, sleep)
	}
	if got := r.Descendants(sleep); !slices.Equal(got, []int{sleep}) {
		t.Errorf("%v below %d", got, sleep)
	}
}

// TestLiveAll parses all that this machine runs.
func TestLiveAll(t *testing.T) {
	r := NewReader("/proc")
	pids, err := r.Processes()
	if err != nil || !slices.Contains(pids, os.Getpid()) {
		t.Fatalf("%d processes, %v", len(pids), err)
	}
	for _, pid := range pids {
		ok := func(what string, err error) {
			t.Helper()
			if err != nil && !IsGone(err) && !os.IsPermission(err) {
				t.Errorf("%s of %d: %v", what, pid, err)
			}
		}
		tasks, err := r.Tasks(pid)
		ok("tasks", err)
		for _, tid := range tasks {
			liveTask(r, pid, tid, ok)
		}
		liveProcess(r, pid, ok)
	}
}

func liveProcess(r *Reader, pid int, ok func(what string, err error)) {
	_, err := r.Stat(pid)
	ok("stat", err)
	_, err = r.Status(pid)
	ok("status", err)
	_, err = r.Maps(pid)
	ok("maps", err)
	_, err = r.Smaps(pid)
	ok("smaps", err)
	_, err = r.Limits(pid)
	ok("limits", err)
	_, err = r.Timers(pid)
	ok("timers", err)
	if _, err = r.Mounts(pid); !errors.Is(err, syscall.EINVAL) { // a zombie
		ok("mountinfo", err)
	}
	_, err = r.Unix(pid)
	ok("unix", err)
	_, err = r.Auxv(pid)
	ok("auxv", err)
	_, err = r.LoginUID(pid)
	ok("loginuid", err)
	_, err = r.OOMScoreAdj(pid)
	ok("oom_score_adj", err)
	_, err = r.CoredumpFilter(pid)
	ok("coredump_filter", err)
	_, err = r.Cmdline(pid)
	ok("cmdline", err)
	_, err = r.Environ(pid)
	ok("environ", err)
	_, err = r.Exe(pid)
	ok("exe", err)
	fds, err := r.FDs(pid)
	ok("fds", err)
	for _, fd := range fds {
		_, err = r.FDLink(pid, fd)
		ok("fd link", err)
		_, err = r.Fdinfo(pid, fd)
		ok("fdinfo", err)
	}
}

func liveTask(r *Reader, pid, tid int, ok func(what string, err error)) {
	_, err := r.TaskStat(pid, tid)
	ok("stat", err)
	_, err = r.TaskStatus(pid, tid)
	ok("status", err)
	_, err = r.Children(pid, tid)
	ok("children", err)
	_, err = r.Namespaces(pid, tid)
	ok("ns", err)
	_, err = r.Cwd(pid, tid)
	ok("cwd", err)
	_, err = r.Root(pid, tid)
	ok("root", err)
	_, err = r.Sched(pid, tid)
	ok("sched", err)
	_, err = r.Personality(pid, tid)
	ok("personality", err)
	_, err = r.TimerSlack(tid)
	ok("timerslack_ns", err)
}

// TestLiveMachine parses the files that belong to no process.
func TestLiveMachine(t *testing.T) {
	r := NewReader("/proc")
	_, err1 := r.Locks()
	_, err2 := r.SharedMemory()
	_, err3 := r.Semaphores()
	_, err4 := r.MessageQueues()
	for i, err := range []error{err1, err2, err3, err4} {
		if IsGone(err) {
			t.Logf("this kernel has no %v", err)
		} else if err != nil {
			t.Errorf("%d: %v", i+1, err)
		}
	}
}

// TestLiveAgrees compares what the files say with what the system calls say.
func TestLiveAgrees(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	r, pid, tid := NewReader("/proc"), os.Getpid(), syscall.Gettid()
	limits, err := r.Limits(pid)
	if err != nil {
		t.Fatal(err)
	}
	for i, got := range limits {
		var want syscall.Rlimit
		if err := syscall.Getrlimit(i, &want); err != nil {
			t.Fatal(err)
		}
		// RLIMIT_NOFILE is what Go pretends it to be.
		if got != (Limit{want.Cur, want.Max}) && i != syscall.RLIMIT_NOFILE {
			t.Errorf("limit %d: got %v, want %v", i, got, want)
		}
	}
	auxv, err := r.Auxv(pid)
	const pageSize = 6
	if v, _ := auxv.Value(pageSize); err != nil || v != uint64(os.Getpagesize()) {
		t.Errorf("page size %d, %v", v, err)
	}
	cmdline, err := r.Cmdline(pid)
	if err != nil || !slices.Equal(cmdline, os.Args) {
		t.Errorf("cmdline %q, %v", cmdline, err)
	}
	ns, err := r.Namespaces(pid, tid)
	info, err2 := os.Stat("/proc/self/ns/mnt")
	if err != nil || err2 != nil || ns.Mnt != info.Sys().(*syscall.Stat_t).Ino {
		t.Errorf("namespaces %+v, %v, %v", ns, err, err2)
	}
}
