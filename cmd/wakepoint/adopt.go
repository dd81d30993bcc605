package main

import (
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/wakepoint/wakepoint/internal/api"
	"github.com/wakepoint/wakepoint/internal/keeper"
)

func (a *app) adoptCommand() *cobra.Command {
	var p policyFlags
	var name string
	var cut bool
	cmd := a.command(&cobra.Command{
		Use:   "adopt PID [flags]",
		Short: "Protect a program that runs already",
		Long: `Protect a program that runs already, with its descendants, where it is: it keeps
its process numbers and its parent. What it shares with the outside (a terminal,
a pipe to another program) is refused by name unless --cut is given, which
replaces it when the program is brought back. The workload's name is printed as
soon as the first generation is committed. A program that cannot be saved is let
go unharmed, and no workload is made.`,
		Args: takes(1, 1),
	}, []int{6, 7}, func(ctx context.Context, args []string) error {
		pid, err := protectable(args[0])
		if err != nil {
			return err
		}
		if err := needRights(); err != nil {
			return err
		}
		return a.adopt(ctx, pid, api.Spec{Name: name, Adopt: pid, Cut: cut}, p)
	})
	flags := cmd.Flags()
	flags.Var((*workloadName)(&name), "name", "`NAME` of the workload (default: the command's, with -2 when taken)")
	flags.BoolVar(&cut, "cut", false, "take it though it shares things with the outside")
	p.add(cmd)
	return cmd
}

func (a *app) adopt(ctx context.Context, pid int, spec api.Spec, p policyFlags) error {
	site, err := a.site()
	if err != nil {
		return err
	}
	policy, err := p.policy()
	if err != nil {
		return err
	}
	out, err := keeper.Launch(ctx, site, spec, policy, a.progress())
	if err != nil && !hasWord(err.Error(), strconv.Itoa(pid)) {
		err = about(fmt.Sprintf("pid %d", pid), err)
	}
	return a.launched(out, err, true)
}
