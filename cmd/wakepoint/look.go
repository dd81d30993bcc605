package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/wakepoint/wakepoint/internal/api"
	"github.com/wakepoint/wakepoint/internal/keeper"
)

func (a *app) psCommand() *cobra.Command {
	return a.formatFlag(a.command(&cobra.Command{
		Use:   "ps",
		Short: "List the workloads",
		Long: `List the workloads: state, the PID of the command and of its keeper as the host
sees them, the newest committed generation, and what a crash now would cost. One
whose own files are damaged is listed, with the reason on standard error; the
exit code is then 3, or 7 when every one is damaged.`,
		Args: takes(0, 0),
	}, []int{3, 7}, func(ctx context.Context, args []string) error {
		list, err := a.list(ctx)
		if err != nil {
			return err
		}
		if site, err := a.site(); err == nil && !a.noStore(site) {
			a.warnOf(site)
		}
		rows := make([]api.Row, 0, len(list))
		damaged := 0
		for _, w := range list {
			rows = append(rows, w.Row)
			if w.Damage != nil {
				damaged++ // and the reason has been said
			}
		}
		err = a.printRows(rows)
		switch {
		case err != nil || damaged == 0:
			return err
		case damaged < len(rows):
			return exitCode(api.CodeSome)
		}
		return exitCode(api.CodeIntegrity)
	}))
}

func (a *app) printRows(rows []api.Row) error {
	if a.format == "json" {
		return a.printJSON(rows)
	}
	var table [][]string
	for _, r := range rows {
		table = append(table, []string{
			r.Name, string(r.State), numberText(r.PID), numberText(r.KeeperPID),
			dash(r.Generation), secondsText(r.EverySeconds), secondsText(r.LostWorkSeconds),
		})
	}
	return a.printTable([]string{"NAME", "STATE", "PID", "KEEPER", "GENERATION", "EVERY", "LOST WORK"}, table)
}

func (a *app) statusCommand() *cobra.Command {
	return a.formatFlag(a.onWorkload(&cobra.Command{
		Use:   "status NAME",
		Short: "Show all that is known of one workload",
		Long: `Show all that is known of one workload. Where its own files are damaged that is
what can still be read, with the reason on standard error and exit code 7.`,
	}, []int{7}, func(ctx context.Context, site keeper.Site, name string, _ []string) error {
		s, err := keeper.StatusOf(ctx, site, name)
		if err != nil {
			return err
		}
		if a.format == "json" {
			err = a.printJSON(s)
		} else {
			err = a.printFields(statusFields(s))
		}
		if err == nil && s.Damage != nil {
			err = s.Damage
		}
		return err
	}))
}

// statusFields is a status for a person.
func statusFields(s api.Status) [][2]string {
	fields := [][2]string{
		{"name", s.Name}, {"state", string(s.State)}, {"command", commandText(s.Command)}, {"directory", s.Dir},
		{"pid", numberText(s.PID)}, {"keeper", numberText(s.KeeperPID)}, {"generation", dash(s.Generation)},
		{"created", timeText(s.CreatedAt)},
	}
	add := func(name, format string, args ...any) {
		fields = append(fields, [2]string{name, fmt.Sprintf(format, args...)})
	}
	if s.StartedAt != nil {
		add("running since", "%s", timeText(*s.StartedAt))
	}
	add("restored from", "%s", s.RestoredFrom)
	add("policy", "%s", policyText(s.Policy))
	if s.LastCheckpointAt != nil {
		add("last checkpoint", "%s, took %s, paused for %s", timeText(*s.LastCheckpointAt),
			secondsText(s.LastCheckpointSeconds), secondsText(s.LastPauseSeconds))
	}
	if s.IntervalSeconds > 0 {
		add("interval", "%s", intervalText(s))
	}
	if s.SlowFiles != nil {
		add("pause for files", "%s, more than --pause-budget %s: %s", secondsText(s.FilesPauseSeconds), budgetText(s.Policy), slowText(s.SlowFiles))
		add("hint", "%s", slowHint)
	}
	add("on disk", "%s", sizeText(s))
	if s.KeeperPID != 0 {
		add("written in a day", "%s", bytesText(s.WrittenDayBytes))
	}
	if s.State == api.Running {
		add("a crash now costs", "%s", secondsText(s.LostWorkSeconds))
	}
	fields = append(fields, wellText(s)...)
	if s.LastError != nil {
		if s.State == api.Waiting {
			add("waits", "%s", s.LastError.Message)
		} else if s.Failures > 0 {
			add("failing checkpoints", "%d; the last: %s", s.Failures, s.LastError.Message)
		} else {
			add("last error", "%s", s.LastError.Message)
		}
		add("hint", "%s", s.LastError.Hint)
	}
	if s.Ended {
		add("ended", "exit code %d %s", s.ExitCode, s.ExitSignal)
	}
	if s.Incident != nil {
		add("incident", "since %s, %d tries", timeText(s.Incident.CrashedAt), s.Incident.Tries)
	}
	if s.Recovery != nil {
		fields = append(fields, recoveryText(s.Name, s.Recovery)...)
	}
	if s.Rehearsal != nil {
		add("last rehearsal", "%s, %s", timeText(s.Rehearsal.At), rehearsalWords(*s.Rehearsal))
	}
	if s.Offered != "" {
		add("offered", "%s is newer than what was restored, and lived in a rehearsal: `wakepoint restore %s@%s` goes back to it", s.Offered, s.Name, s.Offered)
	}
	for _, n := range s.Notes {
		add("note", "%s", n)
	}
	add("output", "%s", s.Output)
	return fields
}

// wellText is how a program is, by its own words and by others'.
func wellText(s api.Status) (fields [][2]string) {
	add := func(name, format string, args ...any) {
		fields = append(fields, [2]string{name, fmt.Sprintf(format, args...)})
	}
	if s.Ready || s.Says != "" {
		add("says", "%s", saysText(s))
	}
	if s.WatchdogSeconds > 0 {
		add("watchdog", "silence of %s is a crash", secondsText(s.WatchdogSeconds))
	}
	if s.HeldSince != nil {
		add("held", "it wants no checkpoint since %s; that holds for a minute at most", timeText(*s.HeldSince))
	}
	if s.Policy.Durable {
		add("durable", "%s", durableText)
	}
	if s.Health != "" {
		add("health", "%s", s.Health)
	}
	return fields
}

// durableText is what follows from a program's word that it keeps its own state.
const durableText = "it said that it keeps its own state: after a crash it is started afresh, and its files are never rolled back"

// saysText is what a program has said of itself.
func saysText(s api.Status) string {
	switch {
	case !s.Ready:
		return s.Says
	case s.Says == "":
		return "ready"
	}
	return "ready, " + s.Says
}

// recoveryText is how a workload came back: from what, at what cost, and what
// to do where that was wrong.
func recoveryText(name string, r *api.Recovery) (fields [][2]string) {
	add := func(name, format string, args ...any) {
		fields = append(fields, [2]string{name, fmt.Sprintf(format, args...)})
	}
	add("last recovery", "%s, %s", timeText(r.At), r.Words)
	if r.Generation == "" {
		add("if that was wrong", "`wakepoint restore %s` goes back to its newest generation, `wakepoint log %s` lists all", name, name)
		return fields
	}
	add("it took", "%s, from a generation that was %s old", secondsText(r.TookSeconds), secondsText(r.AgeSeconds))
	if r.Resets > 0 {
		add("reset", "%s", fewText(r.ResetEnds, r.Resets))
	}
	if n := r.FilesWritten + r.FilesDeleted; n > 0 {
		add("files put back", "%d written, %d deleted: %s", r.FilesWritten, r.FilesDeleted, fewText(r.FileNames, n))
	}
	if r.CrashedAt == nil {
		add("if that was wrong", "`wakepoint restore %s --undo` takes a restore back, `wakepoint log %s` lists all generations", name, name)
	} else {
		add("if that was wrong", "`wakepoint restore %s@GEN` goes to another generation, with --undo back again; `wakepoint log %s` lists them", name, name)
	}
	return fields
}

// fewText is the first few of many.
func fewText(few []string, many int) string {
	text := strings.Join(few, ", ")
	if n := many - len(few); n > 0 {
		text += fmt.Sprintf(", and %d more", n)
	}
	return text
}

// commandText is a command on one line, its words quoted where they need it.
func commandText(argv []string) string {
	var words []string
	for _, arg := range argv {
		plain := arg != "" && strings.Trim(arg, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./=:,@%+") == ""
		if !plain {
			quoted := strconv.Quote(arg)
			if !strings.ContainsAny(arg, `'"`) {
				quoted = "'" + quoted[1:len(quoted)-1] + "'"
			}
			arg = quoted
		}
		words = append(words, arg)
	}
	return strings.Join(words, " ")
}

// policyText is a policy in the words of the flags.
func policyText(p api.Policy) string {
	every := strings.ReplaceAll(secondsText(p.EverySeconds), " ", "")
	if p.EveryAuto {
		every = autoWord
	}
	words := []string{"--every " + every}
	for _, d := range p.Data {
		words = append(words, "--data "+d)
	}
	for _, w := range [][2]string{{"files", p.Files}, {"on-crash", p.OnCrash}, {"on-exit", p.OnExit}, {"give-up", p.GiveUp}, {"health", p.Health}} {
		if w[1] != "" {
			words = append(words, "--"+w[0]+" "+commandText([]string{w[1]}))
		}
	}
	if p.WatchdogSeconds != 0 {
		words = append(words, "--watchdog "+strings.ReplaceAll(secondsText(p.WatchdogSeconds), " ", ""))
	}
	if p.PauseBudgetSeconds != 0 {
		words = append(words, "--pause-budget "+budgetText(p))
	}
	if p.KeepSizeBytes != 0 {
		words = append(words, "--keep-size "+limitText(p.KeepSizeBytes))
	}
	if p.BufferBytes != 0 {
		words = append(words, "--buffer "+limitText(p.BufferBytes))
	}
	if p.WriteLimitBytes != 0 {
		words = append(words, "--write-limit "+limitText(p.WriteLimitBytes))
	}
	return strings.Join(words, " ")
}

// sizeText is what the generations take on the disk.
func sizeText(s api.Status) string {
	text := bytesText(s.SizeBytes)
	switch most := s.Policy.KeepSizeBytes; {
	case most > 0 && s.SizeBytes > most:
		return text + ", more than the " + bytesText(most) + " of --keep-size: what is left must stay"
	case most > 0:
		return text + " of at most " + bytesText(most)
	}
	return text
}

// intervalText is the interval in force.
func intervalText(s api.Status) string {
	text := secondsText(s.IntervalSeconds)
	if s.AfterCrashSeconds > 0 {
		text += ", sooner: it came back from a crash " + secondsText(s.AfterCrashSeconds) + " ago; usually " + secondsText(s.EverySeconds)
	}
	if s.Auto != nil {
		text += ", auto: a checkpoint costs " + secondsText(s.Auto.CheckpointSeconds) + ", and a crash is expected every " + secondsText(s.Auto.CrashSeconds)
	}
	switch s.Stretched {
	case "slow":
		return text + ", stretched: a checkpoint takes more than half of " + secondsText(s.EverySeconds)
	case "writes":
		return text + ", stretched: it writes more than --write-limit allows"
	case "failures":
		return text + ", stretched: checkpoints fail"
	case "pause":
		return text + ", stretched: it stands still for its files for longer than --pause-budget"
	}
	return text
}

func (a *app) logCommand() *cobra.Command {
	return a.formatFlag(a.onWorkload(&cobra.Command{
		Use:   "log NAME",
		Short: "List the generations of a workload, newest first",
		Long: `List the generations of a workload that can be restored, newest first: when each
was committed, how long the program stood still for it, how much it wrote and
how much it holds. Behind them stand a tag that "wakepoint checkpoint" gave or
that a restore left (undo), and whether it is pinned. Generations that are
damaged are named on standard error.`,
	}, nil, func(ctx context.Context, site keeper.Site, name string, _ []string) error {
		rows, damaged, err := keeper.Log(ctx, site, name)
		if err != nil {
			return err
		}
		for _, d := range damaged {
			a.say("log %s: %s", name, d)
		}
		return a.printGenerations(rows)
	}))
}

func (a *app) printGenerations(rows []api.GenerationRow) error {
	if a.format == "json" {
		return a.printJSON(append([]api.GenerationRow{}, rows...))
	}
	var table [][]string
	for _, r := range rows {
		table = append(table, []string{
			r.Generation, timeText(r.CommittedAt), pauseText(r), bytesText(r.NewBytes),
			bytesText(r.TotalBytes), dash(r.Parent), dash(r.Verdict), tagText(r),
		})
	}
	return a.printTable([]string{"GENERATION", "COMMITTED", "PAUSE", "NEW", "TOTAL", "PARENT", "VERDICT", "TAG"}, table)
}

// tagText is what a person has said of a generation.
func tagText(r api.GenerationRow) string {
	switch {
	case !r.Pinned:
		return r.Tag
	case r.Tag == "":
		return "pinned"
	}
	return r.Tag + ", pinned"
}

// pauseText is how long the program stood still for a generation, and whether
// the buffer was too small for it.
func pauseText(r api.GenerationRow) string {
	text := secondsText(r.PauseSeconds)
	if r.Streamed {
		text += ", streamed"
	}
	return text
}
