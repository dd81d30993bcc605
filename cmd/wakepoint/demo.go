package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/wakepoint/wakepoint/internal/api"
	"github.com/wakepoint/wakepoint/internal/keeper"
)

const (
	demoWorkload = "demo"
	demoRuns     = 5 * time.Second // and a random part of the interval
	demoPatience = 30 * time.Second
)

// demoResult is what the demo measured.
type demoResult struct {
	EverySeconds    float64 `json:"every_seconds"`
	LostWorkSeconds float64 `json:"lost_work_seconds"`
	RecoverSeconds  float64 `json:"recover_seconds"`
	Generation      string  `json:"generation"`

	lostCounts, count int64
}

func (a *app) demoCommand() *cobra.Command {
	return a.formatFlag(a.command(&cobra.Command{
		Use:   "demo",
		Short: "The whole story in ten seconds, on this machine",
		Long: `The whole story on this machine, in a store of its own that is removed again: a
program counts a thousand times a second and keeps a table in memory. It is
checkpointed every second. After some seconds everything is killed with SIGKILL,
the program, its init, its keeper and the keeper's guard, and is brought back as
"wakepoint recover" does. What was lost is read from the program's own counter.`,
		Args: takes(0, 0),
	}, []int{6, 7}, func(ctx context.Context, args []string) error {
		if err := needRights(); err != nil {
			return err
		}
		result, err := a.demo(ctx)
		if err != nil {
			return err
		}
		if a.format == "json" {
			return a.printJSON(result)
		}
		return a.printFields([][2]string{
			{"checkpointed every", secondsText(result.EverySeconds)},
			{"restored from", result.Generation},
			{"lost work", fmt.Sprintf("%s (%d of %d counts)", secondsText(result.LostWorkSeconds), result.lostCounts, result.count)},
			{"recovered in", secondsText(result.RecoverSeconds)},
		})
	}))
}

// demo plays the story in a directory of its own and leaves nothing behind.
func (a *app) demo(ctx context.Context) (result demoResult, err error) {
	dir, err := os.MkdirTemp("", "wakepoint-demo-")
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	site, err := a.site()
	if err != nil {
		return result, err
	}
	site.StoreDir, site.KeyFile, site.Beside = filepath.Join(dir, "store"), filepath.Join(dir, "key"), ""
	published := filepath.Join(dir, "words")
	every := time.Second

	a.say("a program counts 1,000 times a second and keeps a table in memory; a generation is committed every %s", every)
	out, err := keeper.Launch(ctx, site, api.Spec{
		Name: demoWorkload, Argv: []string{site.Program, demoName, published}, Env: a.env, Dir: "/", Umask: 0o077,
	}, api.Policy{EverySeconds: every.Seconds(), OnCrash: api.OnRestore}, nil)
	defer func() { err = errors.Join(err, demoEnd(ctx, site)) }()
	if err != nil {
		return result, err
	}
	// A crash comes at any point of the interval.
	wait := demoRuns + rand.N(every)
	select {
	case <-ctx.Done():
		return result, ctx.Err()
	case <-time.After(wait):
	}
	status, err := betweenCheckpoints(ctx, site, out.Name, every)
	if err != nil {
		return result, err
	}
	a.say("%s is at %s; now the program, its init, its keeper and the guard are killed", out.Name, status.Generation)
	if err := killAll(status); err != nil {
		return result, err
	}
	return a.demoRecover(ctx, site, published, every)
}

// betweenCheckpoints waits, if the newest generation is nearly an interval
// old, until the next one is committed. A crash in that moment costs the
// interval and what the commit takes, which on a busy disk is another story
// than the one that is told here.
func betweenCheckpoints(ctx context.Context, site keeper.Site, name string, every time.Duration) (api.Status, error) {
	for deadline := time.Now().Add(demoPatience); ; {
		status, err := keeper.StatusOf(ctx, site, name)
		if err == nil && time.Now().After(deadline) {
			return status, fmt.Errorf("no generation was committed for %s", secondsText(status.LostWorkSeconds))
		}
		if err != nil || status.Generation != "" && !status.Checkpointing && status.LostWorkSeconds < 0.9*every.Seconds() {
			return status, err
		}
		select {
		case <-ctx.Done():
			return status, ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// demoRecover brings the program back and measures, by what it publishes.
func (a *app) demoRecover(ctx context.Context, site keeper.Site, published string, every time.Duration) (demoResult, error) {
	result := demoResult{EverySeconds: every.Seconds()}
	last, err := readDemoWords(published)
	if err != nil {
		return result, err
	}
	begin := time.Now()
	outcomes, err := keeper.Recover(ctx, site, nil)
	if err != nil {
		return result, err
	}
	if len(outcomes) != 1 {
		return result, fmt.Errorf("recover found %d workloads", len(outcomes))
	}
	if outcomes[0].Err != nil {
		return result, outcomes[0].Err
	}
	pause, wrong, err := demoGoesOn(ctx, published, begin)
	if err != nil {
		return result, err
	}
	if wrong > 0 {
		return result, api.Errorf(api.CodeIntegrity, "", "%d entries of the program's table came back wrong", wrong)
	}
	if rec := outcomes[0].Status.Recovery; rec != nil {
		result.Generation = rec.Generation
	}
	result.LostWorkSeconds = time.Duration(last.At - pause.From).Seconds()
	result.RecoverSeconds = time.Duration(pause.To - begin.UnixNano()).Seconds()
	result.lostCounts, result.count = last.Count-pause.Count, last.Count
	a.say("it goes on: %s", outcomes[0].Words)
	return result, nil
}

// demoGoesOn waits until the program counts again, and returns the time in
// which it did not.
func demoGoesOn(ctx context.Context, published string, begin time.Time) (demoPause, int64, error) {
	for deadline := time.Now().Add(demoPatience); ; time.Sleep(demoTick) {
		w, err := readDemoWords(published)
		if err != nil {
			return demoPause{}, 0, err
		}
		if p, ok := w.across(begin); ok {
			return p, w.Wrong, nil
		}
		if time.Now().After(deadline) {
			return demoPause{}, 0, fmt.Errorf("the program does not count again")
		}
		if err := ctx.Err(); err != nil {
			return demoPause{}, 0, err
		}
	}
}

// demoEnd removes the workload, if there is one.
func demoEnd(ctx context.Context, site keeper.Site) error {
	err := removeNow(context.WithoutCancel(ctx), site, demoWorkload)
	if err != nil && api.AsError(err).Code == api.CodeNotFound {
		return nil
	}
	return about("remove the demo's workload", err)
}

// killAll ends everything of a workload at once, as a power cut would: the
// guard, the keeper, the init and the command. It returns when they are gone.
func killAll(s api.Status) error {
	own, err := readProcess(s.KeeperPID)
	if err != nil {
		return fmt.Errorf("keeper: %w", err)
	}
	command, err := readProcess(s.PID)
	if err != nil {
		return fmt.Errorf("command: %w", err)
	}
	guard, err := readProcess(own.parent)
	if err != nil {
		return fmt.Errorf("guard: %w", err)
	}
	if len(guard.args) < 2 || guard.args[1] != guardName {
		return fmt.Errorf("pid %d is not the keeper's guard", guard.pid)
	}
	var fds []int
	defer func() {
		for _, fd := range fds {
			unix.Close(fd)
		}
	}()
	// First all descriptors, which name processes for good, then the signals.
	for _, pid := range []int{guard.pid, own.pid, command.parent, command.pid} {
		if pid <= 1 {
			return fmt.Errorf("the command has no init of its own")
		}
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			return fmt.Errorf("pidfd of %d: %w", pid, err)
		}
		fds = append(fds, fd)
	}
	for _, fd := range fds {
		if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && err != unix.ESRCH {
			return fmt.Errorf("kill: %w", err)
		}
	}
	for _, fd := range fds {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		for {
			n, err := unix.Poll(poll, int(demoPatience.Milliseconds()))
			if n == 1 {
				break
			}
			if err != unix.EINTR {
				return fmt.Errorf("a process does not end after SIGKILL")
			}
		}
	}
	return nil
}
