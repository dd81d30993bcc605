package engine

import (
	"context"
	"encoding/json"
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

// StartOptions says what to run and where.
type StartOptions struct {
	Argv   []string // Argv[0] is looked up in PATH of Env
	Env    []string
	Dir    string
	Umask  int
	Stdin  *os.File // nil: /dev/null
	Stdout *os.File // the output file, opened O_APPEND
	Stderr *os.File
	// Terminal gives the command a controlling terminal (a pty of the tree's
	// own /dev/pts); Stdin, Stdout and Stderr are then not used.
	Terminal   bool
	Rows, Cols uint16
	Record     *os.File // the init writes the command's wait status here
	HostIPC    bool     // share the host's System V IPC and message queues
	Helper     string   // a program whose main calls InitMain first; "" is /proc/self/exe
}

// Start runs a program in namespaces of its own, below an init. When the
// command cannot be executed the error is an *ExecError and nothing is left.
func Start(ctx context.Context, o StartOptions) (*Tree, error) {
	plan := initPlan{Namespaces: true, Argv: o.Argv, Env: o.Env, Dir: o.Dir, Umask: o.Umask,
		Terminal: o.Terminal, Rows: o.Rows, Cols: o.Cols, FirstPID: hostPIDMax()}
	sp := spawn{plan: plan, helper: o.Helper, record: o.Record, hostIPC: o.HostIPC,
		stdio: [3]*os.File{o.Stdin, o.Stdout, o.Stderr}}
	in, err := sp.start(ctx)
	if err != nil {
		return nil, err
	}
	in.release()
	command, err := hostNumber(in.pid, in.command)
	if err != nil {
		command = 0 // it has ended already; the record says how
	}
	h, err := handleOf(PID(in.pid), command)
	if err != nil {
		return nil, err
	}
	return openTree(h, o.Record, in.ended)
}

// spawn starts an init.
type spawn struct {
	plan    initPlan
	helper  string
	record  *os.File
	hostIPC bool
	stdio   [3]*os.File
	// Offsets of the time namespace, ns; the clocks inside show the host's plus these.
	monotonic, boottime int64
}

// initProcess is an init that has been started.
type initProcess struct {
	cmd     *exec.Cmd
	pid     int
	command int // number of the command inside
	wait    *os.File
	ended   chan struct{} // closed when the init was reaped
}

// release lets the init go on past its wait.
func (p *initProcess) release() {
	if p.wait != nil {
		_ = p.wait.Close()
		p.wait = nil
	}
}

func (s *spawn) start(ctx context.Context) (*initProcess, error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	config, err := json.Marshal(s.plan)
	if err != nil {
		return nil, err
	}
	pipes, err := newPipes()
	if err != nil {
		return nil, err
	}
	defer pipes.close()
	helper := s.helper
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
	if s.plan.Namespaces {
		flags = unix.CLONE_NEWPID | unix.CLONE_NEWNS
		if !s.hostIPC {
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
	cmd := &exec.Cmd{Path: enterPath, Args: []string{initName}, Env: []string{"GOMAXPROCS=1"},
		SysProcAttr: &syscall.SysProcAttr{Setsid: true, Cloneflags: flags},
		ExtraFiles: append([]*os.File{or(s.record), null, pipes.waitR, pipes.configR, pipes.reportW,
			or(s.stdio[0]), or(s.stdio[1]), or(s.stdio[2]), self}, entry[:]...)}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start an init: %w", explain(err))
	}
	p := &initProcess{cmd: cmd, pid: cmd.Process.Pid, ended: make(chan struct{})}
	pipes.closeChild()
	if _, err := pipes.configW.Write(config); err == nil {
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
func (p *initProcess) reapWhenEnded() error {
	pidfd, err := unix.PidfdOpen(p.pid, 0)
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
		close(p.ended)
	}()
	return nil
}

// report reads the init's answer up to its end of file, which says that the
// stub was executed.
func (p *initProcess) report(ctx context.Context, r *os.File) error {
	stop := context.AfterFunc(ctx, func() { _ = r.Close() })
	defer stop()
	b, err := io.ReadAll(r)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("hear from the init: %w", err)
	}
	last := initResult{What: "the init died before it answered"}
	dec := json.NewDecoder(strings.NewReader(string(b)))
	for dec.More() {
		if err := dec.Decode(&last); err != nil {
			return fmt.Errorf("hear from the init: %w", err)
		}
	}
	if last.What == "" {
		p.command = last.Command
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
var enterPath = "/proc/self/fd/" + strconv.Itoa(initEnter)

// openEnter returns the executable for the descriptors of a nascent init.
func openEnter() (*os.File, error) {
	code := enterELF(abi.Host(runtime.GOARCH), initTime, initHelper)
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

// entry is what a nascent init has open at initTime, initHelper and initEnter.
type entry [3]*os.File

func (e *entry) close() {
	for _, f := range e {
		if f != nil {
			_ = f.Close()
		}
	}
}

func (s *spawn) entry(helper string) (e entry, err error) {
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
func (s *spawn) timeNamespace() (*os.File, error) {
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

func (s *spawn) newTimeNamespace() (*os.File, error) {
	if err := unix.Unshare(unix.CLONE_NEWTIME); err != nil {
		return nil, fmt.Errorf("new time namespace: %w", explain(err))
	}
	dir := "/proc/" + strconv.Itoa(unix.Gettid())
	if s.monotonic != 0 || s.boottime != 0 {
		text := fmt.Sprintf("monotonic %s\nboottime %s\n", offset(s.monotonic), offset(s.boottime))
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

// hostPIDMax is the number above which no PID of this namespace lies.
func hostPIDMax() int {
	b, err := os.ReadFile("/proc/sys/kernel/pid_max")
	if err != nil {
		return 0
	}
	n, _ := strconv.Atoi(strings.TrimSpace(string(b)))
	return n
}
