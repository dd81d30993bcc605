package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wakepoint/wakepoint/internal/api"
	"github.com/wakepoint/wakepoint/internal/keeper"
)

// downWait is how long a workload may seem lost before the front end gives
// up: its guard starts a new keeper within about a second.
const downWait = 10 * time.Second

// front is the end of `run` that a person sees: it shows what the program
// prints, passes signals on, and ends as the program does. Its death changes
// nothing for the program.
type front struct {
	a       *app
	site    keeper.Site
	ctx     context.Context // ends when the front end should go without the program
	leave   context.CancelFunc
	signals chan os.Signal
}

func newFront(a *app, site keeper.Site) *front {
	f := &front{a: a, site: site, signals: make(chan os.Signal, 16)}
	f.ctx, f.leave = signal.NotifyContext(context.Background(), syscall.SIGHUP)
	signal.Notify(f.signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2)
	return f
}

// patient is the context of the launch: signals that come meanwhile wait for
// the program, but at the second one the person has waited enough.
func (f *front) patient() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(f.ctx)
	asked := make(chan os.Signal, 2)
	signal.Notify(asked, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		defer signal.Stop(asked)
		for range 2 {
			select {
			case <-asked:
			case <-ctx.Done():
				return
			}
		}
		cancel()
	}()
	return ctx, cancel
}

func (f *front) close() {
	signal.Stop(f.signals)
	f.leave()
}

// follow shows the output of a workload until it has ended for good.
func (f *front) follow(name string) error {
	path, err := keeper.Output(f.site, name)
	if err != nil {
		return err
	}
	ended := make(chan struct{})
	go f.forward(name, ended)
	var status api.Status
	var failed error
	go func() {
		defer close(ended)
		status, failed = keeper.Wait(f.ctx, f.site, name)
	}()
	shown := follow(path, f.a.out, ended)
	if f.ctx.Err() != nil {
		return exitCode(codeSignal + int(syscall.SIGHUP))
	}
	<-ended
	return errors.Join(failed, shown, f.end(status, failed))
}

// forward passes signals on to the program until it has ended.
func (f *front) forward(name string, ended <-chan struct{}) {
	for {
		select {
		case <-ended:
			return
		case sig := <-f.signals:
			if err := keeper.Signal(f.ctx, f.site, name, int(sig.(syscall.Signal))); err != nil {
				f.a.say("%s: pass %s on: %s", name, unix.SignalName(sig.(syscall.Signal)), err)
			}
		}
	}
}

// settled waits until a workload has a keeper again, or has ended.
func (f *front) settled(name string) (api.Status, error) {
	deadline := time.Now().Add(downWait)
	for {
		status, err := keeper.StatusOf(f.ctx, f.site, name)
		if err != nil || over(status.State) || status.KeeperPID != 0 {
			return status, err
		}
		if time.Now().After(deadline) {
			return status, api.Errorf(api.CodeFailed, "`wakepoint recover` brings it back", "%s has no keeper any more", name)
		}
		select {
		case <-f.ctx.Done():
			return status, f.ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func over(s api.State) bool {
	return s == api.Stopped || s == api.Finished || s == api.Failed
}

// end is the program's exit code.
func (f *front) end(status api.Status, failed error) error {
	switch {
	case failed != nil:
		return nil
	case status.State == api.Stopped:
		f.a.complain(status.Name+" was stopped", "`wakepoint start "+status.Name+"` goes on")
		return exitCode(codeSignal + int(syscall.SIGKILL))
	case status.ExitCode != 0:
		return exitCode(status.ExitCode)
	}
	return nil
}

// attachTries is how often in turn a terminal may be missing: between the end
// of a tree and the next one, or the workload's, there is none.
const attachTries = 40

// terminal stays attached to a workload's terminal, through recoveries,
// until the person detaches or the workload has ended for good.
func (f *front) terminal(name string) error {
	signal.Stop(f.signals) // the terminal's own keys reach the program
	for failed := 0; ; {
		outcome, err := f.a.attachTo(f.ctx, f.site, name, false)
		switch {
		case f.ctx.Err() != nil:
			return exitCode(codeSignal + int(syscall.SIGHUP))
		case err == nil && outcome.Detached:
			f.a.say("detached from %s; `wakepoint attach %s` comes back", name, name)
			return nil
		case err == nil:
			failed = 0
		default:
			failed++
		}
		status, rest := f.resting(name)
		if rest != nil {
			return rest
		}
		if over(status.State) {
			return f.end(status, nil)
		}
		if failed >= attachTries {
			return err
		}
	}
}

// resting returns a moment later, when a workload whose terminal ended runs
// again, or has ended for good.
func (f *front) resting(name string) (api.Status, error) {
	for looked := false; ; looked = true {
		status, err := f.settled(name)
		if err != nil || over(status.State) {
			return status, err
		}
		if looked && status.State == api.Running {
			return status, nil
		}
		select {
		case <-f.ctx.Done():
			return status, f.ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}
