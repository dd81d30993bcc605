package keeper

import (
	"context"
	"errors"
	"io"
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
		if _, err := s.ping(ctx, dir); errors.Is(err, api.ErrSilent) {
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

// ping asks the keeper in dir how it is; api.ErrSilent when it hangs.
func (s Site) ping(ctx context.Context, dir string) (api.Status, error) {
	limited, stop := context.WithTimeout(ctx, s.patience())
	defer stop()
	r, err := api.Call(limited, dir, api.Request{Op: api.OpStatus}, nil)
	if err == nil && r.Status == nil {
		err = api.ErrNoKeeper
	}
	if err != nil {
		if ctx.Err() == nil && limited.Err() != nil {
			err = api.SilentError(api.KeeperPID(ctx, dir))
		}
		return api.Status{}, err
	}
	return *r.Status, nil
}
