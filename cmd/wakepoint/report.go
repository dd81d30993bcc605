package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/wakepoint/wakepoint/internal/api"
	"github.com/wakepoint/wakepoint/internal/engine"
	"github.com/wakepoint/wakepoint/internal/image"
)

// exitCode ends the program with a code when all words have been said.
type exitCode int

func (e exitCode) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// Codes that `run` uses besides those of package api, as shells and env(1) do.
const (
	codeOwn          = 125 // a failure of our own
	codeNotRunnable  = 126
	codeNotFound     = 127
	codeSignal       = 128 // + the signal's number
	codeProgramsOwn  = -1  // in the help: the program's code
	codeSignalledOwn = -2  // in the help: 128+n
)

// codeWords says what each exit code means, in the order of the help.
var codeWords = []struct {
	code  int
	shown string
	words string
}{
	{0, "0", "done"},
	{1, "1", "failed"},
	{2, "2", "usage"},
	{3, "3", "some of several failed"},
	{4, "4", "no such workload or generation"},
	{6, "6", "cannot be checkpointed"},
	{7, "7", "integrity: something is damaged"},
	{9, "9", "restored, but an older generation than the newest"},
	{11, "11", "locked by another keeper, or in use by another process"},
	{codeProgramsOwn, "n", "without -d: the program's own exit code"},
	{codeOwn, "125", "without -d: a failure of wakepoint itself"},
	{codeNotRunnable, "126", "the command cannot be executed"},
	{codeNotFound, "127", "the command was not found"},
	{codeSignalledOwn, "128+n", "without -d: the program was ended by signal n"},
}

// exitCodeHelp is the end of a command's help: 0, 1, 2 and what it adds.
func exitCodeHelp(codes []int) string {
	var b strings.Builder
	b.WriteString("Exit codes:\n") // indented by four, which a man page leaves as it is
	for _, w := range codeWords {
		if slices.Contains([]int{0, 1, 2}, w.code) || slices.Contains(codes, w.code) {
			fmt.Fprintf(&b, "\n    %-6s %s", w.shown, w.words)
		}
	}
	return b.String()
}

// usageError is a command line that makes no sense.
type usageError struct {
	words, hint string
}

func (e *usageError) Error() string { return e.words }

func usage(cmd *cobra.Command, format string, args ...any) error {
	e := &usageError{words: fmt.Sprintf(format, args...), hint: fmt.Sprintf("see `%s --help`", cmd.CommandPath())}
	if cmd.HasParent() {
		e.words = cmd.Name() + ": " + e.words
	}
	return e
}

// misuse is a usage error that a command finds by itself.
func misuse(hint, format string, args ...any) error {
	return api.Errorf(api.CodeUsage, hint, format, args...)
}

func unknownCommand(root *cobra.Command, name string) error {
	e := &usageError{words: fmt.Sprintf("%q is not a command", name), hint: "see `wakepoint --help`"}
	var names []string
	for _, c := range root.Commands() {
		if c.IsAvailableCommand() {
			names = append(names, c.Name())
		}
	}
	if near := similar(name, names); len(near) > 0 {
		e.hint = "did you mean " + quoteList(near) + "?"
	}
	return e
}

// about says what was tried when err happened; nil stays nil.
func about(what string, err error) error {
	var code exitCode
	var u *usageError
	if err == nil || errors.As(err, &code) || errors.As(err, &u) {
		return err
	}
	return fmt.Errorf("%s: %w", what, err)
}

// report says err to the person and returns the exit code.
func (a *app) report(err error) int {
	var code exitCode
	var u *usageError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &code):
		return int(code)
	case errors.As(err, &u):
		a.complain(u.words, u.hint)
		return int(api.CodeUsage)
	}
	e := asError(err)
	a.complain(e.Message, e.Hint)
	return int(e.Code)
}

func (a *app) complain(words, hint string) {
	fmt.Fprintf(a.err, "wakepoint: %s\n", words)
	if hint != "" {
		fmt.Fprintf(a.err, "hint: %s\n", a.atStore(hint))
	}
}

var command = regexp.MustCompile("`(wakepoint) [^`]*`")

// atStore adds --store to the commands in a text where this one was given it,
// so that they do what is meant when they are copied.
func (a *app) atStore(text string) string {
	if usual, _ := a.defaultPaths(os.Getuid()); a.storeDir == usual || a.storeDir == "" {
		return text
	}
	return command.ReplaceAllStringFunc(text, func(line string) string {
		if strings.HasSuffix(line, " --help`") {
			return line
		}
		words := strings.SplitN(strings.Trim(line, "`"), " ", 3)
		words = slices.Insert(words, 2, "--store", commandText([]string{a.storeDir}))
		return "`" + strings.Join(words, " ") + "`"
	})
}

// asError gives every error an exit code and, where one is known, a hint.
func asError(err error) *api.Error {
	e := *api.AsError(err)
	var refused *engine.RefusedError
	switch {
	case errors.As(err, &refused) && e.Code == api.CodeFailed:
		e.Code = api.CodeRefused
		if len(refused.Obstacles) > 0 {
			e.Hint = refused.Obstacles[0].Hint
		}
	case e.Hint != "":
	case errors.As(err, new(*image.NewerError)):
		e.Hint = "use the wakepoint that saved it, or a later one"
	case errors.Is(err, syscall.EROFS):
		e.Hint = "that file system is read-only: remount it, or name another place with --store"
	case errors.Is(err, syscall.ENOSPC):
		e.Hint = "make room on that file system; committed generations are whole"
	case errors.Is(err, fs.ErrPermission):
		e.Hint = "try it as root, or choose another place with --store"
	}
	return &e
}

// named finishes an error about a workload: it names it, and where there is
// none of that name the hint lists names that are like it.
func (a *app) named(name string, err error, names func() []string) error {
	if err == nil {
		return nil
	}
	e := api.AsError(err)
	if e.Code == api.CodeNotFound {
		if all := names(); !slices.Contains(all, name) {
			hint := "`wakepoint ps` lists the workloads"
			if near := similar(name, all); len(near) > 0 {
				hint = "did you mean " + quoteList(near) + "?"
			}
			e = api.Errorf(e.Code, hint, "%w", err)
		}
	}
	if hasWord(e.Message, name) {
		return e
	}
	return about(name, e)
}

// hasWord says whether a text names a workload; being part of a path or of a
// longer word does not count.
func hasWord(text, name string) bool {
	return slices.Contains(strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(" \t\n:;,\"'`()@", r) }), name)
}

func quoteList(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = "`" + w + "`"
	}
	return inWords(quoted, "or")
}

// inWords is a list as a sentence has it: "a, b and c".
func inWords(words []string, last string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " " + last + " " + words[len(words)-1]
}

// similar returns at most three of the names that look like name.
func similar(name string, names []string) []string {
	type near struct {
		name     string
		distance int
	}
	var found []near
	for _, n := range names {
		d := distance(name, n)
		if strings.HasPrefix(n, name) || strings.HasPrefix(name, n) {
			d = min(d, 1)
		}
		if d <= max(1, (len(name)+1)/3) {
			found = append(found, near{n, d})
		}
	}
	slices.SortStableFunc(found, func(x, y near) int { return x.distance - y.distance })
	var list []string
	for _, f := range found[:min(3, len(found))] {
		list = append(list, f.name)
	}
	return list
}

// distance is the Levenshtein distance of two names.
func distance(x, y string) int {
	row := make([]int, len(y)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(x) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(y) {
			change := diagonal
			if x[i] != y[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(y)]
}
