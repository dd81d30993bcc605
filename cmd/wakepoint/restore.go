package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/wakepoint/wakepoint/internal/api"
	"github.com/wakepoint/wakepoint/internal/keeper"
)

// restoreFlags are the flags of `restore`.
type restoreFlags struct {
	undo    bool
	from    string
	detach  bool
	pidFile string
	newNS   bool
}

func (a *app) restoreCommand() *cobra.Command {
	var f restoreFlags
	var cmd *cobra.Command
	cmd = a.command(&cobra.Command{
		Use:   "restore NAME[@GEN] [--undo] | restore --from DIR [-d] [--pidfile F]",
		Short: "Put a generation back",
		Long: `Put a generation of a workload back, the newest one unless GEN is given. What
runs is first kept as a generation tagged undo, which --undo puts back. restore
returns when the program runs.

With --from it brings back the process tree that "wakepoint dump" wrote to DIR,
to the same process numbers, or with --new-pidns into namespaces of its own. It
then stays until the tree has ended and ends with its exit code, or with -d
returns when it runs.

What the program had acknowledged to others since the generation is undone.`,
		Example: `  wakepoint restore web@g411
  wakepoint restore web --undo
  wakepoint restore --from /backup/job -d --pidfile /run/job.pid`,
		Args:              takes(0, 1),
		ValidArgsFunction: a.completeNames,
	}, []int{4, 6, 7, 9, 11, codeProgramsOwn, codeSignalledOwn}, func(ctx context.Context, args []string) error {
		if err := f.check(cmd, args); err != nil {
			return err
		}
		if err := needRights(); err != nil {
			return err
		}
		if f.from != "" {
			return a.restoreFrom(ctx, f)
		}
		name, generation, _ := strings.Cut(args[0], "@")
		site, err := a.site()
		if err != nil {
			return err
		}
		return a.onNamed(ctx, site, name, func() error {
			a.warnOf(site, name)
			return a.restore(ctx, site, name, keeper.RestoreOptions{Generation: generation, Undo: f.undo})
		})
	})
	flags := a.strictFlag(cmd).Flags()
	flags.BoolVar(&f.undo, "undo", false, "put back what ran before the last restore")
	flags.StringVar(&f.from, "from", "", "bring back what `dump --to DIR` wrote")
	flags.BoolVarP(&f.detach, "detach", "d", false, "with --from: return when it runs")
	flags.StringVar(&f.pidFile, "pidfile", "", "with --from: write the root's PID to this `FILE`")
	flags.BoolVar(&f.newNS, "new-pidns", false, "with --from: into namespaces of its own")
	return cmd
}

// check finds flags that do not go together.
func (f restoreFlags) check(cmd *cobra.Command, args []string) error {
	switch {
	case f.from == "" && len(args) == 0:
		return usage(cmd, "an argument is missing: a workload, or --from DIR")
	case f.from != "" && (len(args) > 0 || f.undo):
		return usage(cmd, "--from stands alone, without a workload or --undo")
	case f.from == "" && (f.detach || f.pidFile != "" || f.newNS):
		return usage(cmd, "-d, --pidfile and --new-pidns go with --from")
	case f.undo && strings.Contains(args[0], "@"):
		return usage(cmd, "--undo chooses the generation itself")
	}
	return nil
}

func (a *app) restore(ctx context.Context, site keeper.Site, name string, o keeper.RestoreOptions) error {
	out, err := keeper.Restore(ctx, site, name, o, a.progress())
	if err != nil {
		if e := api.AsError(err); e.Code == api.CodeNotFound && o.Generation != "" && e.Hint == "" {
			return api.Errorf(e.Code, "`wakepoint log "+name+"` lists the generations", "%w", err)
		}
		return err
	}
	if o.Generation != "" || o.Undo {
		out.Older = false // it is the one that was asked for
	}
	return a.cameBack(out)
}

func (a *app) restoreFrom(ctx context.Context, f restoreFlags) error {
	site, err := a.site()
	if err != nil {
		return err
	}
	code, err := untilFree(ctx, func() (int, error) {
		return site.RestoreFrom(ctx, f.from, keeper.RestoreFromOptions{Detach: f.detach, PIDFile: f.pidFile, NewPIDNS: f.newNS})
	})
	if err != nil {
		return about(f.from, err)
	}
	if code != 0 {
		return exitCode(code)
	}
	return nil
}

// numbersWait is how long a restore to the same process numbers waits for
// them: what a dump has just ended keeps them until init has taken note of it.
const numbersWait = 5 * time.Second

// untilFree tries again while a process number is taken.
func untilFree(ctx context.Context, restore func() (int, error)) (int, error) {
	for deadline := time.Now().Add(numbersWait); ; {
		code, err := restore()
		if !errors.Is(err, syscall.EEXIST) {
			return code, err
		}
		if time.Now().After(deadline) {
			return 0, err
		}
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (a *app) dumpCommand() *cobra.Command {
	var leave bool
	var to string
	var cmd *cobra.Command
	cmd = a.command(&cobra.Command{
		Use:   "dump [--leave-running] --to DIR PID",
		Short: "Write a process tree to a directory, once",
		Long: `Write a process and its descendants to a directory that does not exist or is
empty, with the files that they have open for writing. The tree is ended when
the generation is committed, unless --leave-running is given. A tree that cannot
be saved is refused by name and runs on. "wakepoint restore --from DIR" brings
it back.`,
		Example: "  wakepoint dump --to /backup/job 4711",
		Args:    takes(1, 1),
	}, []int{6}, func(ctx context.Context, args []string) error {
		if to == "" {
			return usage(cmd, "--to DIR is missing")
		}
		pid, err := protectable(args[0])
		if err != nil {
			return err
		}
		if err := needRights(); err != nil {
			return err
		}
		if name := a.ownerOf(ctx, pid); name != "" {
			return api.Errorf(api.CodeRefused, "`wakepoint checkpoint "+name+"` takes a generation of it, `wakepoint stop "+name+"` ends it with one",
				"pid %d belongs to the workload %s", pid, name)
		}
		site, err := a.site()
		if err != nil {
			return err
		}
		if err := site.DumpTo(ctx, to, pid, leave); err != nil {
			return about(fmt.Sprintf("pid %d", pid), err)
		}
		a.say("pid %d is in %s", pid, to)
		if volatile(to) {
			a.say("%s lies in memory (tmpfs): a boot or a power cut takes it away", to)
		}
		return nil
	})
	cmd.Flags().BoolVar(&leave, "leave-running", false, "let the tree go on")
	cmd.Flags().StringVar(&to, "to", "", "the `DIR` to write to")
	return cmd
}
