package engine

import (
	"context"
	"errors"
	"os"
	"time"
)

// errUnbuilt marks the parts of the surface that are still being written.
var errUnbuilt = errors.New("engine: not built yet")

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
	Helper     string   // path of a program whose main calls InitMain first ("/proc/self/exe")
}

// Start runs a program in namespaces of its own, below an init.
func Start(ctx context.Context, o StartOptions) (*Tree, error) { return nil, errUnbuilt }

// InitMain turns this process into the init of a tree when it was started as
// one; it returns at once otherwise. It must be the first thing that main does.
func InitMain() {}

// Tree is a process tree under protection.
type Tree struct{}

// Open takes over a tree that runs already: one with an init (after a
// keeper's death), or with Init 0 the command and its descendants (adopt, dump).
// os.ErrProcessDone when it is gone.
func Open(ctx context.Context, h Handle) (*Tree, error) { return nil, errUnbuilt }

// HandleOf makes the handle of a running process of the host with its descendants.
func HandleOf(command PID) (Handle, error) { return Handle{}, errUnbuilt }

// Handle returns what Open needs to take the tree over.
func (t *Tree) Handle() Handle { return Handle{} }

// Terminal returns the master of the tree's terminal, nil if it has none.
// The Tree owns it.
func (t *Tree) Terminal() *os.File { return nil }

// Done is closed when the tree has ended: no process of it is left.
func (t *Tree) Done() <-chan struct{} { return nil }

// CommandDone is closed when the command has ended (the tree may live on).
func (t *Tree) CommandDone() <-chan struct{} { return nil }

// Status says how the command ended, read from the record file.
func (t *Tree) Status() (Status, error) { return Status{}, errUnbuilt }

// Signal sends a signal to the command.
func (t *Tree) Signal(sig int) error { return errUnbuilt }

// Kill ends every process of the tree with SIGKILL and waits until they are gone.
func (t *Tree) Kill(ctx context.Context) error { return errUnbuilt }

// Close lets the tree go: it runs on without us, as before.
func (t *Tree) Close() error { return nil }

// Freeze stops the whole tree. On an error the tree runs on. A tree that
// cannot be saved gives a *RefusedError.
func (t *Tree) Freeze(ctx context.Context) (*Frozen, error) { return nil, errUnbuilt }

// Frozen is a stopped tree. It must be thawed or killed.
type Frozen struct{}

// Files returns the files that belong to the checkpoint.
func (f *Frozen) Files() []OpenFile { return nil }

// Since is the instant from which the tree stood still.
func (f *Frozen) Since() time.Time { return time.Time{} }

// Dump writes the tree into s. inherit says that s has the tree's previous
// committed generation as its parent; the engine then writes only what
// changed since that one, if it knows.
func (f *Frozen) Dump(ctx context.Context, s Sink, inherit bool) error { return errUnbuilt }

// Thaw lets the tree go on.
func (f *Frozen) Thaw() error { return errUnbuilt }

// Kill ends the tree while it is frozen (a planned stop).
func (f *Frozen) Kill() error { return errUnbuilt }

// Committed tells the engine that what the last Dump wrote survives;
// Abandoned that it does not: its dirty set joins the next one's. One of the
// two must follow every Dump before the next Freeze.
func (t *Tree) Committed() {}

// Abandoned: see Committed.
func (t *Tree) Abandoned() {}

// RestoreOptions says where a generation is put back.
type RestoreOptions struct {
	Record   *os.File          // as in StartOptions
	Helper   string            // as in StartOptions
	HostPIDs bool              // to the same PIDs of the host, without namespaces of its own
	Replace  map[string]string // path prefixes that have moved, old to new
	Parent   int               // unused by namespaced trees
}

// Restored is a tree that was built and stands still at its first instruction.
type Restored struct {
	Resets int // established TCP connections that come back reset
}

// Restore builds the tree of a generation. On an error nothing is left behind.
// If this process dies before Run, the whole tree dies with it.
func Restore(ctx context.Context, s Source, o RestoreOptions) (*Restored, error) {
	return nil, errUnbuilt
}

// Run lets the restored tree go on.
func (r *Restored) Run() (*Tree, error) { return nil, errUnbuilt }

// Kill ends it instead.
func (r *Restored) Kill() error { return errUnbuilt }

// RefusedError says that a tree cannot be saved, and why.
type RefusedError struct {
	Obstacles []Obstacle
}

// Obstacle is one thing that cannot be saved.
type Obstacle struct {
	PID  PID    `json:"pid"`
	What string `json:"what"` // "io_uring fd 7 cannot be saved"
	Hint string `json:"hint"`
}

func (e *RefusedError) Error() string {
	if len(e.Obstacles) == 0 {
		return "cannot be checkpointed"
	}
	return e.Obstacles[0].What
}

// Check lists what stands in the way of saving a process and its descendants.
func Check(pid PID) ([]Obstacle, error) { return nil, errUnbuilt }

// Feature is one thing that this host's kernel can or cannot do.
type Feature struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Needed bool   `json:"needed"` // nothing works without it
	Detail string `json:"detail"`
	Hint   string `json:"hint,omitempty"`
}

// Probe tries the kernel features that the engine uses, by behaviour.
func Probe() []Feature { return nil }
