// Package keeper is where everything meets: the process that looks after one
// workload, and what the command line does to workloads.
//
// Each workload has a keeper: a process that holds the workload's lock, takes
// its checkpoints, answers requests on its socket and brings the workload
// back when it crashes. A guard, its parent, starts it again when it dies.
// Nothing central can fail: the functions on a Site (Launch, Recover, List
// ...) are called by short-lived commands, which ask a keeper over its socket
// or, where none lives, read the workload's records.
//
//	guard -> Main -> Run -> keeper.bring   start, take over, restore
//	                     -> keeper.loop    checkpoints, requests, ends
//	                     -> keeper.recover incidents: what policy says, until something lives
package keeper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/wakepoint/wakepoint/internal/api"
	"github.com/wakepoint/wakepoint/internal/hint"
	"github.com/wakepoint/wakepoint/internal/pocket"
	"github.com/wakepoint/wakepoint/internal/service"
	"github.com/wakepoint/wakepoint/internal/store"
)

// Site is where workloads live.
type Site struct {
	StoreDir string // the store
	KeyFile  string // the key that the store is sealed with; empty: the zero key
	Beside   string // the directory of heads and trusted signers, for a key beside which nothing can be written; empty: that of the key
	Strict   bool   // refuse a workload that is older than it was
	warn     func(error)
	// Units is where systemd is the parent of keepers; nil: a guard is.
	Units   *service.Units
	Program string // path of the wakepoint program, which guards and keepers run; empty: this program

	silent time.Duration // after which a keeper counts as one that does not answer; 0: silentAfter
}

// Progress takes words for a person. It may be nil.
type Progress func(words string)

func (p Progress) say(words string) {
	if p != nil && words != "" {
		p(words)
	}
}

// Outcome is how a workload was brought up.
type Outcome struct {
	Name   string     `json:"name"`
	Status api.Status `json:"status"`
	Words  string     `json:"words"` // "restored from g411, lost at most 0.8 s"; "was running"; "started afresh"
	Older  bool       `json:"older"` // restored, but not from the newest generation: exit code 9
	Err    *api.Error `json:"error,omitempty"`
}

// filled returns s with absolute paths, since guards run elsewhere.
func (s Site) filled() (Site, error) {
	var err error
	if s.StoreDir, err = filepath.Abs(s.StoreDir); err != nil {
		return s, err
	}
	if s.Program == "" {
		if s.Program, err = os.Executable(); err != nil {
			return s, err
		}
	}
	if s.KeyFile != "" {
		s.KeyFile, err = filepath.Abs(s.KeyFile)
	}
	return s, err
}

// beside is the path of a file of ours that lies outside the store; "" for a
// site without a key.
func (s Site) beside(name string) string {
	switch {
	case s.KeyFile == "":
		return ""
	case s.Beside != "":
		return filepath.Join(s.Beside, name)
	}
	return filepath.Join(filepath.Dir(s.KeyFile), name)
}

func noWorkload(name string) *api.Error {
	return api.Errorf(api.CodeNotFound, "`wakepoint ps` lists the workloads", "no workload %q", name)
}

// workload opens one workload of the store.
func (s Site) workload(name string) (*store.Workload, error) {
	st, err := s.open()
	if err != nil {
		return nil, err
	}
	w, err := st.Workload(name)
	switch {
	case errors.Is(err, store.ErrNotFound), errors.Is(err, store.ErrName):
		return nil, noWorkload(name)
	case errors.Is(err, store.ErrDamaged):
		return nil, damagedError(name, err)
	case err != nil:
		return nil, hint.Store(s.StoreDir, err)
	}
	return w, nil
}

// errKeeperDied says that a keeper ended before it could report; errGuardDied
// that its guard did so too, so that no other one comes.
var (
	errKeeperDied = errors.New("its keeper died")
	errGuardDied  = fmt.Errorf("%w, and its guard", errKeeperDied)
)

// guardEnd is how long a guard that was killed with its keeper may take to be
// gone.
const guardEnd = 200 * time.Millisecond

// spawn starts a keeper for a workload and waits for it to report on its
// action. The keeper outlives this process.
func (s Site) spawn(ctx context.Context, dir string, a arguments, progress Progress) (out Outcome, execCode int, err error) {
	if s.Units != nil {
		return s.order(ctx, dir, a, progress)
	}
	r, w, err := os.Pipe()
	if err != nil {
		return out, 0, err
	}
	defer r.Close()
	log, err := openLog(filepath.Join(dir, logName))
	if err != nil {
		w.Close()
		if _, gone := os.Stat(dir); errors.Is(gone, fs.ErrNotExist) {
			return out, 0, noWorkload(a.Name) // it was removed just now
		}
		return out, 0, fmt.Errorf("open the keeper's log: %w", err)
	}
	a.Site, a.report = s, true
	cmd := exec.Command(s.Program, append([]string{"_guard"}, a.args()...)...)
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{w}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := pocket.BequeathNothing(); err != nil { // a guard outlives those who wait for their end
		w.Close()
		log.Close()
		return out, 0, err
	}
	err = cmd.Start()
	w.Close()
	log.Close()
	if err != nil {
		return out, 0, fmt.Errorf("start the keeper: %w", err)
	}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = cmd.Wait() }()
	return s.hear(ctx, dir, r, progress, func() error {
		hint := "see " + filepath.Join(dir, logName)
		select {
		case <-ended:
			return api.Errorf(api.CodeFailed, hint, "%w", errGuardDied)
		case <-time.After(guardEnd):
			return api.Errorf(api.CodeFailed, hint, "%w", errKeeperDied)
		}
	})
}

// hear listens to a keeper's report. died says what it means that it ended
// without an outcome.
func (s Site) hear(ctx context.Context, dir string, r io.ReadCloser, progress Progress, died func() error) (out Outcome, execCode int, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go s.watch(ctx, dir, cancel)
	stop := context.AfterFunc(ctx, func() { r.Close() })
	defer stop()
	dec := json.NewDecoder(r)
	for {
		var line report
		if err := dec.Decode(&line); err != nil {
			if ctx.Err() != nil {
				return out, 0, caused(ctx, ctx.Err())
			}
			return out, 0, died()
		}
		progress.say(line.Progress)
		if line.Outcome != nil {
			out = *line.Outcome
			if out.Err != nil {
				err = out.Err
			}
			return out, line.Exec, err
		}
	}
}

// logMax is the size at which a keeper's log is put aside, once.
const logMax = 1 << 20

func openLog(path string) (*os.File, error) {
	if st, err := os.Stat(path); err == nil && st.Size() > logMax {
		if err := os.Rename(path, path+".1"); err != nil {
			return nil, err
		}
	}
	return os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
}
