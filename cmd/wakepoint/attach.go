package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/wakepoint/wakepoint/internal/keeper"
	"github.com/wakepoint/wakepoint/internal/terminal"
)

func (a *app) attachCommand() *cobra.Command {
	var readOnly bool
	cmd := a.onWorkload(&cobra.Command{
		Use:   "attach NAME",
		Short: "Join a workload's terminal",
		Long: `Join the terminal of a workload that was started with "run -t". C-\ d (Control
and backslash, then d) leaves it again; C-\ C-\ types one C-\. Several people
may be attached at once; the program has the size of the window that came or
changed last.`,
	}, nil, func(ctx context.Context, s keeper.Site, name string, _ []string) error {
		outcome, err := a.attachTo(ctx, s, name, readOnly)
		switch {
		case err != nil:
			return err
		case outcome.Detached:
			a.say("detached from %s", name)
		default:
			a.say("%s: the terminal has ended", name)
		}
		return nil
	})
	cmd.Flags().BoolVar(&readOnly, "read-only", false, "only watch")
	return cmd
}

// attachTo connects this terminal to a workload's.
func (a *app) attachTo(ctx context.Context, s keeper.Site, name string, readOnly bool) (terminal.Outcome, error) {
	conn, err := keeper.Attach(ctx, s, name, readOnly)
	if err != nil {
		return terminal.Outcome{}, err
	}
	return terminal.Attach(conn, a.in, a.out, terminal.AttachOptions{ReadOnly: readOnly})
}
