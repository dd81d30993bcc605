package engine

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wakepoint/wakepoint/internal/abi"
	"github.com/wakepoint/wakepoint/internal/namespace"
	"github.com/wakepoint/wakepoint/internal/procfs"
	"github.com/wakepoint/wakepoint/internal/tracee"
)

// Tree is a process tree under protection. Its methods must be called one at
// a time, except Done, CommandDone, Handle and Signal.
type Tree struct {
	handle      Handle
	arch        *abi.Arch
	tracer      *tracee.Tracer
	proc        *procfs.Reader
	record      *os.File
	terminal    *os.File
	initFD      int // pidfd, -1 when there is no init
	commandFD   int // pidfd, -1 when it had ended before
	done        chan struct{}
	commandDone chan struct{}
	stop        *os.File // its end of file ends the watchers
	watchers    sync.WaitGroup
	spaces      map[spaceKey]*spaceState
	naps        map[int]nap
	broken      map[int]broken // by thread: calls that a freeze broke off
	copyAll     bool
	mounts      procfs.MountCount           // with which the tree began
	foreign     []Obstacle                  // mounts that were made inside
	within      int                         // in a check: the init of the workload to which it belongs
	precopyMin  uint64                      // bytes
	copied      map[string]copied           // sections that were filled beforehand, by name
	lingering   atomic.Int32                // threads that are let go when they stop
	smaps       map[int][]procfs.MappingUse // read before the freeze, by PID
	ipc         *procfs.IPCLists
	hostIPC     bool
	offsets     [2]int64         // what the time namespace adds to ours, ns
	dumped      map[inode]bool   // objects in the last committed generation
	dumping     map[inode]bool   // objects in the one under way
	fileSystems map[uint64]int64 // their magic numbers, by device
}

// HandleOf makes the handle of a running process of the host with its descendants.
func HandleOf(command PID) (Handle, error) { return handleOf(0, int(command)) }

func handleOf(initPID PID, command int) (Handle, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return Handle{}, err
	}
	h := Handle{BootID: strings.TrimSpace(string(b)), Init: initPID, Command: PID(command)}
	r := procfs.NewReader("/proc")
	if initPID != 0 {
		st, err := r.Stat(int(initPID))
		if err != nil {
			return h, gone(err)
		}
		h.InitStart = st.StartTicks
	}
	st, err := r.Stat(command)
	if err != nil {
		if initPID != 0 {
			return h, nil // it has ended already; the record says how
		}
		return h, gone(err)
	}
	h.CommandStart = st.StartTicks
	return h, nil
}

func gone(err error) error {
	if procfs.IsGone(err) {
		return fmt.Errorf("%w: %w", os.ErrProcessDone, err)
	}
	return err
}

// Open takes over a tree that runs already: one with an init (after a
// keeper's death), or with Init 0 the command and its descendants (adopt, dump).
// os.ErrProcessDone when it is gone.
func Open(ctx context.Context, h Handle) (*Tree, error) {
	now, err := handleOf(h.Init, int(h.Command))
	if err != nil {
		return nil, err
	}
	if now.BootID != h.BootID || now.InitStart != h.InitStart ||
		h.Init == 0 && now.CommandStart != h.CommandStart {
		return nil, fmt.Errorf("pid %d: %w", max(h.Init, h.Command), os.ErrProcessDone)
	}
	return openTree(h, nil, &namespace.Init{})
}

// openTree watches the tree. An init that we started says when it was reaped
// by us, of another its pidfd says when it ended.
func openTree(h Handle, record *os.File, in *namespace.Init) (*Tree, error) {
	t := &Tree{handle: h, arch: abi.Host(runtime.GOARCH), proc: procfs.NewReader("/proc"), initFD: -1, commandFD: -1,
		done: make(chan struct{}), commandDone: make(chan struct{}), broken: map[int]broken{}, spaces: map[spaceKey]*spaceState{},
		precopyMin: precopyMin, dumped: map[inode]bool{}, dumping: map[inode]bool{}, fileSystems: map[uint64]int64{}}
	stopR, stopW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	t.stop = stopW
	if h.Init != 0 {
		if t.initFD, err = unix.PidfdOpen(int(h.Init), 0); err != nil {
			return nil, fmt.Errorf("init %d: %w", h.Init, os.ErrProcessDone)
		}
		t.fromInit(record)
	}
	if st, err := t.proc.Stat(int(h.Command)); err == nil && st.StartTicks == h.CommandStart && st.State != 'Z' {
		if t.commandFD, err = unix.PidfdOpen(int(h.Command), 0); err != nil {
			t.commandFD = -1
		}
	}
	t.hostIPC = t.sharesIPC()
	if err := t.noteMounts(in.Mounts); err != nil {
		return nil, fmt.Errorf("mounts of the tree: %w", err)
	}
	if t.offsets, err = t.clockOffsets(); err != nil {
		return nil, fmt.Errorf("clocks of the tree: %w", gone(err))
	}
	t.tracer = tracee.New()
	t.watch(stopR, in.Ended)
	return t, nil
}

// fromInit fetches what the init holds for us.
func (t *Tree) fromInit(record *os.File) {
	if fd, err := unix.PidfdGetfd(t.initFD, namespace.FDRecord, 0); err == nil {
		t.record = os.NewFile(uintptr(fd), "record")
	}
	fd, err := unix.PidfdGetfd(t.initFD, namespace.FDMaster, 0)
	if err != nil {
		return
	}
	if _, err := unix.IoctlGetInt(fd, unix.TIOCGPTN); err != nil {
		_ = unix.Close(fd)
		return
	}
	_ = unix.SetNonblock(fd, true)
	t.terminal = os.NewFile(uintptr(fd), "terminal")
}

// Watched fetches the group by which an init is told of files that are written
// and closed (package fanotify), which was there before the tree; -1 when it has none.
func (h Handle) Watched() int {
	pidfd, err := unix.PidfdOpen(int(h.Init), 0)
	if err != nil {
		return -1
	}
	defer unix.Close(pidfd)
	fd, err := unix.PidfdGetfd(pidfd, namespace.FDWatch, 0)
	if err != nil {
		return -1
	}
	if link, _ := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd)); link != "anon_inode:[fanotify]" {
		_ = unix.Close(fd)
		return -1
	}
	return fd
}

// watch closes done and commandDone when the pidfds say so.
func (t *Tree) watch(stop *os.File, reaped chan struct{}) {
	t.watchers.Add(2)
	sfd := int(stop.Fd())
	var both sync.WaitGroup
	both.Add(2)
	ended := func(pidfd int) bool {
		fds := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}, {Fd: int32(sfd)}}
		for {
			if _, err := unix.Poll(fds, -1); err != nil && err != unix.EINTR {
				return false
			}
			if fds[0].Revents != 0 {
				return true
			}
			if fds[1].Revents != 0 {
				return false
			}
		}
	}
	go func() {
		defer t.watchers.Done()
		defer both.Done()
		if t.commandFD < 0 || ended(t.commandFD) {
			close(t.commandDone)
		}
	}()
	go func() {
		defer t.watchers.Done()
		defer both.Done()
		fd := t.initFD
		if fd < 0 {
			fd = t.commandFD
		}
		if fd < 0 || ended(fd) {
			if reaped != nil {
				<-reaped
			}
			close(t.done)
		}
	}()
	go func() { both.Wait(); _ = stop.Close() }()
}

// member is a process that is in the tree's namespaces as long as it lives.
func (t *Tree) member() int {
	if t.handle.Init != 0 {
		return int(t.handle.Init)
	}
	return int(t.handle.Command)
}

// Handle returns what Open needs to take the tree over.
func (t *Tree) Handle() Handle { return t.handle }

// Terminal returns the master of the tree's terminal, nil if it has none.
// The Tree owns it.
func (t *Tree) Terminal() *os.File { return t.terminal }

// Done is closed when the tree has ended: no process of it is left.
func (t *Tree) Done() <-chan struct{} { return t.done }

// CommandDone is closed when the command has ended (the tree may live on).
func (t *Tree) CommandDone() <-chan struct{} { return t.commandDone }

// Status says how the command ended, from the init's record. It may lag
// behind CommandDone by the instant that the init needs to reap.
func (t *Tree) Status() (Status, error) {
	if t.record == nil {
		return Status{}, errors.New("the tree has no record of its end")
	}
	return ReadRecord(t.record)
}

// ReadRecord reads an init's record: 4 bytes wait status, 4 bytes that are 1
// when the command has ended. Anything shorter means that it has not.
func ReadRecord(f *os.File) (Status, error) {
	var b [8]byte
	if n, err := f.ReadAt(b[:], 0); n < len(b) {
		if n == 0 || errors.Is(err, os.ErrClosed) {
			return Status{}, nil
		}
		return Status{}, err
	}
	return Status{Ended: binary.LittleEndian.Uint32(b[4:]) == 1, Wait: binary.LittleEndian.Uint32(b[:])}, nil
}

// Signal sends a signal to the command; os.ErrProcessDone when it has ended.
func (t *Tree) Signal(sig int) error {
	if t.commandFD < 0 {
		return os.ErrProcessDone
	}
	if err := unix.PidfdSendSignal(t.commandFD, unix.Signal(sig), nil, 0); err != nil {
		if err == unix.ESRCH {
			return os.ErrProcessDone
		}
		return err
	}
	return nil
}

// Kill ends every process of the tree with SIGKILL and waits until they are gone.
func (t *Tree) Kill(ctx context.Context) error {
	if t.initFD >= 0 {
		if err := unix.PidfdSendSignal(t.initFD, unix.SIGKILL, nil, 0); err != nil && err != unix.ESRCH {
			return err
		}
	} else if err := t.killMembers(); err != nil {
		return err
	}
	select {
	case <-t.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// killMembers ends a tree without an init: descendants until none is left.
func (t *Tree) killMembers() error {
	for range 100 {
		pids := t.proc.Descendants(int(t.handle.Command))
		for _, pid := range pids {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
		if len(pids) <= 1 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if t.commandFD >= 0 {
		_ = unix.PidfdSendSignal(t.commandFD, unix.SIGKILL, nil, 0)
	}
	return nil
}

// Close lets the tree go: it runs on without us, as before.
func (t *Tree) Close() error {
	t.forgetSpaces()
	if t.ipc != nil {
		t.ipc.Close()
	}
	t.tracer.Close()
	_ = t.stop.Close()
	t.watchers.Wait()
	for _, f := range []*os.File{t.record, t.terminal} {
		if f != nil {
			_ = f.Close()
		}
	}
	for _, fd := range []int{t.initFD, t.commandFD} {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
	return nil
}

// hostNumber finds the child of an init that has the given number inside.
func hostNumber(initPID, inside int) (int, error) {
	r := procfs.NewReader("/proc")
	for _, pid := range r.Descendants(initPID)[1:] {
		st, err := r.Status(pid)
		if err == nil && len(st.NSpid) > 0 && st.NSpid[len(st.NSpid)-1] == inside {
			return pid, nil
		}
	}
	return 0, fmt.Errorf("pid %d inside of %d: %w", inside, initPID, os.ErrProcessDone)
}

// clockOffsets reads what the tree's time namespace adds to our own, ns:
// of CLOCK_MONOTONIC and CLOCK_BOOTTIME.
func (t *Tree) clockOffsets() (out [2]int64, err error) {
	theirs, err := namespace.Offsets(t.member())
	if err != nil {
		return out, err
	}
	ours, err := namespace.OwnOffsets()
	return [2]int64{theirs[0] - ours[0], theirs[1] - ours[1]}, err
}
