package namespace

import (
	"bytes"
	"context"
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/wakepoint/wakepoint/internal/abi"
)

// Spawn says how an init is started.
type Spawn struct {
	Plan    Plan
	Helper  string   // a program whose main calls Main first; "" is /proc/self/exe
	Record  *os.File // the init writes the command's wait status here
	HostIPC bool
	Stdio   [3]*os.File // nil: /dev/null
	// Offsets of the time namespace, ns; the clocks inside show the host's plus these.
	Monotonic, Boottime int64
}

// Init is an init that has been started.
type Init struct {
	cmd     *exec.Cmd
	PID     int
	Command int // number of the command inside
	// Mounts is the text of its mountinfo before anything of the tree ran: the
	// host may have unmounted some by the time that anybody else can look.
	Mounts []byte
	wait   *os.File
	Ended  chan struct{} // closed when the init was reaped
}

// Release lets the init go on past its wait.
func (p *Init) Release() {
	if p.wait != nil {
		_ = p.wait.Close()
		p.wait = nil
	}
}

// Start starts the init. A command that cannot be executed is an *ExecError,
// and nothing is left then.
func (s *Spawn) Start(ctx context.Context) (*Init, error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	var config bytes.Buffer
	if err := gob.NewEncoder(&config).Encode(s.Plan); err != nil {
		return nil, err
	}
	pipes, err := newPipes()
	if err != nil {
		return nil, err
	}
	defer pipes.close()
	helper := s.Helper
	if helper == "" {
		helper = "/proc/self/exe"
	}
	pidfd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		return nil, err
	}
	self := os.NewFile(uintptr(pidfd), "self")
	defer self.Close()
	flags := uintptr(0)
	if s.Plan.Namespaces {
		flags = unix.CLONE_NEWPID | unix.CLONE_NEWNS
		if !s.HostIPC {
			flags |= unix.CLONE_NEWIPC
		}
	}
	or := func(f *os.File) *os.File {
		if f == nil {
			return null
		}
		return f
	}
	entry, err := s.entry(helper)
	if err != nil {
		return nil, fmt.Errorf("start an init: %w", err)
	}
	defer entry.close()
	cmd := &exec.Cmd{Path: enterPath, Args: []string{Name}, Env: []string{"GOMAXPROCS=1"},
		SysProcAttr: &syscall.SysProcAttr{Setsid: true, Cloneflags: flags},
		ExtraFiles: append([]*os.File{or(s.Record), null, pipes.waitR, pipes.configR, pipes.reportW,
			or(s.Stdio[0]), or(s.Stdio[1]), or(s.Stdio[2]), self}, entry[:]...)}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start an init: %w", Explain(err))
	}
	p := &Init{cmd: cmd, PID: cmd.Process.Pid, Ended: make(chan struct{})}
	pipes.closeChild()
	if _, err := pipes.configW.Write(config.Bytes()); err == nil {
		_ = pipes.configW.Close()
	}
	if err := p.report(ctx, pipes.reportR); err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return nil, err
	}
	p.wait, pipes.waitW = pipes.waitW, nil
	return p, p.reapWhenEnded()
}

// reapWhenEnded waits for the init's end by a pidfd. A plain wait would take
// the stops of a traced init away from its tracer, whatever its options.
func (p *Init) reapWhenEnded() error {
	pidfd, err := unix.PidfdOpen(p.PID, 0)
	if err != nil {
		return err
	}
	go func() {
		fds := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
		for fds[0].Revents == 0 {
			if _, err := unix.Poll(fds, -1); err != nil && err != unix.EINTR {
				break
			}
		}
		_ = unix.Close(pidfd)
		_ = p.cmd.Wait()
		close(p.Ended)
	}()
	return nil
}

// report reads the init's answer up to its end of file, which says that the
// stub was executed.
func (p *Init) report(ctx context.Context, r *os.File) error {
	stop := context.AfterFunc(ctx, func() { _ = r.Close() })
	defer stop()
	b, err := io.ReadAll(r)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("hear from the init: %w", err)
	}
	last := result{What: "the init died before it answered"}
	dec := json.NewDecoder(strings.NewReader(string(b)))
	for dec.More() {
		if err := dec.Decode(&last); err != nil {
			return fmt.Errorf("hear from the init: %w", err)
		}
	}
	if last.What == "" {
		p.Command, p.Mounts = last.Command, last.Mounts
		return nil
	}
	err = fmt.Errorf("%s", last.What)
	if last.Errno != 0 {
		err = syscall.Errno(last.Errno)
	}
	if last.Path != "" {
		return &ExecError{last.Path, err}
	}
	return fmt.Errorf("init: %s: %w", last.What, err)
}

// A child that shares memory with its parent, as every child that os/exec
// starts does up to its exec, cannot be born in another time namespace before
// Linux 6.2: clone(2) says EINVAL. So it is born in ours, executes a program
// of a few instructions that joins the namespace with setns(2), for which a
// process must have one thread, and that executes what was meant.

// enterAMD64 is testdata/enter_amd64.s.txt, assembled. The last 8 bytes are
// the descriptors of the namespace and of the program to execute.
var enterAMD64 = []byte{
	0x8b, 0x3d, 0x4a, 0x00, 0x00, 0x00, 0xbe, 0x80, 0x00, 0x00, 0x00, 0xb8,
	0x34, 0x01, 0x00, 0x00, 0x0f, 0x05, 0x85, 0xc0, 0x75, 0x28, 0x8b, 0x3d,
	0x38, 0x00, 0x00, 0x00, 0x48, 0x8d, 0x35, 0x26, 0x00, 0x00, 0x00, 0x48,
	0x8d, 0x54, 0x24, 0x08, 0x48, 0x8b, 0x04, 0x24, 0x4c, 0x8d, 0x54, 0xc4,
	0x10, 0x41, 0xb8, 0x00, 0x10, 0x00, 0x00, 0xb8, 0x42, 0x01, 0x00, 0x00,
	0x0f, 0x05, 0x89, 0xc7, 0xf7, 0xdf, 0xb8, 0xe7, 0x00, 0x00, 0x00, 0x0f,
	0x05, 0x00, 0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
	0x00, 0x00, 0x00, 0x00,
}

// enterELF is the executable that joins the time namespace at one descriptor
// and executes the program at another.
func enterELF(arch *abi.Arch, namespace, program int) []byte {
	a := *arch
	if a.Machine != abi.AMD64.Machine {
		return nil
	}
	a.Init = enterAMD64
	return a.InitELF(namespace | program<<32)
}

// enterPath is where a nascent init finds the executable of openEnter.
var enterPath = "/proc/self/fd/" + strconv.Itoa(fdEnter)

// openEnter returns the executable for the descriptors of a nascent init.
func openEnter() (*os.File, error) {
	code := enterELF(abi.Host(runtime.GOARCH), fdTime, fdHelper)
	if code == nil {
		return nil, fmt.Errorf("enter a time namespace: no code for %s", runtime.GOARCH)
	}
	// A child that another thread starts meanwhile would hold the file open
	// for writing, and then it cannot be executed.
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	fd, err := unix.MemfdCreate("wakepoint-enter", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("memfd: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	if _, err := unix.Write(fd, code); err != nil {
		return nil, fmt.Errorf("write the entry: %w", err)
	}
	return os.Open("/proc/self/fd/" + strconv.Itoa(fd))
}

// entry is what a nascent init has open at fdTime, fdHelper and fdEnter.
type entry [3]*os.File

func (e *entry) close() {
	for _, f := range e {
		if f != nil {
			_ = f.Close()
		}
	}
}

func (s *Spawn) entry(helper string) (e entry, err error) {
	defer func() {
		if err != nil {
			e.close()
		}
	}()
	if e[0], err = s.timeNamespace(); err != nil {
		return e, err
	}
	if e[1], err = os.Open(helper); err != nil {
		return e, err
	}
	e[2], err = openEnter()
	return e, err
}

// timeNamespace makes a time namespace. The offsets are written before the
// first process enters (time_namespaces(7)). The thread that made it ends.
func (s *Spawn) timeNamespace() (*os.File, error) {
	type result struct {
		f   *os.File
		err error
	}
	done := make(chan result, 1)
	go func() {
		runtime.LockOSThread()
		f, err := s.newTimeNamespace()
		done <- result{f, err}
	}()
	r := <-done
	return r.f, r.err
}

func (s *Spawn) newTimeNamespace() (*os.File, error) {
	if err := unix.Unshare(unix.CLONE_NEWTIME); err != nil {
		return nil, fmt.Errorf("new time namespace: %w", Explain(err))
	}
	dir := "/proc/" + strconv.Itoa(unix.Gettid())
	if s.Monotonic != 0 || s.Boottime != 0 {
		text := fmt.Sprintf("monotonic %s\nboottime %s\n", offset(s.Monotonic), offset(s.Boottime))
		if err := os.WriteFile(dir+"/timens_offsets", []byte(text), 0); err != nil {
			return nil, fmt.Errorf("set the clocks: %w", err)
		}
	}
	return os.Open(dir + "/ns/time_for_children")
}

// offset prints nanoseconds as timens_offsets wants them: whole seconds,
// rounded down, and nanoseconds from 0 on.
func offset(ns int64) string {
	sec := ns / 1e9
	if ns%1e9 < 0 {
		sec--
	}
	return fmt.Sprintf("%d %d", sec, ns-sec*1e9)
}

// pipeSet are the pipes between us and a nascent init.
type pipeSet struct {
	waitR, waitW, configR, configW, reportR, reportW *os.File
}

func newPipes() (*pipeSet, error) {
	p := new(pipeSet)
	for _, ends := range [][2]**os.File{{&p.waitR, &p.waitW}, {&p.configR, &p.configW}, {&p.reportR, &p.reportW}} {
		r, w, err := os.Pipe()
		if err != nil {
			p.close()
			return nil, err
		}
		*ends[0], *ends[1] = r, w
	}
	return p, nil
}

func (p *pipeSet) closeChild() {
	for _, f := range []**os.File{&p.waitR, &p.configR, &p.reportW} {
		_ = (*f).Close()
		*f = nil
	}
}

func (p *pipeSet) close() {
	for _, f := range []*os.File{p.waitR, p.waitW, p.configR, p.configW, p.reportR, p.reportW} {
		if f != nil {
			_ = f.Close()
		}
	}
}

// PIDMax is the number above which no PID of this namespace lies.
func PIDMax() int {
	b, err := os.ReadFile("/proc/sys/kernel/pid_max")
	if err != nil {
		return 0
	}
	n, _ := strconv.Atoi(strings.TrimSpace(string(b)))
	return n
}

// Explain turns the EPERM of namespaces into words.
func Explain(err error) error {
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("%w (CAP_SYS_ADMIN is needed)", err)
	}
	return err
}
