package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/wakepoint/wakepoint/internal/api"
	"github.com/wakepoint/wakepoint/internal/engine"
	"github.com/wakepoint/wakepoint/internal/keeper"
)

func (a *app) checkCommand() *cobra.Command {
	after := time.Second
	var cmd *cobra.Command
	cmd = a.command(&cobra.Command{
		Use:   "check PID | check -- CMD [ARG]...",
		Short: "Can it be saved? Every obstacle by name",
		Long: `Say whether a running process and its descendants can be saved: every obstacle
by name, with a hint. With -- CMD the command is started, looked at after
--after, and ended again; what it did until then is done.`,
		Example: `  wakepoint check 4711
  wakepoint check -- ./server --port 8080`,
		Args: takes(1, -1),
	}, []int{6, codeNotRunnable, codeNotFound}, func(ctx context.Context, args []string) error {
		if cmd.ArgsLenAtDash() < 0 {
			if len(args) > 1 {
				return usage(cmd, "%q is one argument too many; a command comes after --", args[1])
			}
			return a.checkPID(args[0])
		}
		return a.checkNew(ctx, args, after)
	})
	cmd.Flags().DurationVar(&after, "after", after, "with -- CMD: how `LONG` it runs before it is looked at")
	return a.formatFlag(cmd)
}

func (a *app) checkPID(typed string) error {
	pid, err := protectable(typed)
	if err != nil {
		return err
	}
	obstacles, err := keeper.Check(engine.PID(pid))
	if err != nil {
		return about(fmt.Sprintf("pid %d", pid), err)
	}
	if h, err := engine.HandleOf(engine.PID(pid)); err == nil {
		a.warnOfFiles(h)
	}
	return a.printObstacles(fmt.Sprintf("pid %d", pid), obstacles)
}

// checkNew starts a command as `run` would, looks at it and ends it.
func (a *app) checkNew(ctx context.Context, argv []string, after time.Duration) error {
	if err := a.findCommand(argv[0]); err != nil {
		return err
	}
	if err := needRights(); err != nil {
		return err
	}
	tree, err := a.startBriefly(ctx, argv)
	if err != nil {
		return keeper.ExplainExec(err)
	}
	defer tree.Close()
	defer tree.Kill(context.WithoutCancel(ctx))
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-tree.Done():
		return api.Errorf(api.CodeFailed, "look at it sooner with --after 100ms", "%s ended before it was looked at", argv[0])
	case <-time.After(after):
	}
	obstacles, err := keeper.Check(tree.Handle().Command)
	if err != nil {
		return err
	}
	a.warnOfFiles(tree.Handle())
	return a.printObstacles(argv[0], obstacles)
}

// startBriefly starts a command whose output goes to our standard error and
// whose end nobody asks for.
func (a *app) startBriefly(ctx context.Context, argv []string) (*engine.Tree, error) {
	record, err := os.CreateTemp("", "wakepoint-check-")
	if err != nil {
		return nil, err
	}
	defer record.Close()
	defer os.Remove(record.Name())
	dir, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	mask, err := umask()
	if err != nil {
		return nil, err
	}
	output, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return nil, err
	}
	defer output.Close()
	return engine.Start(ctx, engine.StartOptions{
		Argv: argv, Env: a.env, Dir: dir, Umask: mask, Stdout: output, Stderr: output,
		Record: record, Helper: "/proc/self/exe",
	})
}

// printObstacles prints what stands in the way; anything does not end well.
func (a *app) printObstacles(what string, obstacles []engine.Obstacle) error {
	if a.format == "json" {
		if err := a.printJSON(append([]engine.Obstacle{}, obstacles...)); err != nil {
			return err
		}
	} else if len(obstacles) > 0 {
		var table [][]string
		for _, o := range obstacles {
			table = append(table, []string{numberText(int(o.PID)), o.What, strings.ReplaceAll(o.Hint, "\n", " ")})
		}
		if err := a.printTable([]string{"PID", "OBSTACLE", "HINT"}, table); err != nil {
			return err
		}
	}
	if len(obstacles) > 0 {
		return exitCode(api.CodeRefused)
	}
	a.say("%s can be saved", what)
	return nil
}
