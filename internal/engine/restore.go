package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wakepoint/wakepoint/internal/abi"
	"github.com/wakepoint/wakepoint/internal/image"
	"github.com/wakepoint/wakepoint/internal/memory"
	"github.com/wakepoint/wakepoint/internal/namespace"
	"github.com/wakepoint/wakepoint/internal/procfs"
	"github.com/wakepoint/wakepoint/internal/setting"
	"github.com/wakepoint/wakepoint/internal/sockopt"
	"github.com/wakepoint/wakepoint/internal/sys"
	"github.com/wakepoint/wakepoint/internal/tracee"
)

// RestoreOptions says where a generation is put back.
type RestoreOptions struct {
	Record   *os.File          // as in StartOptions
	Helper   string            // as in StartOptions
	HostPIDs bool              // to the same PIDs of the host, without namespaces of its own
	Sealed   bool              // it may not change the host's settings below /proc
	Replace  map[string]string // path prefixes that have moved, old to new
	// Kept, when not nil, is asked for each file that was mapped or open for
	// reading only: f is what has its name now, nil with err when that cannot be
	// opened or is not what it was. It returns f or what takes its place.
	Kept func(path string, f *os.File, err error) (*os.File, error)
	// Before, when not nil, is called before every ptrace call (for tests).
	Before func(call string)

	otherVdso func([]byte) []byte // what to take this kernel's vdso for (for tests)
}

// restorer builds a tree. Everything that it makes outside the tree itself is
// released by close; the tree dies with the tracer's thread until Run.
type restorer struct {
	o      RestoreOptions
	tree   *image.Tree
	source Source
	arch   *abi.Arch
	tracer *tracee.Tracer
	proc   *procfs.Reader
	init   *namespace.Init
	stub   *builtProcess // the init, seized
	built  map[int]*builtProcess
	order  []*builtProcess
	shop   workshop
	files  []*os.File // descriptions, in this process
	extra  []*os.File // to be closed at the end
	object []*os.File
	master *os.File
	filler *memory.Filler
	resets Resets
	vdso   *vdsoPlan
	temps  []string
	ghosts []*builtProcess // helpers that stand for dead leaders for a while

	own    image.Creds    // of the init, and of every process until the end
	primed map[int]uint64 // threads whose interrupted call ended at once, with its result
}

// builtProcess is a process under construction.
type builtProcess struct {
	image   *image.Process // nil for the init and for helpers
	pid     int            // as we see it
	ns      int
	sid     int // its session now, in its own numbers
	threads []*tracee.Thread
	space   tracee.Space
	parent  *builtProcess
	reaper  *builtProcess // of a helper
}

func (b *builtProcess) leader() *tracee.Thread { return b.threads[0] }

// Resets is the established connections that come back reset.
type Resets struct {
	Count int
	Ends  []string // of the first few, for people
}

// resetsMax bounds the connections that are named.
const resetsMax = 5

func (r *Resets) add(s *image.Socket) {
	if r.Count++; len(r.Ends) < resetsMax {
		r.Ends = append(r.Ends, sockopt.Ends(s))
	}
}

// Restored is a tree that was built and stands still at its first instruction.
type Restored struct {
	Resets Resets
	r      *restorer
}

// Restore builds the tree of a generation. On an error nothing is left behind.
// If this process dies before Run, the whole tree dies with it.
func Restore(ctx context.Context, s Source, o RestoreOptions) (*Restored, error) {
	b, err := s.Blob(TreeBlob)
	if err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	tree, err := image.Decode(b)
	if err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	r := &restorer{o: o, tree: tree, source: s, arch: abi.Host(runtime.GOARCH), tracer: tracee.New(),
		proc: procfs.NewReader("/proc"), built: map[int]*builtProcess{},
		primed: map[int]uint64{}}
	r.tracer.Before = o.Before
	if tree.Arch != r.arch.Name {
		r.tracer.Close()
		return nil, fmt.Errorf("restore: the generation is of a %s machine, this is %s", tree.Arch, r.arch.Name)
	}
	r.filler = r.startFilling()
	err = r.build(ctx)
	r.filler.Stop()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("restore: %w", err), r.abandon())
	}
	return &Restored{Resets: r.resets, r: r}, nil
}

// build makes the tree, stopped.
func (r *restorer) build(ctx context.Context) error {
	if err := r.startInit(ctx); err != nil {
		return err
	}
	if err := r.openObjects(); err != nil {
		return err
	}
	return r.tracer.Do(func() error {
		for _, step := range []struct {
			what string
			do   func() error
		}{
			{"seize the init", r.seizeInit},
			{"create the processes", r.createProcesses},
			{"build the address spaces", r.buildSpaces},
			{"fill the memory", r.fillMemory},
			{"set up the groups", r.setGroups},
			{"create the threads", r.createThreads},
			{"open the descriptors", r.fillTables}, // some are files of threads
			{"set up the processes", r.setProcesses},
			{"end the zombies", r.endZombies},
			{"set up the threads", r.setThreads},
			{"leave the address spaces", r.leaveSpaces},
			{"set the registers", r.setRegisters},
		} {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := step.do(); err != nil {
				return fmt.Errorf("%s: %w", step.what, err)
			}
		}
		return nil
	})
}

// startInit starts the init, which waits until it is released. The clocks of
// its time namespace continue those of the image.
func (r *restorer) startInit(ctx context.Context) error {
	var mono, boot unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &mono); err != nil {
		return err
	}
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot); err != nil {
		return err
	}
	ours, err := namespace.OwnOffsets()
	if err != nil {
		return err
	}
	off := max(time.Now().UnixNano()-r.tree.Clock.Realtime, 0)
	s := namespace.Spawn{Helper: r.o.Helper, Record: r.o.Record, HostIPC: r.tree.HostIPC,
		Monotonic: r.tree.Clock.Monotonic - mono.Nano() + ours[0],
		Boottime:  r.tree.Clock.Boottime + off - boot.Nano() + ours[1],
		Plan:      namespace.Plan{Namespaces: !r.o.HostPIDs, Sealed: r.o.Sealed, Restore: max(r.tree.Command, 1), Terminal: r.tree.Terminal != nil}}
	if t := r.tree.Terminal; t != nil {
		s.Plan.Rows, s.Plan.Cols = t.Size[0], t.Size[1]
	}
	if r.init, err = s.Start(ctx); err != nil {
		return err
	}
	return r.fetchMaster()
}

// fetchMaster gets the master of the terminal that the init opened.
func (r *restorer) fetchMaster() error {
	if r.tree.Terminal == nil {
		return nil
	}
	pidfd, err := unix.PidfdOpen(r.init.PID, 0)
	if err != nil {
		return err
	}
	defer unix.Close(pidfd)
	fd, err := unix.PidfdGetfd(pidfd, namespace.FDMaster, 0)
	if err != nil {
		return fmt.Errorf("fetch the terminal: %w", err)
	}
	r.master = os.NewFile(uintptr(fd), "terminal")
	r.extra = append(r.extra, r.master)
	return nil
}

// seizeInit stops the init in its wait. From here on it, and what it will
// give birth to, dies with us.
func (r *restorer) seizeInit() error {
	t, err := r.tracer.Seize(r.arch, r.init.PID, sys.OptionExitKill)
	if err != nil {
		return err
	}
	if err := t.Interrupt(); err != nil {
		return err
	}
	if err := t.WaitStop(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	b, err := r.newBuilt(t, nil)
	if err != nil {
		return err
	}
	r.stub = b
	b.sid = b.ns
	st, err := r.proc.Status(t.TID)
	if err != nil {
		return gone(err)
	}
	r.own = setting.CredsOf(&st)
	return r.openShop()
}

// newBuilt makes the record of a stopped process.
func (r *restorer) newBuilt(t *tracee.Thread, p *image.Process) (*builtProcess, error) {
	st, err := r.proc.Status(t.TID)
	if err != nil {
		return nil, gone(err)
	}
	t.TGID, t.NSTGID, t.NSTID = t.TID, last(st.NStgid, t.TID), last(st.NSpid, t.TID)
	b := &builtProcess{image: p, pid: t.TID, ns: t.NSTGID, threads: []*tracee.Thread{t}}
	b.space.Mem, err = os.OpenFile(fmt.Sprintf("/proc/%d/mem", t.TID), os.O_RDWR, 0)
	return b, err
}

// Handle names the tree before it runs, so that it can be written down first.
func (re *Restored) Handle() Handle {
	command := 0
	if b := re.r.built[re.r.tree.Command]; b != nil {
		command = b.pid
	}
	h, err := handleOf(PID(re.r.init.PID), command)
	if err != nil {
		return Handle{}
	}
	return h
}

// Run lets the restored tree go on. The ties to this process are cut while it
// still stands still; then it is let go, children before parents, the init last.
func (re *Restored) Run() (*Tree, error) {
	r := re.r
	command := 0
	if b := r.built[r.tree.Command]; b != nil {
		command = b.pid
	}
	h, err := handleOf(PID(r.init.PID), command)
	if err != nil {
		return nil, errors.Join(err, r.abandon())
	}
	broken := r.breaks()
	err = r.tracer.Do(func() error {
		all := append([]*builtProcess{r.stub}, r.order...)
		for _, b := range all {
			for _, t := range b.threads {
				if err := t.Options(0); err != nil {
					return err
				}
			}
		}
		r.init.Release()
		var errs error
		for i := len(all) - 1; i >= 0; i-- {
			errs = errors.Join(errs, all[i].release())
		}
		return errs
	})
	if err != nil {
		return nil, errors.Join(err, r.abandon())
	}
	r.close()
	t, err := openTree(h, r.o.Record, r.init)
	if err == nil {
		t.broken = broken
	}
	return t, err
}

// release detaches every thread of a process.
func (b *builtProcess) release() error {
	var errs error
	for i := len(b.threads) - 1; i >= 0; i-- {
		errs = errors.Join(errs, b.threads[i].Detach())
	}
	return errs
}

// Kill ends the tree instead of letting it run.
func (re *Restored) Kill() error { return re.r.abandon() }

// abandon kills everything that was built and removes what was made for it.
func (r *restorer) abandon() error {
	if r.init != nil {
		_ = unix.Kill(r.init.PID, unix.SIGKILL)
	}
	for _, b := range r.order {
		_ = unix.Kill(b.pid, unix.SIGKILL)
	}
	_ = r.tracer.Do(func() error {
		for i := len(r.order) - 1; i >= 0; i-- {
			for k := len(r.order[i].threads) - 1; k >= 0; k-- {
				r.order[i].threads[k].Reap()
			}
		}
		if r.stub != nil {
			for _, t := range r.stub.threads {
				t.Dead()
			}
		}
		return nil
	})
	for _, path := range r.temps {
		_ = os.Remove(path)
	}
	r.close()
	if r.init == nil {
		return nil
	}
	r.init.Release()
	select {
	case <-r.init.Ended:
		return nil
	case <-time.After(10 * time.Second):
		return fmt.Errorf("the init %d of an abandoned restore does not end", r.init.PID)
	}
}

// close releases what is ours.
func (r *restorer) close() {
	r.tracer.Close()
	for _, list := range [][]*os.File{r.files, r.extra, r.object} {
		for _, f := range list {
			if f != nil {
				_ = f.Close()
			}
		}
	}
	r.files, r.extra, r.object = nil, nil, nil
	for _, b := range append(r.order, r.stub) {
		if b != nil && b.space.Mem != nil {
			_ = b.space.Mem.Close()
			b.space.Mem = nil
		}
	}
}

// path maps a path of the image to where it lies now.
func (r *restorer) path(p string) string {
	for old, now := range r.o.Replace {
		if len(p) >= len(old) && p[:len(old)] == old && (len(p) == len(old) || p[len(old)] == '/') {
			return now + p[len(old):]
		}
	}
	return p
}

// inside is a path of the new tree as this process reaches it.
func (r *restorer) inside(p string) string {
	return fmt.Sprintf("/proc/%d/root%s", r.init.PID, r.path(p))
}
