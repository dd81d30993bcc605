package keeper

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime/debug"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/wakepoint/wakepoint/internal/api"
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
	for n := 0; ; n++ {
		status := a.keep(report)
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
			time.Sleep(slowly)
		}
	}
}

// keep runs one keeper to its end.
func (a arguments) keep(report *os.File) syscall.WaitStatus {
	cmd := exec.Command(a.Program, append([]string{"_keeper"}, a.args()...)...)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if report != nil {
		cmd.ExtraFiles = []*os.File{report}
	}
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
	return st == api.Starting || st == api.Restoring || realMachine{}.Alive(rec.run.Handle)
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
