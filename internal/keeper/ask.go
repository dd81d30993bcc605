package keeper

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/wakepoint/wakepoint/internal/api"
	"github.com/wakepoint/wakepoint/internal/store"
)

const (
	silentAfter = 10 * time.Second // a keeper that has not said how it is by then does not answer
	lookAgain   = 2 * time.Second  // how often it is asked while something else is awaited
	askMax      = 10 * time.Minute // for one request, beside the time that the program itself was given
)

// patience is how long a keeper may be silent.
func (s Site) patience() time.Duration {
	if s.silent != 0 {
		return s.silent
	}
	return silentAfter
}

// call asks the keeper of a workload. It waits as long as the keeper works on
// the answer, but not for one that hangs.
func (s Site) call(ctx context.Context, name string, q api.Request, progress Progress) (api.Reply, *store.Workload, error) {
	w, err := s.workload(name)
	if err != nil {
		return api.Reply{}, nil, err
	}
	r, err := s.ask(ctx, w.Dir(), name, q, progress)
	return r, w, err
}

// ask is call for a workload's directory.
func (s Site) ask(ctx context.Context, dir, name string, q api.Request, progress Progress) (api.Reply, error) {
	limit := askMax + seconds(q.TimeoutSeconds)
	late := api.Errorf(api.CodeFailed, "`wakepoint status "+name+"` shows whether it does it yet", "its keeper has not done it in %v", limit)
	ctx, stop := context.WithTimeoutCause(ctx, limit, late)
	defer stop()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go s.watch(ctx, dir, cancel)
	r, err := api.Call(ctx, dir, q, func(r api.Reply) { progress.say(r.Progress) })
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = api.Errorf(api.CodeFailed, "`wakepoint status "+name+"` shows what runs", "%w before it answered", errKeeperDied)
	}
	return r, caused(ctx, err)
}

// caused returns why the wait for an answer was given up, if that is why err
// came.
func caused(ctx context.Context, err error) error {
	var why *api.Error
	if err != nil && errors.As(context.Cause(ctx), &why) {
		return why
	}
	return err
}

// watch gives up, by cancel, when the keeper in dir does not answer any more.
func (s Site) watch(ctx context.Context, dir string, cancel context.CancelCauseFunc) {
	for {
		if _, err := s.ping(ctx, dir); errors.Is(err, errSilent) {
			cancel(err)
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(lookAgain):
		}
	}
}

// errSilent says that a keeper holds its socket and does not answer.
var errSilent = errors.New("does not answer")

// ping asks the keeper in dir how it is; errSilent when it hangs.
func (s Site) ping(ctx context.Context, dir string) (api.Status, error) {
	limited, stop := context.WithTimeout(ctx, s.patience())
	defer stop()
	r, err := api.Call(limited, dir, api.Request{Op: api.OpStatus}, nil)
	if err == nil && r.Status == nil {
		err = api.ErrNoKeeper
	}
	if err != nil {
		if ctx.Err() == nil && limited.Err() != nil {
			err = silentError(keeperPID(ctx, dir))
		}
		return api.Status{}, err
	}
	return *r.Status, nil
}

func silentError(pid int) error {
	if pid == 0 {
		return api.Errorf(api.CodeFailed, "", "its keeper %w", errSilent)
	}
	if stateOf(pid) == "T" {
		return api.Errorf(api.CodeFailed, "`kill -CONT "+strconv.Itoa(pid)+"` lets it go on",
			"its keeper (pid %d) is stopped and %w", pid, errSilent)
	}
	return api.Errorf(api.CodeFailed, "`kill -KILL "+strconv.Itoa(pid)+"` ends the keeper: the program runs on, and a new keeper takes over",
		"its keeper (pid %d) %w", pid, errSilent)
}

// keeperPID returns who listens in dir, 0 when that cannot be known.
func keeperPID(ctx context.Context, dir string) int {
	c, err := api.Dial(ctx, dir)
	if err != nil {
		return 0
	}
	defer c.Close()
	u, ok := c.(*net.UnixConn)
	if !ok {
		return 0
	}
	cred, err := api.Peer(u)
	if err != nil {
		return 0
	}
	return int(cred.Pid)
}

// stateOf returns the state of a process (proc_pid_stat(5), field 3).
func stateOf(pid int) string {
	p, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return ""
	}
	f := strings.Fields(string(p[strings.LastIndexByte(string(p), ')')+1:]))
	if len(f) == 0 {
		return ""
	}
	return f[0]
}
