package keeper

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"runtime/debug"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/wakepoint/wakepoint/internal/api"
	"github.com/wakepoint/wakepoint/internal/hint"
	"github.com/wakepoint/wakepoint/internal/notify"
	"github.com/wakepoint/wakepoint/internal/pocket"
	"github.com/wakepoint/wakepoint/internal/service"
)

// reportFD is the descriptor on which a keeper reports its action to
// whoever started it.
const reportFD = 3

const (
	aliveAfter = time.Second      // a workload that outlives its keeper by this much gets a new one
	restarts   = 10               // quick restarts of a keeper, after which the guard slows down
	slowly     = 30 * time.Second // between restarts then
)

// arguments of guard and keeper.
type arguments struct {
	Options
	report bool
}

func (a arguments) args() []string {
	return []string{
		"-store", a.StoreDir, "-key", a.KeyFile, "-beside", a.Beside, "-program", a.Program,
		"-action", string(a.Action), "-generation", a.Generation,
		"-undo=" + strconv.FormatBool(a.Undo), "-report=" + strconv.FormatBool(a.report), a.Name,
	}
}

func parseArgs(args []string) (arguments, error) {
	var a arguments
	f := flag.NewFlagSet("keeper", flag.ContinueOnError)
	f.StringVar(&a.StoreDir, "store", "", "")
	f.StringVar(&a.KeyFile, "key", "", "")
	f.StringVar(&a.Beside, "beside", "", "")
	f.StringVar(&a.Program, "program", "", "")
	f.StringVar((*string)(&a.Action), "action", "", "")
	f.StringVar(&a.Generation, "generation", "", "")
	f.BoolVar(&a.Undo, "undo", false, "")
	f.BoolVar(&a.report, "report", false, "")
	f.SetOutput(io.Discard)
	if err := f.Parse(args); err != nil {
		return a, err
	}
	if f.NArg() != 1 {
		return a, errors.New("keeper: one name is wanted")
	}
	a.Name = f.Arg(0)
	return a, nil
}

// GuardMain is the guard process (`wakepoint _guard ARGS`): it starts the
// keeper, and again when it dies while its workload lives. When both are gone
// (everything was killed) it ends, and leaves the rest to `recover`.
func GuardMain(args []string) error {
	debug.SetGCPercent(20)
	a, err := parseArgs(args)
	if err != nil {
		return err
	}
	signal.Ignore(syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGPIPE)
	var report *os.File
	if a.report {
		report = os.NewFile(reportFD, "report")
	}
	kept, err := pocket.New()
	if err != nil {
		return err
	}
	for n := 0; ; n++ {
		status := a.keep(report, kept)
		if report != nil {
			_ = report.Close()
			report = nil
		}
		if !status.Signaled() && status.ExitStatus() != 2 { // 2: a panic
			return nil // it ended by itself, and its records say why
		}
		time.Sleep(aliveAfter)
		if !a.wantsKeeper() {
			return nil
		}
		a.Action, a.report = ActRecover, false
		if n >= restarts {
			_ = kept.Drop(notify.Kept) // the program is not made to wait that long
			time.Sleep(slowly)
		}
	}
}

// keep runs one keeper to its end, who leaves what the next one needs in kept.
func (a arguments) keep(report *os.File, kept *pocket.Pocket) syscall.WaitStatus {
	cmd := exec.Command(a.Program, append([]string{"_keeper"}, a.args()...)...)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	cmd.ExtraFiles = append([]*os.File{report}, kept.Files()...)
	cmd.Env = append(os.Environ(), pocket.Environ(reportFD+1))
	err := cmd.Run()
	if cmd.ProcessState == nil {
		fmt.Fprintln(os.Stderr, "guard: start the keeper:", err)
		return 0
	}
	return cmd.ProcessState.Sys().(syscall.WaitStatus)
}

// wantsKeeper says whether the workload lives, or was just being brought up,
// which ends with the keeper that does it.
func (a arguments) wantsKeeper() bool {
	if _, err := os.Lstat(a.StoreDir); err != nil {
		return false // Open would make a store where one was removed
	}
	s, err := a.openStore()
	if err != nil {
		return false
	}
	w, err := s.Workload(a.Name)
	if err != nil {
		return false
	}
	rec, err := readRecords(w)
	if err != nil || !rec.run.Wanted {
		return false
	}
	st := rec.run.State
	return st == api.Starting || st == api.Restoring || st == api.Waiting || realMachine{}.Alive(rec.run.Handle)
}

// order has the workload's unit start a keeper that does an action.
func (s Site) order(ctx context.Context, dir string, a arguments, progress Progress) (out Outcome, execCode int, err error) {
	unit := service.Unit(a.Name)
	var c net.Conn
	offer, err := s.Units.Offer(a.Name)
	if err == nil {
		defer offer.Close()
		c, err = offer.Taken(ctx)
	}
	if ctx.Err() != nil {
		return out, 0, ctx.Err()
	}
	if errors.Is(err, service.ErrBusy) {
		return out, 0, api.Errorf(api.CodeLocked, "`wakepoint status "+a.Name+"` shows what becomes of it", "%w", err)
	}
	if err != nil {
		return out, 0, api.Errorf(api.CodeFailed, "`systemctl status "+unit+"` shows why; `wakepoint doctor --fix` installs the units", "%w", err)
	}
	defer c.Close()
	if err := api.WriteLine(c, unitOrder{a.Action, a.RestoreOptions}); err != nil {
		return out, 0, fmt.Errorf("give the keeper its order: %w", err)
	}
	return s.hear(ctx, dir, c, progress, func() error {
		return api.Errorf(api.CodeFailed, "see `journalctl -u "+unit+"`", "%w", errKeeperDied)
	})
}

// unitOrder is what the keeper of a unit is to do first.
type unitOrder struct {
	Action Action `json:"action"`
	RestoreOptions
}

// UnitMain is the keeper that a unit runs (`wakepoint _unit NAME`). Without an
// order it takes over or brings back what should run. It returns nil when the
// workload is over, or has no use for another keeper; any other end calls for
// a new one.
func UnitMain(ctx context.Context, s Site, name string) error {
	o := Options{Site: s, Name: name, Action: ActRecover}
	u := s.Units
	if u == nil {
		u = &service.Units{}
	}
	c, err := u.Take(name)
	if err != nil {
		return fmt.Errorf("fetch the order: %w", err)
	}
	said := unitReport{c}
	if c != nil {
		var order unitOrder
		_ = c.SetReadDeadline(time.Now().Add(requestWait))
		if err := api.ReadLine(c, &order); err != nil {
			return fmt.Errorf("fetch the order: %w", err)
		}
		o.Action, o.RestoreOptions = order.Action, order.RestoreOptions
	}
	if o.pocket, err = pocket.Inherit(true); err != nil {
		return err
	}
	o.Report, o.again = said, os.Args
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM)
	defer stop()
	if err := runMain(ctx, o); err != nil {
		return hint.Workload(name, err)
	}
	if ctx.Err() != nil {
		return ErrLeft
	}
	return service.Notify("READY=1") // it has ended, which is no failure of its unit
}

// ErrLeft says that a keeper was told to leave a workload that may run on.
var ErrLeft = errors.New("told to leave")

// unitReport is where the keeper of a unit reports: to whoever gave it its
// order, and to systemd, that its action is done.
type unitReport struct{ c net.Conn } // nil: nobody gave one

func (r unitReport) Write(p []byte) (int, error) {
	var line report
	if err := json.Unmarshal(p, &line); err == nil && line.Outcome != nil && (line.Outcome.Err == nil || line.Outcome.Status.State == api.Running) {
		if err := service.Notify("READY=1"); err != nil {
			return 0, err
		}
	}
	if r.c == nil {
		return len(p), nil
	}
	return r.c.Write(p)
}

func (r unitReport) Close() error {
	if r.c == nil {
		return nil
	}
	return r.c.Close()
}

// report is one line from a keeper to whoever started it.
type report struct {
	Progress string   `json:"progress,omitempty"`
	Outcome  *Outcome `json:"outcome,omitempty"` // the last line
	Exec     int      `json:"exec,omitempty"`    // 126 or 127 when the command could not be executed
}

// reporter writes reports, up to the first outcome.
type reporter struct {
	mu sync.Mutex // guards w
	w  io.WriteCloser
}

func newReporter(w io.WriteCloser) *reporter { return &reporter{w: w} }

func (r *reporter) send(v report) {
	if r.w != nil {
		_ = json.NewEncoder(r.w).Encode(v)
	}
}

func (r *reporter) progress(words string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.send(report{Progress: words})
}

func (r *reporter) done(o Outcome, exec int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.send(report{Outcome: &o, Exec: exec})
	if r.w != nil {
		_ = r.w.Close()
		r.w = nil
	}
}

func (r *reporter) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.w != nil {
		_ = r.w.Close()
		r.w = nil
	}
}
