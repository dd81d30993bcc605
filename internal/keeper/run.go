package keeper

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wakepoint/wakepoint/internal/api"
	"github.com/wakepoint/wakepoint/internal/hint"
	"github.com/wakepoint/wakepoint/internal/pocket"
	"github.com/wakepoint/wakepoint/internal/service"
	"github.com/wakepoint/wakepoint/internal/store"
)

const (
	lockWait   = 3 * time.Second // for a keeper that is just ending
	memoryMax  = 96 << 20        // beyond which the collector works harder, not a limit
	gcPercent  = 50
	memoryRest = time.Minute // how long after its start a keeper gives back what the start took
)

// Options says what a keeper process does.
type Options struct {
	Site
	Name   string
	Action Action
	RestoreOptions
	// Report gets lines of JSON (see report) until the action is done; nil:
	// nobody listens.
	Report io.WriteCloser
	Log    *slog.Logger // nil: discarded

	upgrade <-chan os.Signal
	again   []string       // the command line of a keeper that takes over from this one
	pocket  *pocket.Pocket // what the keepers of a workload hand on; nil: nothing
}

// Run is a keeper: it takes the workload's lock (ErrLocked of the store, code
// 11, when another keeper has it), does its action, and then looks after the
// workload until that has ended or ctx is cancelled, which leaves the
// workload running. A result that the records tell is not an error.
func Run(ctx context.Context, o Options) error {
	debug.SetGCPercent(gcPercent)
	debug.SetMemoryLimit(memoryMax)
	// Nobody else may read the memory of a process that reads all others'
	// (PR_SET_DUMPABLE, prctl(2)).
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("hide the keeper's memory: %w", err)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	o.warn = func(err error) { o.Log.Warn(err.Error()) }
	w, err := o.workload(o.Name)
	if err != nil {
		newReporter(o.Report).done(Outcome{Name: o.Name, Err: hint.Workload(o.Name, err)}, 0)
		return err
	}
	return runKeeper(ctx, o, realMachine{o.pocket}, realVault{w})
}

// runKeeper is Run on given seams.
func runKeeper(ctx context.Context, o Options, m machine, v vault) error {
	rep := newReporter(o.Report)
	defer rep.close()
	lock, err := lockOf(ctx, v)
	if err != nil {
		rep.done(Outcome{Name: o.Name, Err: hint.Workload(o.Name, err)}, 0)
		return err
	}
	k := newKeeper(m, v, o.Site, o.Log)
	k.say, k.upgrade, k.pocket = rep.progress, o.upgrade, o.pocket
	k.waits = func(o Outcome) { rep.done(o, 0) }
	if err := k.load(); err != nil {
		lock.Close()
		rep.done(Outcome{Name: o.Name, Err: hint.Workload(o.Name, err)}, 0)
		return err
	}
	free := func() { _ = lock.Close() }
	err = k.runServed(ctx, free, func(ctx context.Context) error { return k.work(ctx, o, rep) })
	rep.done(Outcome{Name: o.Name, Status: k.status(), Err: k.explain(err)}, 0) // if nobody has said so yet
	if errors.Is(err, errLeave) {
		return nil
	}
	return err
}

// work does the action and looks after what it brought up.
func (k *keeper) work(ctx context.Context, o Options, rep *reporter) error {
	if err := k.newest(); err != nil {
		return err
	}
	var err error
	if k.handed, err = k.pocket.Noted(screenName); err != nil {
		k.log.Error("take the terminal as it stood", "err", err)
	}
	k.remember()
	k.listen()
	defer k.deafen()
	words, older, err := k.bring(ctx, o.Action, o.RestoreOptions)
	out := Outcome{Name: o.Name, Status: k.status(), Words: words, Older: older}
	if k.tree == nil {
		if errors.Is(err, errEnded) {
			out.Words = "had ended"
		} else {
			out.Err = k.explain(k.reason(err))
		}
		code, _ := hint.ExitCode(err)
		rep.done(out, code)
		return nil // the records say it
	}
	if err != nil { // a restore failed, and what ran before runs again
		out.Err = k.explain(err)
	}
	rest := time.AfterFunc(memoryRest, debug.FreeOSMemory)
	defer rest.Stop()
	if o.Action == ActLaunch {
		k.onFirst = func(err error) {
			out.Status, out.Err = k.status(), k.explain(err)
			rep.done(out, 0)
		}
	} else {
		rep.done(out, 0)
	}
	k.say = func(string) {}
	err = k.loop(ctx)
	k.launched(nil) // if nobody has said so yet, it ended before its first generation; its status says how
	if errors.Is(err, errGivenUp) {
		return nil
	}
	return err
}

// reason finds what the records say of a workload that was given up.
func (k *keeper) reason(err error) error {
	if errors.Is(err, errGivenUp) && k.rec.run.Error != nil {
		return k.rec.run.Error
	}
	return err
}

// lockOf takes the workload's lock, and waits a little for a keeper that is
// just ending.
func lockOf(ctx context.Context, v vault) (io.Closer, error) {
	for end := time.Now().Add(lockWait); ; {
		l, err := v.Lock()
		if !errors.Is(err, store.ErrLocked) || time.Now().After(end) {
			return l, err
		}
		if c, derr := api.Dial(ctx, v.Dir()); derr == nil { // one that is not ending
			c.Close()
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Main is the keeper process (`wakepoint _keeper ARGS`). The arguments are
// what the guard gave; they are this package's own.
func Main(ctx context.Context, args []string) error {
	o, err := parseArgs(args)
	if err != nil {
		return err
	}
	if o.pocket, err = pocket.Inherit(false); err != nil {
		return err
	}
	if err := pocket.BequeathNothing(); err != nil {
		return err
	}
	if o.report {
		o.Report = os.NewFile(reportFD, "report")
	}
	o.again = append([]string{"wakepoint", "_keeper"}, arguments{Options: Options{Site: o.Site, Name: o.Name, Action: ActRecover}}.args()...)
	return runMain(ctx, o.Options)
}

// errUpgrade ends the loop while the tree runs on, for the program as it is
// installed now.
var errUpgrade = errors.New("leaving the workload to a new program")

// renewable says whether the program that is installed now can be executed: a
// keeper is not given up for one that would not run.
func (k *keeper) renewable(ctx context.Context) bool {
	if ctx.Err() != nil { // told to leave as well
		return false
	}
	err := service.Executable(ctx, k.site.Program)
	if err != nil {
		k.log.Error("no upgrade", "err", err)
	}
	return err == nil
}

// runMain runs a keeper until it is told to leave. SIGHUP upgrades it in
// place: between two checkpoints it executes the program as it is installed
// now, which takes over, as the same process.
func runMain(ctx context.Context, o Options) error {
	o.Log = slog.New(slog.NewTextHandler(os.Stderr, nil)).With("workload", o.Name, "keeper", os.Getpid())
	ctx, stop := signal.NotifyContext(ctx, unix.SIGTERM)
	defer stop()
	signal.Ignore(unix.SIGINT, unix.SIGQUIT, unix.SIGPIPE)
	upgrade := make(chan os.Signal, 1)
	signal.Notify(upgrade, unix.SIGHUP)
	o.upgrade = upgrade
	err := Run(ctx, o)
	if errors.Is(err, errUpgrade) {
		o.Log.Info("upgrade", "program", o.Program)
		var env []string
		if env, err = o.pocket.Bequeath(os.Environ()); err == nil {
			err = unix.Exec(o.Program, o.again, env)
		}
	}
	if err != nil {
		o.Log.Error("keeper ends", "err", err)
	}
	return err
}
