// Package keeper is where everything meets: the process that looks after one
// workload, and what the command line does to workloads.
//
// Each workload has a keeper: a process that holds the workload's lock, takes
// its checkpoints, answers requests on its socket and brings the workload
// back when it crashes. A guard, its parent, starts it again when it dies.
// Nothing central can fail: the functions on a Site (Launch, Recover, List
// ...) are called by short-lived commands, which ask a keeper over its socket
// or, where none lives, read the workload's records.
package keeper

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/wakepoint/wakepoint/internal/api"
)

var errUnbuilt = errors.New("keeper: not built yet")

// Site is where workloads live.
type Site struct {
	StoreDir string // the store
	KeyFile  string // the key file; unused until stores are sealed
	Program  string // path of the wakepoint program, which guards and keepers run
}

// Progress takes words for a person. It may be nil.
type Progress func(words string)

// Outcome is how a workload was brought up.
type Outcome struct {
	Name   string     `json:"name"`
	Status api.Status `json:"status"`
	Words  string     `json:"words"` // "restored from g411, lost at most 0.8 s"; "was running"; "started afresh"
	Older  bool       `json:"older"` // restored, but not from the newest generation: exit code 9
	Err    *api.Error `json:"error,omitempty"`
}

// Launch makes a workload and starts it. A Name that is empty is chosen from
// the command ("web", "web-2" ...); fields of p that are empty get their
// defaults, OnCrash by the kind of command; Outcome.Status.Notes says what a
// person should know of that. It returns when the first generation is
// committed, or with an error of code 6 when it was refused (the program then
// runs on without protection, and the Outcome is valid), or when the program
// has ended before that. An error of starting the command leaves no workload;
// its cause is os.ErrNotExist or os.ErrPermission where that is why.
// With spec.Adopt it protects a process that runs already.
func Launch(ctx context.Context, s Site, spec api.Spec, p api.Policy, progress Progress) (Outcome, error) {
	return Outcome{}, errUnbuilt
}

// Recover brings back every workload that should run: a keeper that lives is
// left alone, a tree that runs without a keeper is taken over, and any other
// is restored or, with on_crash fresh, started afresh. Workloads come back in
// parallel; the outcomes are in the order of their names. The error is only
// of reading the store.
func Recover(ctx context.Context, s Site, progress Progress) ([]Outcome, error) {
	return nil, errUnbuilt
}

// List returns the status of every workload, by name.
func List(ctx context.Context, s Site) ([]api.Status, error) { return nil, errUnbuilt }

// StatusOf returns the status of one workload: its keeper's answer, or, where
// none lives, what its records say.
func StatusOf(ctx context.Context, s Site, name string) (api.Status, error) {
	return api.Status{}, errUnbuilt
}

// Log returns the generations of a workload, newest first, and a line for
// each that is damaged.
func Log(ctx context.Context, s Site, name string) (rows []api.GenerationRow, damaged []string, err error) {
	return nil, nil, errUnbuilt
}

// Checkpoint takes a generation now and returns when it is committed.
func Checkpoint(ctx context.Context, s Site, name, tag string) (api.GenerationRow, error) {
	return api.GenerationRow{}, errUnbuilt
}

// StopOptions says how a workload is stopped.
type StopOptions struct {
	Signal  int           // 0: checkpoint and end frozen; else let it end by itself first
	Timeout time.Duration // how long it may take to end by itself; then checkpoint and end
}

// Stop commits what runs and ends it.
func Stop(ctx context.Context, s Site, name string, o StopOptions, progress Progress) (api.Status, error) {
	return api.Status{}, errUnbuilt
}

// Start lets a workload go on that does not run: from its newest generation
// if it was stopped frozen, else by starting its command.
func Start(ctx context.Context, s Site, name string, progress Progress) (Outcome, error) {
	return Outcome{}, errUnbuilt
}

// RestoreOptions says which generation is put back.
type RestoreOptions struct {
	Generation string // "g411" or "411"; empty: the newest
	Undo       bool   // the newest one tagged undo
}

// Restore puts a generation back. What runs is committed first as a
// generation tagged undo, and comes back when the restore fails.
func Restore(ctx context.Context, s Site, name string, o RestoreOptions, progress Progress) (Outcome, error) {
	return Outcome{}, errUnbuilt
}

// Set changes a workload's policy.
func Set(ctx context.Context, s Site, name string, c api.PolicyChange) (api.Policy, error) {
	return api.Policy{}, errUnbuilt
}

// Signal sends a signal to the workload's command.
func Signal(ctx context.Context, s Site, name string, sig int) error { return errUnbuilt }

// Attach connects to the workload's terminal; the connection speaks the
// protocol of the terminal package.
func Attach(ctx context.Context, s Site, name string, readOnly bool) (net.Conn, error) {
	return nil, errUnbuilt
}

// Wait returns when the workload has ended for good (stopped, finished or
// failed), with its last status. Recoveries in between do not end it.
func Wait(ctx context.Context, s Site, name string) (api.Status, error) {
	return api.Status{}, errUnbuilt
}

// Remove ends a workload, if it runs, and deletes it with all its generations.
func Remove(ctx context.Context, s Site, name string) error { return errUnbuilt }

// Output returns the path of the file that holds what a workload printed.
func Output(s Site, name string) (string, error) { return "", errUnbuilt }

// Main is the keeper process (`wakepoint _keeper ARGS`). The arguments are
// what the guard gave; they are this package's own.
func Main(ctx context.Context, args []string) error { return errUnbuilt }

// GuardMain is the guard process (`wakepoint _guard ARGS`): it starts the
// keeper, and again when it dies while its workload lives.
func GuardMain(args []string) error { return errUnbuilt }

// DumpTo writes the process tree below pid into dir, which is made, or
// exists and is empty. The tree is ended when the generation is committed,
// or, with leaveRunning, goes on. On an error it runs on as before.
func DumpTo(ctx context.Context, dir string, pid int, leaveRunning bool) error { return errUnbuilt }

// RestoreFromOptions says how a dumped tree comes back.
type RestoreFromOptions struct {
	Detach   bool   // return when it runs; else when it has ended
	PIDFile  string // gets the root's PID as the caller sees it; may be empty
	NewPIDNS bool   // into namespaces of its own instead of the host's same PIDs
	Program  string // as in Site
}

// RestoreFrom brings back the tree that DumpTo wrote into dir. Without Detach
// it returns when the tree has ended, with the exit code of its root.
func RestoreFrom(ctx context.Context, dir string, o RestoreFromOptions) (exitCode int, err error) {
	return 0, errUnbuilt
}
