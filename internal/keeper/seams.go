package keeper

import (
	"context"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/wakepoint/wakepoint/internal/engine"
	"github.com/wakepoint/wakepoint/internal/files"
	"github.com/wakepoint/wakepoint/internal/health"
	"github.com/wakepoint/wakepoint/internal/notify"
	"github.com/wakepoint/wakepoint/internal/policy"
	"github.com/wakepoint/wakepoint/internal/store"
)

// machine is what a keeper needs of the engine. real.go has the real one.
type machine interface {
	Start(ctx context.Context, o engine.StartOptions) (tree, error)
	Open(ctx context.Context, h engine.Handle) (tree, error)
	HandleOf(command engine.PID) (engine.Handle, error)
	Restore(ctx context.Context, s engine.Source, o engine.RestoreOptions) (restored, error)
	// Alive says whether the tree of a handle still has its init or, when it
	// has none, its command.
	Alive(h engine.Handle) bool
	// Orphan finds the tree whose init holds the record file at path open: one
	// that was started by a keeper that died before it could write down what it
	// had started. os.ErrProcessDone when there is none.
	Orphan(path string) (engine.Handle, error)
	// Watch begins to watch what a tree writes and closes. whole: so it was
	// before anything of the tree ran, whoever looked.
	Watch(h engine.Handle, except []string) (w watch, whole bool, err error)
	// GoingDown says whether the whole machine is being stopped.
	GoingDown(ctx context.Context) bool
	// Listen binds the socket on which a program speaks; Belongs says whether a
	// process is one of a tree's.
	Listen(path string, log *slog.Logger) (ear, error)
	Belongs(h engine.Handle, pid int) bool
	// Rehearse restores a generation in a sandbox, where it is to live for a time.
	Rehearse(ctx context.Context, s Site, name string, i store.Info, length time.Duration) policy.Rehearsal
	// Means is what the host can spare for a rehearsal.
	Means() (policy.Means, error)
	// Ask makes a health check; nil is well.
	Ask(ctx context.Context, c health.Check) error
}

// ear hears what a program says. notify.Ear is the real one.
type ear interface {
	Path() string
	Heard() <-chan struct{}
	Take() notify.Words
	Settle()
	Resumed() bool // the socket is the one of the keeper before
	Of(ours func(pid int) bool, again bool)
	Close(gone bool) error
}

// watch names the files that a tree writes and closes. files.Watch is the real one.
type watch interface {
	Mark() error
	Collect() *files.Batch
	Forget(b *files.Batch)
	Notes() []string
	Close() error
	End() error
}

// tree is a process tree under protection. Calls must come one at a time,
// except Done, CommandDone, Handle and Signal.
type tree interface {
	Handle() engine.Handle
	Terminal() *os.File
	Done() <-chan struct{}
	CommandDone() <-chan struct{}
	Status() (engine.Status, error)
	Signal(sig int) error
	Kill(ctx context.Context) error
	Close() error
	Freeze(ctx context.Context) (frozen, error)
	// Written lists what the running tree has open for writing or mapped shared.
	Written() ([]files.Open, error)
	Committed()
	Abandoned()
}

// frozen is a stopped tree.
type frozen interface {
	Files() []engine.OpenFile
	Mapped() []engine.Mapped
	Dirs() []string
	Since() time.Time
	Dump(ctx context.Context, s engine.Sink, inherit bool) error
	Thaw() error
	Kill() error
}

// restored is a tree that was built and stands still.
type restored interface {
	Handle() engine.Handle
	Resets() engine.Resets
	Run() (tree, error)
	Kill() error
}

// vault is what a keeper needs of the store: one workload.
type vault interface {
	Dir() string
	Lock() (io.Closer, error)
	PutRecord(name string, data []byte) error
	Record(name string) ([]byte, error)
	Generations() ([]store.Info, []store.Damage, error)
	Begin(parent store.Generation, buffer int64) (draft, error)
	OpenGeneration(g store.Generation) (reader, error)
	Drop(gens []store.Generation) (removed []store.Generation, err error)
	Size() (int64, error)
	Scrub(ctx context.Context, pace func(bytes int64)) ([]store.Damage, error)

	// Space says how much of the disk is free for all, and how large it is.
	Space() (free, total int64, err error)
}

// draft is a generation being written.
type draft interface {
	engine.Sink
	Commit(ctx context.Context, pause time.Duration, tag string, meta map[string]string) (store.Info, error)
	Abort() error
	// Still says whether the tree stands still from now on.
	Still(yes bool)
	// Waits is how often the buffer was full while it did.
	Waits() int
}

// reader is a generation being read.
type reader interface {
	engine.Source
	io.Closer
}
