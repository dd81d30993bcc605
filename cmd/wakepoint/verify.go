package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/wakepoint/wakepoint/internal/api"
	"github.com/wakepoint/wakepoint/internal/store"
)

// verifyRow is a workload in the table of `verify`.
type verifyRow struct {
	Name        string      `json:"name"`
	Generations int         `json:"generations"`
	Damage      []damageRow `json:"damage"`
}

// damageRow is one place that is damaged, and what it spoils.
type damageRow struct {
	File        string   `json:"file"`
	Offset      int64    `json:"offset"`
	What        string   `json:"what"`
	Generations []string `json:"generations"`
}

func (a *app) verifyCommand() *cobra.Command {
	cmd := a.formatFlag(a.command(&cobra.Command{
		Use:   "verify [NAME]",
		Short: "Read every byte of the store and compare it with its checksums",
		Long: `Read every byte of every generation, of one workload or of all, and compare it
with its checksums. Damage is named with the generations that it touches; the
others restore.`,
		Args:              takes(0, 1),
		ValidArgsFunction: a.completeNames,
	}, []int{4, 7}, func(ctx context.Context, args []string) error {
		if site, err := a.site(); err != nil || a.noStore(site) {
			if err == nil && len(args) > 0 {
				err = a.named(args[0], asNotFound(store.ErrNotFound, args[0]), func() []string { return nil })
			}
			return errors.Join(err, a.printVerified([]verifyRow{})) // Open would make one
		}
		s, err := store.Open(a.storeDir, store.Options{})
		if err != nil {
			return err
		}
		names := args
		if len(args) == 0 {
			if names, err = s.Names(); err != nil {
				return err
			}
		}
		rows := make([]verifyRow, 0, len(names))
		for _, name := range names {
			row, err := verify(ctx, s, name)
			if err != nil {
				return a.named(name, err, func() []string { all, _ := s.Names(); return all })
			}
			rows = append(rows, row)
		}
		return a.printVerified(rows)
	}))
	return cmd
}

// verify reads one workload. Damage that stops the reading is an entry too.
func verify(ctx context.Context, s *store.Store, name string) (verifyRow, error) {
	row := verifyRow{Name: name, Damage: []damageRow{}}
	w, err := s.Workload(name)
	if err != nil {
		return row, asNotFound(err, name)
	}
	infos, _, err := w.Generations()
	if err != nil {
		return row, err
	}
	row.Generations = len(infos)
	damage, err := w.Verify(ctx)
	if err != nil {
		return row, err
	}
	for _, d := range damage {
		r := damageRow{File: d.Pack, Offset: d.Offset, What: d.What, Generations: []string{}}
		for _, g := range d.Generations {
			r.Generations = append(r.Generations, g.String())
		}
		row.Damage = append(row.Damage, r)
	}
	return row, nil
}

func asNotFound(err error, name string) error {
	if errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrName) {
		return api.Errorf(api.CodeNotFound, "", "there is no workload %s", name)
	}
	return err
}

func (a *app) printVerified(rows []verifyRow) error {
	damaged := 0
	for _, r := range rows {
		damaged += len(r.Damage)
	}
	if a.format == "json" {
		if err := a.printJSON(rows); err != nil {
			return err
		}
	} else if err := a.printDamage(rows); err != nil {
		return err
	}
	if damaged > 0 {
		return api.Errorf(api.CodeIntegrity, "generations that are not named are whole", "%s", damageText(damaged))
	}
	return nil
}

func damageText(places int) string {
	if places == 1 {
		return "1 place is damaged"
	}
	return fmt.Sprintf("%d places are damaged", places)
}

func (a *app) printDamage(rows []verifyRow) error {
	var table [][]string
	for _, r := range rows {
		if len(r.Damage) == 0 {
			table = append(table, []string{r.Name, fmt.Sprint(r.Generations), "-", "-"})
		}
		for _, d := range r.Damage {
			where := fmt.Sprintf("%s at %d: %s", d.File, d.Offset, d.What)
			table = append(table, []string{r.Name, fmt.Sprint(r.Generations), where, dash(strings.Join(d.Generations, " "))})
		}
	}
	return a.printTable([]string{"NAME", "GENERATIONS", "DAMAGE", "TOUCHES"}, table)
}
