package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/wakepoint/wakepoint/internal/api"
	"github.com/wakepoint/wakepoint/internal/keeper"
)

// recoverRow is a workload in the table of `recover`.
type recoverRow struct {
	Name            string     `json:"name"`
	State           api.State  `json:"state"`
	PID             int        `json:"pid"`
	Generation      string     `json:"generation"` // restored from; "" when it ran on or started afresh
	LostWorkSeconds float64    `json:"lost_work_seconds"`
	Older           bool       `json:"older"`
	Words           string     `json:"words"`
	Error           *api.Error `json:"error"`
}

func (a *app) recoverCommand() *cobra.Command {
	return a.strictFlag(a.formatFlag(a.command(&cobra.Command{
		Use:   "recover",
		Short: "Bring back everything that was running",
		Long: `Bring back every workload that should run, as after a boot. One that still runs
without a keeper gets a new one and loses nothing; one that is looked after is
left alone; any other is restored from its newest good generation, or started
afresh where its policy says so. recover returns when the programs run.`,
		Args: takes(0, 0),
	}, []int{3, 7, 9, 11}, func(ctx context.Context, args []string) error {
		if err := needRights(); err != nil {
			return err
		}
		site, err := a.site()
		if err != nil {
			return err
		}
		var outcomes []keeper.Outcome
		if !a.noStore(site) {
			a.warnOf(site)
			if outcomes, err = keeper.Recover(ctx, site, a.progress()); err != nil {
				return err
			}
		}
		return a.printOutcomes(outcomes)
	})))
}

func (a *app) printOutcomes(outcomes []keeper.Outcome) error {
	rows := make([]recoverRow, 0, len(outcomes))
	var table [][]string
	var failed []error
	older := false
	for _, o := range outcomes {
		r := recoverRow{
			Name: o.Name, State: o.Status.State, PID: o.Status.PID, Older: o.Older, Words: o.Words, Error: o.Err,
		}
		if rec := o.Status.Recovery; rec != nil && o.Err == nil {
			r.Generation, r.LostWorkSeconds = rec.Generation, rec.LostWorkSeconds
		}
		if o.Err != nil {
			failed = append(failed, about(o.Name, o.Err))
		} else {
			table = append(table, []string{o.Name, numberText(r.PID), o.Words})
		}
		older = older || o.Older
		rows = append(rows, r)
	}
	err := a.printRecovered(rows, table)
	if err != nil {
		return err
	}
	if err := a.someFailed(failed, len(outcomes)); err != nil {
		return err
	}
	if older {
		return exitCode(api.CodeOlder)
	}
	return nil
}

func (a *app) printRecovered(rows []recoverRow, table [][]string) error {
	if a.format == "json" {
		return a.printJSON(rows)
	}
	if len(rows) == 0 {
		a.say("recover: nothing was running")
		return nil
	}
	return a.printTable([]string{"NAME", "PID", "RESULT"}, table)
}
