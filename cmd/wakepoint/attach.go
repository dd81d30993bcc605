package main

import (
	"context"
	"net"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/wakepoint/wakepoint/internal/api"
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
	again := func(left context.Context) (net.Conn, error) { return rejoin(left, s, name, readOnly) }
	return terminal.Attach(conn, a.in, a.out, terminal.AttachOptions{ReadOnly: readOnly, Again: again})
}

const (
	rejoinMax   = 15 * time.Second      // for a keeper to come that answers
	rejoinAgain = 50 * time.Millisecond // between looks
)

// rejoin attaches again where the keeper was lost that did it: one that was
// upgraded goes on at once, and one that died is soon replaced.
func rejoin(ctx context.Context, s keeper.Site, name string, readOnly bool) (net.Conn, error) {
	for end := time.Now().Add(rejoinMax); ; {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(rejoinAgain):
		}
		conn, err := keeper.Attach(ctx, s, name, readOnly)
		if err == nil || time.Now().After(end) {
			return conn, err
		}
		v, serr := keeper.StatusOf(ctx, s, name)
		if serr != nil || !slices.Contains([]api.State{api.Running, api.Starting, api.Restoring}, v.State) {
			return nil, err
		}
	}
}
