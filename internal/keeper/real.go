package keeper

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"time"

	"github.com/wakepoint/wakepoint/internal/engine"
	"github.com/wakepoint/wakepoint/internal/files"
	"github.com/wakepoint/wakepoint/internal/generation"
	"github.com/wakepoint/wakepoint/internal/health"
	"github.com/wakepoint/wakepoint/internal/notify"
	"github.com/wakepoint/wakepoint/internal/pocket"
	"github.com/wakepoint/wakepoint/internal/procfs"
	"github.com/wakepoint/wakepoint/internal/service"
	"github.com/wakepoint/wakepoint/internal/store"
)

// realMachine is the engine.
type realMachine struct{ pocket *pocket.Pocket }

func (realMachine) Start(ctx context.Context, o engine.StartOptions) (tree, error) {
	t, err := engine.Start(ctx, o)
	if err != nil {
		return nil, err
	}
	return realTree{t}, nil
}

func (realMachine) Open(ctx context.Context, h engine.Handle) (tree, error) {
	t, err := engine.Open(ctx, h)
	if err != nil {
		return nil, err
	}
	return realTree{t}, nil
}

func (realMachine) HandleOf(command engine.PID) (engine.Handle, error) {
	return engine.HandleOf(command)
}

func (realMachine) Restore(ctx context.Context, s engine.Source, o engine.RestoreOptions) (restored, error) {
	r, err := engine.Restore(ctx, s, o)
	if err != nil {
		return nil, err
	}
	return realRestored{r}, nil
}

func (realMachine) GoingDown(ctx context.Context) bool { return service.GoingDown(ctx) }

func (m realMachine) Listen(path string, log *slog.Logger) (ear, error) {
	e, err := notify.Resume(path, m.pocket, log)
	if err != nil {
		return nil, err
	}
	return e, nil
}

// Belongs says whether a process is in a tree's own namespace.
func (realMachine) Belongs(h engine.Handle, pid int) bool {
	return h.Init != 0 && notify.Together(int(h.Init), pid)
}

func (realMachine) Ask(ctx context.Context, c health.Check) error { return c.Run(ctx) }

func (realMachine) Alive(h engine.Handle) bool {
	if h.BootID == "" || h.BootID != files.BootID() {
		return false
	}
	if h.Init != 0 {
		return startTicks(int(h.Init)) == h.InitStart
	}
	return h.Command != 0 && startTicks(int(h.Command)) == h.CommandStart
}

// Orphan looks for an init (argv[0] "wakepoint-init") that holds the file open.
// The command is the first child that an init has.
func (realMachine) Orphan(path string) (engine.Handle, error) {
	r := procfs.NewReader("/proc")
	pid, err := r.Holder("wakepoint-init", path)
	if err != nil {
		return engine.Handle{}, os.ErrProcessDone
	}
	h := engine.Handle{BootID: files.BootID(), Init: engine.PID(pid), InitStart: startTicks(pid)}
	if list, err := r.Children(pid, pid); err == nil && len(list) > 0 {
		h.Command, h.CommandStart = engine.PID(list[0]), startTicks(list[0])
	}
	return h, nil
}

// Watch watches all of a tree in namespaces of its own, and of others what
// their own processes do.
func (realMachine) Watch(h engine.Handle, except []string) (watch, bool, error) {
	of, group := files.Of{PID: int(h.Init), Except: except}, -1
	if h.Init == 0 {
		of.PID, of.Tree = int(h.Command), true
	} else {
		group = h.Watched()
	}
	w, err := files.NewWatch(of, group)
	if err != nil {
		return nil, false, err
	}
	return w, group >= 0, nil
}

// startTicks returns when a process started (proc_pid_stat(5), field 22), 0
// when there is none or only a zombie is left of it.
func startTicks(pid int) uint64 {
	st, err := procfs.NewReader("/proc").Stat(pid)
	if err != nil || st.State == 'Z' || st.State == 'X' {
		return 0
	}
	return st.StartTicks
}

// realTree is an engine's tree whose Freeze fits the seam.
type realTree struct{ *engine.Tree }

func (t realTree) Written() ([]files.Open, error) { return written(t.Handle()) }

// written lists what a running tree has open for writing or mapped shared. Its
// init is none of it.
func written(h engine.Handle) ([]files.Open, error) {
	if h.Init != 0 {
		return files.WrittenBy(int(h.Init), true)
	}
	return files.WrittenBy(int(h.Command), false)
}

func (t realTree) Freeze(ctx context.Context) (frozen, error) {
	f, err := t.Tree.Freeze(ctx)
	if err != nil {
		return nil, err
	}
	return f, nil
}

// realRestored is an engine's restored tree that fits the seam.
type realRestored struct{ r *engine.Restored }

// Handle returns the zero handle when the engine tells it only after Run.
func (r realRestored) Handle() engine.Handle {
	if h, ok := any(r.r).(interface{ Handle() engine.Handle }); ok {
		return h.Handle()
	}
	return engine.Handle{}
}

func (r realRestored) Resets() engine.Resets { return r.r.Resets }
func (r realRestored) Kill() error           { return r.r.Kill() }

func (r realRestored) Run() (tree, error) {
	t, err := r.r.Run()
	if err != nil {
		return nil, err
	}
	return realTree{t}, nil
}

// realVault is a store's workload.
type realVault struct{ *store.Workload }

func (v realVault) Space() (free, total int64, err error) { return files.Space(v.Dir()) }

func (v realVault) Begin(parent store.Generation, buffer int64) (draft, error) {
	d, err := v.Workload.BeginBuffered(parent, buffer)
	if err != nil {
		return nil, err
	}
	return realDraft{d}, nil
}

func (v realVault) OpenGeneration(g store.Generation) (reader, error) {
	r, err := generation.Open(v.Workload, g)
	if err != nil {
		return nil, err
	}
	return r, nil
}

// realDraft is a store's draft as the engine's Sink.
type realDraft struct{ d *store.Draft }

func (d realDraft) Blob(name string, data []byte) error { return d.d.Blob(name, data) }
func (d realDraft) Abort() error                        { return d.d.Abort() }
func (d realDraft) Still(yes bool)                      { d.d.Still(yes) }
func (d realDraft) Waits() int                          { return d.d.Waits() }

func (d realDraft) Section(name string, inherit bool) (engine.SectionSink, error) {
	s, err := d.d.Section(name, inherit)
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (d realDraft) Commit(ctx context.Context, pause time.Duration, tag string, meta map[string]string) (store.Info, error) {
	return d.d.Commit(ctx, store.CommitInfo{Pause: pause, Tag: tag, Meta: meta})
}

// damaged says that a generation itself cannot be used, whatever the host.
func damaged(err error) bool {
	return errors.Is(err, store.ErrDamaged) || errors.Is(err, store.ErrVersion) || errors.Is(err, store.ErrNotFound)
}
