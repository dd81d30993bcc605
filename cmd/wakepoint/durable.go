package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/wakepoint/wakepoint/durable"
	"github.com/wakepoint/wakepoint/internal/api"
	"github.com/wakepoint/wakepoint/internal/disk"
)

func (a *app) durableCommand() *cobra.Command {
	return group("durable", "Look after a directory of package durable",
		a.inspectDurableCommand(), a.verifyDurableCommand(), a.backupDurableCommand())
}

// completeDirs offers directories.
func completeDirs(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveFilterDirs
}

func (a *app) inspectDurableCommand() *cobra.Command {
	return a.formatFlag(a.command(&cobra.Command{
		Use:   "inspect DIR",
		Short: "What a directory of package durable holds",
		Long: `Read a directory that a program keeps by the Go package durable, and print
what it holds: the generations that it could be gone on from, the log behind
them, the tables, and what is damaged. Nothing is changed; neither a key nor
root is needed. The program must not run: the directory is its own as long as
it does.`,
		Example: `  wakepoint durable inspect /var/lib/shop/state
  wakepoint durable inspect -o json state`,
		Args:              takes(1, 1),
		ValidArgsFunction: completeDirs,
	}, []int{7, 11}, func(ctx context.Context, args []string) error {
		r, err := durable.Inspect(ctx, durable.Options{Dir: args[0]})
		if err != nil {
			return durableError(args[0], err)
		}
		row := inspectRowOf(args[0], r)
		if a.format == "json" {
			err = a.printJSON(row)
		} else {
			err = a.printInspected(row)
		}
		return errors.Join(err, durableDamage(row.Damage))
	}))
}

func (a *app) verifyDurableCommand() *cobra.Command {
	return a.formatFlag(a.command(&cobra.Command{
		Use:   "verify DIR",
		Short: "Read all of a directory of package durable, and say what is damaged",
		Long: `Read all that a directory of the Go package durable can be recovered from,
every generation and the log behind the oldest, and compare it with its
checksums. What is damaged is named. Nothing is changed; the program must not
run. A program that runs can do the same by DB.Verify, which mends what it can.`,
		Example:           `  wakepoint durable verify /var/lib/shop/state`,
		Args:              takes(1, 1),
		ValidArgsFunction: completeDirs,
	}, []int{7, 11}, func(ctx context.Context, args []string) error {
		r, err := durable.Inspect(ctx, durable.Options{Dir: args[0]})
		if err != nil {
			return durableError(args[0], err)
		}
		row := inspectRowOf(args[0], r)
		if a.format == "json" {
			err = a.printJSON(verifiedRow{row.Directory, len(row.Generations), row.Log.Transactions, row.Damage})
		} else if len(row.Damage) > 0 {
			err = a.printTable(damageHead, damageTable(row.Damage))
		}
		if err := errors.Join(err, durableDamage(row.Damage)); err != nil || a.format == "json" {
			return err
		}
		a.say("verify: all is whole: %s and %s behind the newest",
			counted(len(row.Generations), "generation"), counted(row.Log.Transactions, "transaction"))
		return nil
	}))
}

func (a *app) backupDurableCommand() *cobra.Command {
	to := ""
	var cmd *cobra.Command
	cmd = a.command(&cobra.Command{
		Use:   "backup DIR [--to FILE]",
		Short: "Write a directory of package durable as a tar archive",
		Long: `Write a directory of the Go package durable as a tar archive, to the standard
output, or to a file, which is there when it is whole and on the disk. All that
is copied is checked. Unpacked into an empty directory it is a database that
the program opens. The program must not run; one that runs can do the same by
DB.Backup. The directory gets a new generation if its log is not empty.`,
		Example: `  wakepoint durable backup state --to state.tar
  wakepoint durable backup state | ssh other 'mkdir state && tar -xC state'`,
		Args:              takes(1, 1),
		ValidArgsFunction: completeDirs,
	}, []int{7, 11}, func(ctx context.Context, args []string) error {
		if to == "" && isTerminal(a.out) {
			return usage(cmd, "the standard output is a terminal")
		}
		err := a.backupDurable(ctx, args[0], to)
		if err != nil {
			return durableError(args[0], err)
		}
		return nil
	})
	cmd.Flags().StringVar(&to, "to", "", "write to `FILE`")
	return cmd
}

// durableFile is the one that makes a directory a database.
const durableFile = "DURABLE"

// backupDurable opens a database as it is and copies it. Open would make one.
func (a *app) backupDurable(ctx context.Context, dir, to string) (err error) {
	if _, err := os.Stat(dir); err != nil {
		return err
	}
	if _, err := os.Lstat(filepath.Join(dir, durableFile)); errors.Is(err, fs.ErrNotExist) {
		return durable.ErrForeign
	}
	db, found, err := durable.Open(ctx, durable.Options{Dir: dir})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	for _, e := range found.Damaged {
		a.say("backup: an older generation and more of the log were used: %v", e)
	}
	if to == "" {
		return db.Backup(ctx, a.out)
	}
	return writeWhole(to, func(w io.Writer) error { return db.Backup(ctx, w) })
}

// writeWhole makes a file that has its name when it is whole and on the disk. A
// file of that name is replaced; anything else is refused.
func writeWhole(file string, write func(io.Writer) error) (err error) {
	if st, err := os.Lstat(file); err == nil && !st.Mode().IsRegular() {
		return api.Errorf(api.CodeUsage, "name a file that does not exist", "%s is not a file", file)
	}
	// The order is the promise: contents, name, and only then is anybody told.
	temp, err := disk.CreateTemp(disk.OS{}, file)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(disk.TempName(file))
		}
	}()
	defer temp.Close()
	if err := write(temp); err != nil {
		return err
	}
	if err := temp.Sync(); err != nil {
		return err
	}
	if err := os.Rename(disk.TempName(file), file); err != nil {
		return err
	}
	return disk.OS{}.SyncDir(filepath.Dir(file))
}

// durableError says what to do about a directory that cannot be read.
func durableError(dir string, err error) error {
	damage := (*durable.DamageError)(nil)
	switch {
	case errors.As(err, &damage):
		return api.Errorf(api.CodeIntegrity, "a backup that was unpacked into an empty directory takes its place", "%s: %w", dir, err)
	case errors.Is(err, durable.ErrInUse):
		return api.Errorf(api.CodeLocked, "end the program that has it open; while it runs it can do the same itself (DB.Verify, DB.Backup)",
			"%s: in use by another process", dir)
	case errors.Is(err, durable.ErrForeign):
		return api.Errorf(api.CodeFailed, "name the directory that the program gives to durable.Open", "%s: not a directory of package durable", dir)
	case errors.Is(err, durable.ErrNewer):
		return api.Errorf(api.CodeFailed, "use a wakepoint that is as new as the program", "%s: %w", dir, err)
	case errors.Is(err, fs.ErrPermission):
		return api.Errorf(api.CodeFailed, "try it as the user that the program runs as, or as root", "%w", err)
	case errors.Is(err, syscall.EROFS):
		return api.Errorf(api.CodeFailed, "what opens a database writes: copy the directory to where that is possible", "%w", err)
	case errors.Is(err, syscall.ENOSPC):
		return api.Errorf(api.CodeFailed, "make room on that file system; nothing was lost", "%w", err)
	}
	return err
}

// inspectRow is what `durable inspect` prints.
type inspectRow struct {
	Directory   string          `json:"directory"`
	Identity    string          `json:"identity"`
	Generations []generationRow `json:"generations"`
	Log         logRow          `json:"log"`
	Tables      []tableRow      `json:"tables"`
	Damage      []durableRow    `json:"damage"`
}

type generationRow struct {
	Generation string    `json:"generation"` // "g3"
	MadeAt     time.Time `json:"made_at"`
	Position   uint64    `json:"position"`
	Bytes      int64     `json:"total_bytes"`
}

// logRow is the log behind the newest generation.
type logRow struct {
	From         uint64 `json:"from"`
	To           uint64 `json:"to"`
	Transactions int    `json:"transactions"`
	Undone       bool   `json:"undone"`
}

type tableRow struct {
	Table   string `json:"table"`
	Keys    string `json:"keys"`
	Values  string `json:"values"`
	Entries int    `json:"entries"`
	Bytes   int64  `json:"total_bytes"`
}

// durableRow is what cannot be read: a file, and a table if it is only that.
type durableRow struct {
	File  string `json:"file"`
	Table string `json:"table"`
	What  string `json:"what"`
}

// verifiedRow is what `durable verify -o json` prints.
type verifiedRow struct {
	Directory    string       `json:"directory"`
	Generations  int          `json:"generations"`
	Transactions int          `json:"transactions"`
	Damage       []durableRow `json:"damage"`
}

func inspectRowOf(dir string, r *durable.Report) inspectRow {
	row := inspectRow{Directory: dir, Identity: r.Identity, Generations: []generationRow{}, Tables: []tableRow{}, Damage: []durableRow{},
		Log: logRow{r.LogFrom, r.LogTo, r.Transactions, r.Undone}}
	for _, g := range r.Generations {
		row.Generations = append(row.Generations, generationRow{fmt.Sprint("g", g.Number), g.Time, g.Position, g.Bytes})
	}
	for _, t := range r.Tables {
		row.Tables = append(row.Tables, tableRow{t.Name, t.Keys, t.Values, t.Entries, t.Bytes})
	}
	for _, err := range r.Damaged {
		d := durableRow{What: err.Error()}
		if damage := (*durable.DamageError)(nil); errors.As(err, &damage) {
			d = durableRow{damage.File, damage.Table, damage.Why.Error()}
		}
		row.Damage = append(row.Damage, d)
	}
	return row
}

// durableDamage ends a command with 7 where something is damaged.
func durableDamage(damage []durableRow) error {
	if len(damage) == 0 {
		return nil
	}
	return api.Errorf(api.CodeIntegrity, "what is not named is whole", "%s", damageText(len(damage)))
}

var damageHead = []string{"DAMAGED", "TABLE", "WHAT"}

func damageTable(damage []durableRow) (rows [][]string) {
	for _, d := range damage {
		file := d.File
		if file == "" {
			file = "the log"
		}
		rows = append(rows, []string{file, dash(d.Table), strings.ReplaceAll(d.What, "\n", "; ")})
	}
	return rows
}

func (a *app) printInspected(row inspectRow) error {
	undone := ""
	if row.Log.Undone {
		undone = ", and the beginning of one that was never acknowledged"
	}
	if err := a.printFields([][2]string{
		{"directory", row.Directory},
		{"identity", row.Identity},
		{"log", fmt.Sprintf("%s behind the newest generation, %s%s", counted(row.Log.Transactions, "transaction"),
			bytesText(int64(row.Log.To-row.Log.From)), undone)},
	}); err != nil {
		return err
	}
	generations, tables := [][]string{}, [][]string{}
	for _, g := range row.Generations {
		generations = append(generations, []string{g.Generation, timeText(g.MadeAt), bytesText(g.Bytes)})
	}
	for _, t := range row.Tables {
		tables = append(tables, []string{t.Table, t.Keys, t.Values, fmt.Sprint(t.Entries), bytesText(t.Bytes)})
	}
	for _, table := range []struct {
		head []string
		rows [][]string
	}{
		{[]string{"GENERATION", "MADE", "SIZE"}, generations},
		{[]string{"TABLE", "KEYS", "VALUES", "ENTRIES", "SIZE"}, tables},
		{damageHead, damageTable(row.Damage)},
	} {
		if len(table.rows) == 0 {
			continue
		}
		fmt.Fprintln(a.out)
		if err := a.printTable(table.head, table.rows); err != nil {
			return err
		}
	}
	return nil
}

// counted is a number of things.
func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
