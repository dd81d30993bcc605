package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/wakepoint/wakepoint/internal/api"
	"github.com/wakepoint/wakepoint/internal/keeper"
)

// verifyRow is a workload in the table of `verify`.
type verifyRow struct {
	Name        string      `json:"name"` // "" for the store's own file
	Generations int         `json:"generations"`
	Whole       int         `json:"whole"` // of those, how many restore
	Damage      []damageRow `json:"damage"`
}

// damageRow is one place that is damaged, and what it spoils.
type damageRow struct {
	File        string   `json:"file"`
	Offset      int64    `json:"offset"`
	What        string   `json:"what"`
	Generations []string `json:"generations"`
	Follows     string   `json:"follows"`
}

func (a *app) verifyCommand() *cobra.Command {
	cmd := a.formatFlag(a.command(&cobra.Command{
		Use:   "verify [NAME | DIR]",
		Short: "Read every byte of the store and compare it with its checksums",
		Long: `Read every byte that recovery acts on, of one workload or of all, and compare it
with its checksums: the generations, the records of what is run and how it is
looked after, and the files that say what the store and the workloads are. Every
damaged file is named with what follows from it; generations that are not named
restore. A DIR that "wakepoint dump" wrote is named with a / in it.`,
		Example: `  wakepoint verify web
  wakepoint verify /backup/job`,
		Args:              takes(0, 1),
		ValidArgsFunction: a.completeNames,
	}, []int{4, 7}, func(ctx context.Context, args []string) error {
		site, err := a.site()
		if err != nil {
			return err
		}
		if len(args) > 0 && strings.Contains(args[0], "/") {
			v, err := site.VerifyDump(ctx, args[0])
			if err != nil {
				return err
			}
			return a.printVerified([]api.Verified{v})
		}
		if len(args) > 0 {
			return a.onNamed(ctx, site, args[0], func() error { return a.verify(ctx, site, args...) })
		}
		if a.noStore(site) { // Verify would make one
			return a.printVerified(nil)
		}
		return a.verify(ctx, site)
	}))
	return cmd
}

func (a *app) verify(ctx context.Context, site keeper.Site, names ...string) error {
	list, err := keeper.Verify(ctx, site, names...)
	if err != nil {
		return err
	}
	return a.printVerified(list)
}

func (a *app) printVerified(list []api.Verified) error {
	rows := make([]verifyRow, 0, len(list))
	for _, v := range list {
		row := verifyRow{Name: v.Name, Generations: v.Generations, Whole: v.Whole, Damage: []damageRow{}}
		for _, d := range v.Damage {
			row.Damage = append(row.Damage, damageRow{File: d.File, Offset: d.Offset, What: d.What, Generations: d.Generations, Follows: d.Consequence()})
		}
		rows = append(rows, row)
	}
	if a.format == "json" {
		if err := a.printJSON(rows); err != nil {
			return err
		}
	} else if err := a.printDamage(list); err != nil {
		return err
	}
	sum := sumOf(list)
	if sum.places > 0 {
		return api.Errorf(api.CodeIntegrity, "what is not named is whole, and restores", "%s; %s", damageText(sum.places), sum)
	}
	if a.format != "json" {
		a.say("verify: %s", sum)
	}
	return nil
}

// damageSum is what was found in all workloads.
type damageSum struct{ places, generations, whole int }

func sumOf(list []api.Verified) (s damageSum) {
	for _, v := range list {
		s.places, s.generations, s.whole = s.places+len(v.Damage), s.generations+v.Generations, s.whole+v.Whole
	}
	return s
}

func (s damageSum) String() string {
	return fmt.Sprintf("%d of %d generations are whole", s.whole, s.generations)
}

func damageText(places int) string {
	if places == 1 {
		return "1 place is damaged"
	}
	return fmt.Sprintf("%d places are damaged", places)
}

func (a *app) printDamage(list []api.Verified) error {
	var table [][]string
	for _, v := range list {
		whole := fmt.Sprintf("%d of %d", v.Whole, v.Generations)
		if v.Name == "" {
			whole = "-"
		}
		if len(v.Damage) == 0 {
			table = append(table, []string{v.Name, whole, "-", "-"})
		}
		for _, d := range v.Damage {
			table = append(table, []string{dash(v.Name), whole, d.Where(), d.Consequence()})
		}
	}
	return a.printTable([]string{"NAME", "WHOLE", "DAMAGE", "WHAT FOLLOWS"}, table)
}

// warnOf says what is damaged of the files that decide what is done with
// workloads, before anything is done with them. What else is the matter with
// them the command itself will say.
func (a *app) warnOf(site keeper.Site, names ...string) {
	list, err := keeper.Damaged(site, names...)
	if err != nil {
		return
	}
	for _, v := range list {
		name := v.Name
		if name == "" {
			name = "the store"
		}
		for _, d := range v.Damage {
			a.say("%s: %s", name, a.atStore(d.String()))
		}
	}
}
