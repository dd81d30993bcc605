package main

import (
	"context"
	"errors"
	"sync"

	"github.com/spf13/cobra"

	"github.com/wakepoint/wakepoint/internal/keeper"
	"github.com/wakepoint/wakepoint/internal/service"
)

// The names under which this program runs as something else. They are part of
// what a running keeper was started with: a new version must know them too.
const (
	keeperName    = "_keeper"
	guardName     = "_guard"
	unitName      = "_unit"
	haltName      = "_halt"
	rehearsalName = "_rehearse"
)

// inside is a command that is not for people: its arguments belong to the
// package that runs it.
func inside(name, short string, run func(args []string) error) *cobra.Command {
	return &cobra.Command{
		Use: name, Short: short, Hidden: true, DisableFlagParsing: true,
		RunE: func(_ *cobra.Command, args []string) error { return about(name, run(args)) },
	}
}

func (a *app) keeperCommand() *cobra.Command {
	return inside(keeperName, "The keeper of a workload", func(args []string) error {
		return keeper.Main(context.Background(), args)
	})
}

func (a *app) guardCommand() *cobra.Command {
	return inside(guardName, "The parent of a keeper", keeper.GuardMain)
}

// codeLeft is how the keeper of a unit ends that was told to leave.
const codeLeft = 75

func (a *app) unitCommand() *cobra.Command {
	return inside(unitName, "The keeper of a workload, as its unit runs it", func(args []string) error {
		if len(args) != 1 {
			return misuse("", "one name is wanted")
		}
		site, err := a.site()
		if err != nil {
			return err
		}
		err = a.onNamed(context.Background(), site, args[0], func() error {
			return keeper.UnitMain(context.Background(), site, args[0])
		})
		if errors.Is(err, keeper.ErrLeft) {
			return exitCode(codeLeft)
		}
		return err
	})
}

// haltCommand is what units do when they are stopped. Without names it is for
// every workload.
func (a *app) haltCommand() *cobra.Command {
	return inside(haltName, "Checkpoint workloads and end them until recover", func(args []string) error {
		ctx := context.Background()
		site, err := a.site()
		if err != nil || a.noStore(site) {
			return err
		}
		if len(args) == 0 {
			args = a.names(ctx)
		}
		goingDown := service.GoingDown(ctx)
		failed := make([]error, len(args))
		var halts sync.WaitGroup
		for i, name := range args {
			halts.Go(func() { failed[i] = about(name, keeper.Halt(ctx, site, name, goingDown, nil)) })
		}
		halts.Wait()
		return a.each(args, func(name string) error {
			err := failed[0]
			failed = failed[1:]
			return err
		})
	})
}

func (a *app) rehearsalCommand() *cobra.Command {
	return inside(rehearsalName, "A sandbox in which a generation is rehearsed", keeper.RehearsalMain)
}
