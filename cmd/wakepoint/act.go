package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/wakepoint/wakepoint/internal/api"
	"github.com/wakepoint/wakepoint/internal/keeper"
)

// onWorkload is a command whose first argument names a workload.
func (a *app) onWorkload(c *cobra.Command, codes []int, run func(ctx context.Context, s keeper.Site, name string, args []string) error) *cobra.Command {
	c.ValidArgsFunction = a.completeNames
	if c.Args == nil {
		c.Args = takes(1, 1)
	}
	return a.command(c, append(codes, 4, 7), func(ctx context.Context, args []string) error {
		site, err := a.site()
		if err != nil {
			return err
		}
		return a.onNamed(ctx, site, args[0], func() error {
			a.warnOf(site, args[0])
			return run(ctx, site, args[0], args[1:])
		})
	})
}

// onNamed does something to a workload. Where there is no store yet there is
// no workload, and none is made.
func (a *app) onNamed(ctx context.Context, s keeper.Site, name string, do func() error) error {
	var err error
	if a.noStore(s) {
		err = api.Errorf(api.CodeNotFound, "", "no workload %q", name)
	} else {
		err = do()
	}
	return a.named(name, err, func() []string { return a.names(ctx) })
}

func (a *app) setCommand() *cobra.Command {
	var p policyFlags
	var cmd *cobra.Command
	cmd = a.onWorkload(&cobra.Command{
		Use:   "set NAME --every 5s ...",
		Short: "Change a workload's policy",
		Long: `Change a workload's policy. What is not named stays as it is; --data replaces
all directories.`,
		Example: "  wakepoint set web --every 5s --on-crash fresh",
	}, []int{11}, func(ctx context.Context, s keeper.Site, name string, _ []string) error {
		change, _, err := p.change(cmd)
		if err != nil {
			return err
		}
		policy, err := keeper.Set(ctx, s, name, change)
		if err != nil {
			return err
		}
		if a.format == "json" {
			return a.printJSON(policy)
		}
		a.say("%s: %s", name, policyText(policy))
		return nil
	})
	p.add(cmd)
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if _, changed, err := p.change(cmd); err == nil && !changed && len(args) == 1 {
			return usage(cmd, "nothing is changed: give at least one flag")
		}
		return takes(1, 1)(cmd, args)
	}
	return a.formatFlag(cmd)
}

func (a *app) checkpointCommand() *cobra.Command {
	var tag string
	cmd := a.onWorkload(&cobra.Command{
		Use:   "checkpoint NAME [--tag T]",
		Short: "Take a generation now",
		Long: `Take a generation now. Its number (g412) is printed when it is committed, that
is, when it survives a power cut.`,
	}, []int{6, 11}, func(ctx context.Context, s keeper.Site, name string, _ []string) error {
		row, err := keeper.Checkpoint(ctx, s, name, tag)
		if err != nil {
			return err
		}
		fmt.Fprintln(a.out, row.Generation)
		return nil
	})
	cmd.Flags().StringVar(&tag, "tag", "", "a `WORD` that \"wakepoint log\" shows beside it")
	return cmd
}

func (a *app) stopCommand() *cobra.Command {
	var sig string
	timeout := 10 * time.Second
	cmd := a.onWorkload(&cobra.Command{
		Use:   "stop NAME [--signal TERM --timeout 10s]",
		Short: "Checkpoint a workload and end it",
		Long: `Checkpoint a workload and end it while it stands still: "wakepoint start" goes
on at the very instruction. With --signal it is let to end by itself first, and
is checkpointed and ended when it has not after the timeout.`,
	}, []int{6, 11}, func(ctx context.Context, s keeper.Site, name string, _ []string) error {
		o := keeper.StopOptions{Timeout: timeout}
		if sig != "" {
			number, err := parseSignal(sig)
			if err != nil {
				return err
			}
			o.Signal = int(number)
		}
		status, err := keeper.Stop(ctx, s, name, o, a.progress())
		if err != nil {
			return err
		}
		if status.Ended {
			a.say("%s ended with exit code %d", name, status.ExitCode)
		} else {
			a.say("%s is stopped at %s", name, dash(status.Generation))
		}
		return nil
	})
	cmd.Flags().StringVar(&sig, "signal", "", "send this `SIGNAL` first and wait")
	cmd.Flags().DurationVar(&timeout, "timeout", timeout, "how `LONG` to wait after --signal")
	return cmd
}

func (a *app) startCommand() *cobra.Command {
	return a.strictFlag(a.onWorkload(&cobra.Command{
		Use:   "start NAME",
		Short: "Let a stopped workload go on",
		Long: `Let a workload go on that was stopped, where it was. One that ended by itself is
started afresh.`,
	}, []int{7, 9, 11}, func(ctx context.Context, s keeper.Site, name string, _ []string) error {
		if err := needRights(); err != nil {
			return err
		}
		out, err := keeper.Start(ctx, s, name, a.progress())
		if err != nil {
			return err
		}
		return a.cameBack(out)
	}))
}

// cameBack says how a workload was brought up; an older generation than the
// newest has an exit code of its own.
func (a *app) cameBack(out keeper.Outcome) error {
	a.say("%s: %s", out.Name, out.Words)
	if out.Older {
		return exitCode(9)
	}
	return nil
}

func (a *app) signalCommand() *cobra.Command {
	return a.onWorkload(&cobra.Command{
		Use:   "signal NAME SIG",
		Short: "Send a signal to a workload's first process",
		Long: `Send a signal to a workload's first process. SIG is a name (TERM, SIGTERM) or a
number.`,
		Args: takes(2, 2),
	}, nil, func(ctx context.Context, s keeper.Site, name string, args []string) error {
		sig, err := parseSignal(args[0])
		if err != nil {
			return err
		}
		return keeper.Signal(ctx, s, name, int(sig))
	})
}

// parseSignal reads a signal's name, with or without SIG, or its number.
// RTMIN+n and RTMAX-n are counted as kill(1) does.
func parseSignal(s string) (syscall.Signal, error) {
	if n, err := strconv.Atoi(s); err == nil {
		if n > 0 && n <= 64 {
			return syscall.Signal(n), nil
		}
		return 0, misuse("signals are 1 to 64", "there is no signal %d", n)
	}
	name := strings.ToUpper(s)
	if !strings.HasPrefix(name, "SIG") {
		name = "SIG" + name
	}
	if n := unix.SignalNum(name); n != 0 {
		return n, nil
	}
	for _, base := range []struct {
		prefix string
		number int
		sign   int
	}{{"SIGRTMIN", 34, 1}, {"SIGRTMAX", 64, -1}} {
		rest, ok := strings.CutPrefix(name, base.prefix)
		if !ok {
			continue
		}
		offset := 0
		if rest != "" {
			var err error
			if offset, err = strconv.Atoi(rest); err != nil || offset*base.sign < 0 {
				break
			}
		}
		if n := base.number + offset; n >= 34 && n <= 64 {
			return syscall.Signal(n), nil
		}
	}
	return 0, misuse("`kill -l` lists the signals", "there is no signal %q", s)
}

func (a *app) rmCommand() *cobra.Command {
	var dry, yes bool
	cmd := a.command(&cobra.Command{
		Use:   "rm NAME... [--dry-run] [--yes]",
		Short: "End workloads and delete them with all their generations",
		Long: `End workloads, if they run, and delete them with all their generations. On a
terminal it asks first, unless --yes is given. --dry-run only says what would
go.`,
		Args:              takes(1, -1),
		ValidArgsFunction: a.completeNames,
	}, []int{3, 4, 7, 11}, func(ctx context.Context, args []string) error {
		site, err := a.site()
		if err != nil {
			return err
		}
		return a.each(args, func(name string) error {
			return a.onNamed(ctx, site, name, func() error {
				a.warnOf(site, name)
				return a.remove(ctx, site, name, dry, yes)
			})
		})
	})
	destroyFlags(cmd, &dry, &yes)
	return cmd
}

func (a *app) remove(ctx context.Context, site keeper.Site, name string, dry, yes bool) error {
	status, err := keeper.StatusOf(ctx, site, name)
	if err != nil && api.AsError(err).Code == api.CodeNotFound && !dry {
		return removeNow(ctx, site, name) // if only its name is taken
	}
	if err != nil {
		return err
	}
	rows, damaged, err := keeper.Log(ctx, site, name)
	if err != nil && status.Damage == nil && !dry && !yes {
		return err
	}
	what := fmt.Sprintf("%s (%s) with %d generations", name, status.State, len(rows)+len(damaged))
	if dry {
		fmt.Fprintln(a.out, what)
		return nil
	}
	if err := a.sure(yes, what); err != nil {
		return err
	}
	return removeNow(ctx, site, name)
}

// removeWait is how long a keeper may take to leave after its workload's end.
const removeWait = 5 * time.Second

// removeNow removes a workload, also one whose keeper is just leaving.
func removeNow(ctx context.Context, site keeper.Site, name string) error {
	for deadline := time.Now().Add(removeWait); ; time.Sleep(20 * time.Millisecond) {
		err := keeper.Remove(ctx, site, name)
		if err == nil || time.Now().After(deadline) || ctx.Err() != nil {
			return err
		}
		if status, serr := keeper.StatusOf(ctx, site, name); serr != nil || !over(status.State) {
			return err
		}
	}
}

// each does something for every argument; with several, a part that failed
// has an exit code of its own.
func (a *app) each(args []string, do func(arg string) error) error {
	var failed []error
	for _, arg := range args {
		if err := do(arg); err != nil {
			failed = append(failed, err)
		}
	}
	return a.someFailed(failed, len(args))
}

// someFailed reports failures of several things: one of one as it is, some of
// several as code 3, all of several as the first.
func (a *app) someFailed(failed []error, of int) error {
	if len(failed) == 0 {
		return nil
	}
	if of == 1 {
		return failed[0]
	}
	code := 0
	for _, err := range failed {
		if c := a.report(err); code == 0 {
			code = c
		}
	}
	if len(failed) < of {
		code = 3
	}
	return exitCode(code)
}
