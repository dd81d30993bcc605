package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/wakepoint/wakepoint/internal/api"
	"github.com/wakepoint/wakepoint/internal/keeper"
)

func (a *app) rehearseCommand() *cobra.Command {
	var length time.Duration
	cmd := a.command(&cobra.Command{
		Use:   "rehearse NAME[@GEN] [--for DURATION]",
		Short: "Restore a generation in a sandbox, and give a verdict",
		Long: `Restore a generation of a workload, the newest one unless GEN is given, in a
sealed sandbox beside the workload, which runs on, and see whether it lives: its
files are overlaid, its network reaches nobody, and nothing that it does leaves.
Health checks are made inside. It prints the generation and its verdict:

  proven    it lived
  doubtful  it died; or it died twice, and the workload itself lived past that
            moment, so that the sandbox may be to blame
  bad       it died, and another rehearsal or the workload itself did so too;
            recovery skips it, with all that was taken by runs restored from it

It lives for 10 s, or as long as it takes to pass the moment at which the
workload crashed, at most 10 minutes; --for says otherwise. What cannot be
rehearsed on this host is an error and changes no verdict. The exit code is 0
only for proven.`,
		Example: `  wakepoint rehearse web
  wakepoint rehearse web@g411 --for 1m`,
		Args:              takes(1, 1),
		ValidArgsFunction: a.completeNames,
	}, []int{4, 7}, func(ctx context.Context, args []string) error {
		name, generation, _ := strings.Cut(args[0], "@")
		if err := needRights(); err != nil {
			return err
		}
		site, err := a.site()
		if err != nil {
			return err
		}
		return a.onNamed(ctx, site, name, func() error {
			r, err := keeper.Rehearse(ctx, site, name, generation, length, a.progress())
			if err != nil {
				return err
			}
			if a.format == "json" {
				if err := a.printJSON(r); err != nil {
					return err
				}
			} else {
				fmt.Fprintln(a.out, r.Generation, r.Verdict)
				a.say("%s", rehearsalWords(r))
			}
			if r.Verdict != api.Proven {
				return exitCode(api.CodeFailed)
			}
			return nil
		})
	})
	cmd.Flags().Var((*interval)(&length), "for", "it must live for this `DURATION`")
	return a.formatFlag(cmd)
}

// rehearsalWords says what came of a rehearsal.
func rehearsalWords(r api.Rehearsal) string {
	switch {
	case r.Verdict == "":
		return r.Generation + " could not be rehearsed: " + r.Why
	case r.Lived && r.Why != "":
		return fmt.Sprintf("%s lived in a sandbox for %.1f s: %s", r.Generation, r.LivedSeconds, r.Why)
	case r.Lived:
		return fmt.Sprintf("%s lived in a sandbox for %.1f s", r.Generation, r.LivedSeconds)
	}
	return fmt.Sprintf("%s %s after %.1f s in a sandbox", r.Generation, r.Why, r.LivedSeconds)
}
