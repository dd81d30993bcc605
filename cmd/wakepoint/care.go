package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/wakepoint/wakepoint/internal/keeper"
)

// destroyFlags adds the flags of a command that deletes something.
func destroyFlags(c *cobra.Command, dry, yes *bool) {
	c.Flags().BoolVar(dry, "dry-run", false, "only say what would be deleted")
	c.Flags().BoolVar(yes, "yes", false, "do not ask")
}

// sure asks a person whether something is to be deleted; whoever has no
// terminal, or gave --yes, is.
func (a *app) sure(yes bool, what string) error {
	if yes || !isTerminal(a.in) || !isTerminal(a.err) {
		return nil
	}
	fmt.Fprintf(a.err, "Delete %s? [y/N] ", what)
	var answer string
	fmt.Fscanln(a.in, &answer)
	if answer != "y" && answer != "yes" {
		return fmt.Errorf("nothing was deleted")
	}
	return nil
}

// onGenerations is a command whose arguments name generations, as NAME@GEN.
func (a *app) onGenerations(c *cobra.Command, do func(ctx context.Context, s keeper.Site, name, generation string) error) *cobra.Command {
	c.Args = func(cmd *cobra.Command, args []string) error {
		for _, arg := range args {
			if name, generation, _ := strings.Cut(arg, "@"); name == "" || generation == "" {
				return usage(cmd, "%q is not a generation such as web@g411", arg)
			}
		}
		return takes(1, -1)(cmd, args)
	}
	c.ValidArgsFunction = a.completeNames
	return a.command(c, []int{3, 4, 7, 11}, func(ctx context.Context, args []string) error {
		site, err := a.site()
		if err != nil {
			return err
		}
		return a.each(args, func(arg string) error {
			name, generation, _ := strings.Cut(arg, "@")
			return a.onNamed(ctx, site, name, func() error {
				a.warnOf(site, name)
				return do(ctx, site, name, generation)
			})
		})
	})
}

func (a *app) pinCommand() *cobra.Command {
	var remove bool
	cmd := a.onGenerations(&cobra.Command{
		Use:   "pin NAME@GEN... [--remove]",
		Short: "Keep generations for good",
		Long: `Keep generations for good: neither their age nor a limit of size nor "wakepoint
forget" removes one that is pinned. --remove lets them go again.`,
		Example: "  wakepoint pin web@g411",
	}, func(ctx context.Context, s keeper.Site, name, generation string) error {
		return keeper.Pin(ctx, s, name, generation, remove)
	})
	cmd.Flags().BoolVar(&remove, "remove", false, "let them go again")
	return cmd
}

func (a *app) forgetCommand() *cobra.Command {
	var dry, yes bool
	cmd := a.onGenerations(&cobra.Command{
		Use:   "forget NAME@GEN... [--dry-run] [--yes]",
		Short: "Delete generations",
		Long: `Delete generations, and what only they hold. The newest one, the newest that is
proven to live, what is pinned and what a recovery may yet need are refused. On
a terminal it asks first, unless --yes is given. --dry-run only says what would
go.`,
		Example: "  wakepoint forget web@g411",
	}, func(ctx context.Context, s keeper.Site, name, generation string) error {
		if _, err := keeper.Forget(ctx, s, name, generation, true); err != nil {
			return err
		}
		what := name + "@" + generation
		if dry {
			fmt.Fprintln(a.out, what)
			return nil
		}
		if err := a.sure(yes, what); err != nil {
			return err
		}
		freed, err := keeper.Forget(ctx, s, name, generation, false)
		if err == nil {
			a.say("%s is deleted: %s are free", what, bytesText(freed))
		}
		return err
	})
	destroyFlags(cmd, &dry, &yes)
	return cmd
}

// collected is a workload in the table of `gc`.
type collected struct {
	Name       string   `json:"name"`
	Dropped    []string `json:"dropped"`
	FreedBytes int64    `json:"freed_bytes"`
}

func (a *app) gcCommand() *cobra.Command {
	var dry, yes bool
	cmd := a.formatFlag(a.command(&cobra.Command{
		Use:   "gc [NAME]... [--dry-run] [--yes]",
		Short: "Delete generations that need not be kept, and what nothing refers to",
		Long: `Delete the generations that need not be kept, of the named workloads or of all,
and what nothing refers to any more. Keepers do so by themselves, now and then.

Kept are about 40 generations for a month: for every age one that is at most
twice as old. Kept are also the newest one, the newest that is proven to live,
what is pinned or tagged, the last undo for a week, and until a crash is
overcome all that is older than it. On a terminal gc asks first, unless --yes is
given. --dry-run only says what would go.`,
		Args:              takes(0, -1),
		ValidArgsFunction: a.completeNames,
	}, []int{3, 4, 7, 11}, func(ctx context.Context, args []string) error {
		site, err := a.site()
		if err != nil {
			return err
		}
		if len(args) == 0 {
			args = a.names(ctx)
		}
		rows := []collected{}
		err = a.each(args, func(name string) error {
			return a.onNamed(ctx, site, name, func() error {
				a.warnOf(site, name)
				row, err := a.collect(ctx, site, name, dry, yes)
				if err == nil {
					rows = append(rows, row)
				}
				return err
			})
		})
		if perr := a.printCollected(rows); perr != nil {
			return perr
		}
		return err
	}))
	destroyFlags(cmd, &dry, &yes)
	return cmd
}

// collect collects of one workload what a person agrees to.
func (a *app) collect(ctx context.Context, s keeper.Site, name string, dry, yes bool) (collected, error) {
	row := collected{Name: name, Dropped: []string{}}
	would, _, err := keeper.Collect(ctx, s, name, true)
	if err != nil {
		return row, err
	}
	if dry {
		row.Dropped = append(row.Dropped, would...)
		return row, nil
	}
	if len(would) > 0 {
		if err := a.sure(yes, fmt.Sprintf("%d generations of %s", len(would), name)); err != nil {
			return row, err
		}
	}
	dropped, freed, err := keeper.Collect(ctx, s, name, false)
	row.Dropped, row.FreedBytes = append(row.Dropped, dropped...), freed
	return row, err
}

func (a *app) printCollected(rows []collected) error {
	if a.format == "json" {
		return a.printJSON(rows)
	}
	var table [][]string
	for _, r := range rows {
		table = append(table, []string{r.Name, dash(strings.Join(r.Dropped, " ")), bytesText(r.FreedBytes)})
	}
	return a.printTable([]string{"NAME", "DELETED", "FREED"}, table)
}
