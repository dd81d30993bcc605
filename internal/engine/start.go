package engine

import (
	"context"
	"os"

	"golang.org/x/sys/unix"

	"github.com/wakepoint/wakepoint/internal/namespace"
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
	Inherit    *Inherited // what the command gets instead of what this process would pass on; nil: that
	Record     *os.File   // the init writes the command's wait status here
	HostIPC    bool       // share the host's System V IPC and message queues
	Helper     string     // a program whose main calls InitMain first; "" is /proc/self/exe
}

// Start runs a program in namespaces of its own, below an init. When the
// command cannot be executed the error is an *ExecError and nothing is left.
func Start(ctx context.Context, o StartOptions) (*Tree, error) {
	plan := namespace.Plan{Namespaces: true, Argv: o.Argv, Env: o.Env, Dir: o.Dir, Umask: o.Umask,
		Terminal: o.Terminal, Rows: o.Rows, Cols: o.Cols, FirstPID: namespace.PIDMax(), Inherit: o.Inherit}
	sp := namespace.Spawn{Plan: plan, Helper: o.Helper, Record: o.Record, HostIPC: o.HostIPC,
		Stdio: [3]*os.File{o.Stdin, o.Stdout, o.Stderr}}
	in, err := sp.Start(ctx)
	if err != nil {
		return nil, err
	}
	in.Release()
	command, _ := hostNumber(in.PID, in.Command) // 0: it has ended already; the record says how
	h, err := handleOf(PID(in.PID), command)
	if err == nil {
		t, terr := openTree(h, o.Record, in)
		if err = terr; err == nil {
			return t, nil
		}
	}
	_ = unix.Kill(in.PID, unix.SIGKILL) // nothing runs that nobody looks after
	return nil, err
}

// InitMain turns this process into the init of a tree when it was started as
// one; it returns at once otherwise. It must be the first thing that main does.
func InitMain() { namespace.Main() }

// Inherited is what a command inherits.
type Inherited = namespace.Inherited

// Heritage returns what a command that this process starts would inherit.
func Heritage() (*Inherited, error) { return namespace.Heritage() }

// ExecError says that the command could not be executed.
type ExecError = namespace.ExecError
