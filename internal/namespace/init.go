// Package namespace starts the init of a process tree in namespaces of its own:
// PIDs, mounts, System V IPC and clocks.
package namespace

import (
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/wakepoint/wakepoint/internal/abi"
	"github.com/wakepoint/wakepoint/internal/fanotify"
)

// Name is argv[0] by which a process knows that it is to become an init.
const Name = "wakepoint-init"

// Descriptors of the process that becomes the init.
const (
	FDRecord = 3 // kept: where the command's end is recorded
	FDMaster = 4 // kept: the master of the terminal
	fdWait   = 5 // the init waits for its end of file, see package abi
	fdConfig = 6
	fdReport = 7
	fdStdio  = 8  // 8, 9, 10: the command's standard streams
	FDSelf   = 11 // while a tree is being built: a pidfd of the builder
	fdTime   = 12 // the time namespace to enter
	fdHelper = 13 // the program that becomes the init
	fdEnter  = 14 // what enters the one and executes the other; then, kept:
	FDWatch  = 14 // the group that is told of files that are written and closed (package fanotify)
)

// Plan tells the init what to set up; it comes as gob on fdConfig: arguments are bytes, which JSON would change.
type Plan struct {
	Namespaces bool
	Sealed     bool // the kernel's settings below /proc are read-only
	Argv, Env  []string
	Dir        string
	Umask      int
	Terminal   bool
	Rows, Cols uint16
	FirstPID   int        // PIDs inside begin above this number, if the kernel can
	Inherit    *Inherited // what the command gets instead of what the init has; nil: that
	Restore    int        // not 0: start nothing, the tree is built from outside; the command will have this number
}

// result is the init's answer on fdReport, before it turns itself into
// the stub. No answer at all means that it died.
type result struct {
	Command int    // in the new PID namespace
	Mounts  []byte // see Init
	What    string
	Path    string
	Errno   int
}

// ExecError says that the command could not be executed.
type ExecError struct {
	Path string
	Err  error
}

func (e *ExecError) Error() string { return fmt.Sprintf("execute %s: %v", e.Path, e.Err) }

// Unwrap returns the cause: os.ErrNotExist, os.ErrPermission and so on.
func (e *ExecError) Unwrap() error { return e.Err }

// Main turns this process into the init of a tree when it was started as
// one; it returns at once otherwise. It must be the first thing that main does.
func Main() {
	if len(os.Args) == 0 || os.Args[0] != Name {
		return
	}
	runtime.LockOSThread()
	report := os.NewFile(fdReport, "report")
	r := becomeInit()
	_ = json.NewEncoder(report).Encode(r)
	os.Exit(1)
}

// becomeInit does not return unless something went wrong.
func becomeInit() result {
	fail := func(what string, err error) result {
		r := result{What: what}
		var xe *ExecError
		if errors.As(err, &xe) {
			r.Path = xe.Path
		}
		var no syscall.Errno
		if errors.As(err, &no) {
			r.Errno = int(no)
		} else {
			r.What += ": " + err.Error()
		}
		return r
	}
	var plan Plan
	watched := false
	if err := gob.NewDecoder(os.NewFile(fdConfig, "config")).Decode(&plan); err != nil {
		return fail("read the plan", err)
	}
	// Nothing of ours is for the command.
	if err := unix.CloseRange(FDRecord, 1<<20, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fail("close descriptors", err)
	}
	if plan.Namespaces {
		if err := mountOwn(); err != nil {
			return fail("set up the mounts", err)
		}
		if plan.Sealed {
			if err := sealProc(); err != nil {
				return fail("seal /proc", err)
			}
		}
		firstPID(plan.FirstPID)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return fail("read the mounts", err)
	}
	if plan.Namespaces {
		watched = watchMounts(mounts) == nil
	} else if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fail("become a subreaper", err)
	}
	slave, err := openTerminal(plan)
	if err != nil {
		return fail("open a terminal", err)
	}
	answer := result{Command: plan.Restore, Mounts: mounts}
	if answer.Command == 0 {
		if answer.Command, err = startCommand(plan, slave); err != nil {
			return fail("start the command", err)
		}
	}
	return fail("become the init", becomeStub(answer, plan.Restore != 0, watched))
}

// mountOwn gives the namespace its own /proc and /dev/pts. Everything else
// stays a slave of the host's mounts: what is mounted there later appears.
func mountOwn() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("make / a slave: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	if _, err := os.Stat("/dev/pts"); err != nil {
		return nil
	}
	err := unix.Mount("devpts", "/dev/pts", "devpts", unix.MS_NOSUID|unix.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5")
	if err != nil {
		return fmt.Errorf("mount /dev/pts: %w", err)
	}
	return nil
}

// settings are what of /proc changes the whole host.
var settings = []string{"sys", "sysrq-trigger", "irq", "bus"}

// sealProc makes the host's settings read-only.
func sealProc() error {
	for _, name := range settings {
		path := "/proc/" + name
		if _, err := os.Stat(path); err != nil {
			continue
		}
		if err := unix.Mount(path, path, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return fmt.Errorf("bind %s: %w", path, err)
		}
		if err := unix.Mount("", path, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
			return fmt.Errorf("remount %s: %w", path, err)
		}
	}
	return nil
}

// watchMounts marks the mounts before anything of the tree runs. The group
// outlives keepers, and what is closed while none reads waits for the next.
// Where that is not possible the keeper tries, and says what it misses.
func watchMounts(mountinfo []byte) error {
	group, err := fanotify.Open()
	if err != nil {
		return err
	}
	defer unix.Close(group)
	if _, err := fanotify.MarkAll(group, os.Getpid(), mountinfo); err != nil {
		return err
	}
	return unix.Dup3(group, FDWatch, unix.O_CLOEXEC)
}

// firstPID moves the namespace's PID counter above the host's range where the
// kernel has a range per namespace (6.14) or the host's is not the largest.
func firstPID(above int) {
	b, err := os.ReadFile("/proc/sys/kernel/pid_max")
	if err != nil {
		return
	}
	inside, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || inside < above+10000 {
		return
	}
	_ = os.WriteFile("/proc/sys/kernel/ns_last_pid", []byte(strconv.Itoa(above+99)), 0)
}

// openTerminal opens the tree's terminal: the master becomes FDMaster.
func openTerminal(plan Plan) (*os.File, error) {
	if !plan.Terminal {
		return nil, nil
	}
	fd, err := unix.Open("/dev/pts/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.Dup3(fd, FDMaster, unix.O_CLOEXEC); err != nil {
		return nil, err
	}
	_ = unix.Close(fd)
	n, err := unix.IoctlGetInt(FDMaster, unix.TIOCGPTN)
	if err != nil {
		return nil, err
	}
	if err := unix.IoctlSetPointerInt(FDMaster, unix.TIOCSPTLCK, 0); err != nil {
		return nil, err
	}
	if plan.Rows > 0 && plan.Cols > 0 {
		ws := &unix.Winsize{Row: plan.Rows, Col: plan.Cols}
		if err := unix.IoctlSetWinsize(FDMaster, unix.TIOCSWINSZ, ws); err != nil {
			return nil, err
		}
	}
	return os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
}

// startCommand starts the command as a child in a session of its own.
func startCommand(plan Plan, slave *os.File) (int, error) {
	attr := &syscall.ProcAttr{Dir: plan.Dir, Env: plan.Env,
		Files: []uintptr{fdStdio, fdStdio + 1, fdStdio + 2},
		Sys:   &syscall.SysProcAttr{Setsid: true}}
	if slave != nil {
		fd := slave.Fd()
		attr.Files = []uintptr{fd, fd, fd}
		attr.Sys.Setctty = true
	}
	if plan.Dir != "" {
		if err := os.Chdir(plan.Dir); err != nil {
			return 0, &ExecError{plan.Dir, err}
		}
	}
	path, err := lookPath(plan.Argv[0], plan.Env)
	if err != nil {
		return 0, err
	}
	unix.Umask(plan.Umask)
	if plan.Inherit != nil {
		if err := plan.Inherit.set(); err != nil {
			return 0, err
		}
	}
	pid, err := syscall.ForkExec(path, plan.Argv, attr)
	if err != nil {
		return 0, &ExecError{plan.Argv[0], err}
	}
	return pid, nil
}

// lookPath finds a command by the PATH of its own environment.
func lookPath(name string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	var found error = syscall.ENOENT
	for _, e := range env {
		list, ok := strings.CutPrefix(e, "PATH=")
		if !ok {
			continue
		}
		for _, dir := range filepath.SplitList(list) {
			p := filepath.Join(dir, name)
			st, err := os.Stat(p)
			if err != nil || st.IsDir() {
				continue
			}
			if unix.Access(p, unix.X_OK) == nil {
				return p, nil
			}
			found = syscall.EACCES
		}
	}
	return "", &ExecError{name, found}
}

// becomeStub replaces this program by the init of package abi.
func becomeStub(answer result, building, watched bool) error {
	fd, err := unix.MemfdCreate(Name, unix.MFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("memfd: %w", err)
	}
	if _, err := unix.Write(fd, abi.Host(runtime.GOARCH).InitELF(answer.Command)); err != nil {
		return fmt.Errorf("write init: %w", err)
	}
	path := "/proc/self/fd/" + strconv.Itoa(fd)
	ro, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("reopen init: %w", err)
	}
	_ = unix.Close(fd)
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	for i := range 3 {
		if err := unix.Dup3(null, i, 0); err != nil {
			return err
		}
	}
	report := os.NewFile(fdReport, "report")
	if err := json.NewEncoder(report).Encode(answer); err != nil {
		return err
	}
	_ = unix.Chdir("/")
	keep := []int{FDRecord, FDMaster, fdWait}
	if building {
		keep = append(keep, FDSelf)
	}
	if watched {
		keep = append(keep, FDWatch)
	}
	for _, fd := range keep {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0); err != nil {
			return err
		}
	}
	return syscall.Exec("/proc/self/fd/"+strconv.Itoa(ro), []string{Name}, nil)
}
