package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/wakepoint/wakepoint/internal/keeper"
)

// The names under which this program runs as something else. They are part of
// what a running keeper was started with: a new version must know them too.
const (
	keeperName = "_keeper"
	guardName  = "_guard"
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
