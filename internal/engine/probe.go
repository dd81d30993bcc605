package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wakepoint/wakepoint/internal/abi"
	"github.com/wakepoint/wakepoint/internal/fanotify"
	"github.com/wakepoint/wakepoint/internal/memory"
	"github.com/wakepoint/wakepoint/internal/namespace"
	"github.com/wakepoint/wakepoint/internal/procfs"
	"github.com/wakepoint/wakepoint/internal/sockdiag"
	"github.com/wakepoint/wakepoint/internal/sys"
	"github.com/wakepoint/wakepoint/internal/tracee"
)

// Feature is one thing that this host's kernel can or cannot do.
type Feature struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Needed bool   `json:"needed"` // nothing works without it
	Detail string `json:"detail"`
	Hint   string `json:"hint,omitempty"`
}

// Probe tries the kernel features that the engine uses, by behaviour: each is
// used once, on a child made for it.
func Probe() []Feature {
	var out []Feature
	add := func(name string, needed bool, hint string, err error) {
		f := Feature{Name: name, OK: err == nil, Needed: needed, Detail: "works"}
		if err != nil {
			f.Detail, f.Hint = err.Error(), hint
		}
		out = append(out, f)
	}
	add("namespaces", true, "run as root with CAP_SYS_ADMIN", probeNamespaces())
	add("time namespace", true, "a kernel with CONFIG_TIME_NS is needed", probeInit())
	err := withChild(func(t *tracee.Thread, b *frozenSpace) error { return nil })
	add("ptrace and the gate in the vdso", true, "CAP_SYS_PTRACE is needed; boot without vdso=0", err)
	if err != nil {
		return out
	}
	add("pidfd_getfd", true, "Linux 5.6 or newer is needed", withChild(func(t *tracee.Thread, b *frozenSpace) error { return probePidfd(t.TID) }))
	add("kcmp", true, "a kernel with CONFIG_KCMP is needed", probeKcmp())
	add("map_files", true, "CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE is needed", probeMapFiles())
	add("write tracking (userfaultfd, PAGEMAP_SCAN)", false, "Linux 6.7 or newer; without it every checkpoint copies all memory",
		withChild(func(t *tracee.Thread, b *frozenSpace) error {
			m, err := memory.NewIncremental(t, &b.space)
			if err != nil {
				return err
			}
			return m.Close()
		}))
	add("files that are written and closed are captured (fanotify)", false, "run as root on a kernel with CONFIG_FANOTIFY; without it `--data DIR` captures a directory whole",
		fanotify.Probe(os.TempDir()))
	add("UNIX socket table (sock_diag)", true, "a kernel with CONFIG_UNIX_DIAG is needed", func() error { _, err := sockdiag.Unix(); return err }())
	return out
}

func probeNamespaces() error {
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = []string{namespace.Name}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWIPC}
	err := cmd.Start()
	if err != nil {
		return namespace.Explain(errors.Unwrap(err))
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	return nil
}

// probeInit starts an init with a time namespace, for a command that cannot
// be executed: that is what it must complain of.
func probeInit() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_, err := (&namespace.Spawn{Plan: namespace.Plan{Namespaces: true, Argv: []string{"/"}}}).Start(ctx)
	var refused *ExecError
	if errors.As(err, &refused) {
		return nil
	}
	return err
}

// withChild stops a child at its first instructions and prepares its space.
func withChild(f func(*tracee.Thread, *frozenSpace) error) error {
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = []string{namespace.Name} // it waits for a plan that never comes
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	defer w.Close()
	cmd.ExtraFiles = []*os.File{r, r, r, r, w} // the plan is read from descriptor 6
	if err := cmd.Start(); err != nil {
		return err
	}
	pid := cmd.Process.Pid
	tracer := tracee.New()
	defer tracer.Close()
	err = tracer.Do(func() error {
		defer func() {
			_ = cmd.Process.Kill()
		}()
		return probeTraced(tracer, pid, f)
	})
	_ = cmd.Wait()
	return err
}

func probeTraced(tracer *tracee.Tracer, pid int, f func(*tracee.Thread, *frozenSpace) error) error {
	arch := abi.Host(runtime.GOARCH)
	t, err := tracer.Seize(arch, pid, sys.OptionExitKill)
	if err != nil {
		return err
	}
	if err := t.Interrupt(); err != nil {
		return err
	}
	if err := t.WaitStop(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	t.TGID, t.NSTGID, t.NSTID = pid, pid, pid
	s := &frozenSpace{state: &spaceState{}, owner: &process{pid: pid}, tree: &Tree{proc: procfs.NewReader("/proc")}}
	if s.space.Mem, err = os.OpenFile(fmt.Sprintf("/proc/%d/mem", pid), os.O_RDWR, 0); err != nil {
		return err
	}
	defer s.close()
	if s.maps, err = procfs.NewReader("/proc").Maps(pid); err != nil {
		return err
	}
	tail, err := vdsoTail(s.maps)
	if err != nil {
		return err
	}
	if err := s.space.Install(arch, tail); err != nil {
		return err
	}
	if err := s.findPad(arch, t); err != nil {
		return err
	}
	return f(t, s)
}

func probePidfd(pid int) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	got, err := unix.PidfdGetfd(fd, 0, 0)
	if err != nil {
		return err
	}
	return unix.Close(got)
}

func probeKcmp() error {
	r, err := sys.Kcmp(os.Getpid(), os.Getpid(), sys.KcmpFile, 0, 0)
	if err == nil && r != 0 {
		err = errors.New("it says that a descriptor is not itself")
	}
	return err
}

func probeMapFiles() error {
	f, err := sys.SharedMemory(abi.PageSize)
	if err != nil {
		return err
	}
	return f.Close()
}
