package main

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/testscript"
)

// scriptFields compares the names of the fields of a JSON object, or of each
// of an array, with the contract. Names tell what the values are: a time is
// RFC 3339 in text, durations, sizes and numbers of processes are numbers.
func scriptFields(ts *testscript.TestScript, _ bool, args []string) {
	text := []byte(ts.ReadFile(args[0]))
	var rows []map[string]any
	if err := json.Unmarshal(text, &rows); err != nil {
		rows = make([]map[string]any, 1)
		ts.Check(json.Unmarshal(text, &rows[0]))
	}
	if len(rows) == 0 {
		ts.Fatalf("there is no object in %s", text)
	}
	want, more := args[1:], false
	if want[len(want)-1] == "..." {
		want, more = want[:len(want)-1], true
	}
	want = slices.Sorted(slices.Values(want))
	for _, row := range rows {
		got := slices.Sorted(maps.Keys(row))
		if more {
			got = slices.DeleteFunc(got, func(name string) bool { return !slices.Contains(want, name) })
		}
		if diff := cmp.Diff(want, got); diff != "" {
			ts.Fatalf("the fields of %s: %s", text, diff)
		}
		for name, v := range row {
			if !fitsName(name, v) {
				ts.Fatalf("%s is %v (%T)", name, v, v)
			}
		}
	}
}

var snake = regexp.MustCompile(`^[a-z][a-z0-9]*(_[a-z0-9]+)*$`)

func fitsName(name string, v any) bool {
	_, number := v.(float64)
	text, isText := v.(string)
	switch {
	case !snake.MatchString(name):
		return false
	case strings.HasSuffix(name, "_at"):
		_, err := time.Parse(time.RFC3339Nano, text)
		return err == nil
	case strings.HasSuffix(name, "_seconds"), strings.HasSuffix(name, "_bytes"), name == "pid", strings.HasSuffix(name, "_pid"):
		return number
	case name == "generation", name == "parent":
		return isText
	}
	return true
}

// TestContract: the script of the contract has every command that there is.
func TestContract(t *testing.T) {
	text, err := os.ReadFile("testdata/script/contract.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range newApp(os.Stdin, os.Stdout, os.Stderr, nil).root().Commands() {
		if !c.Hidden && !regexp.MustCompile(`(?m)^.*\bwakepoint `+c.Name()+`\b`).Match(text) {
			t.Errorf("%s is not in the script", c.Name())
		}
	}
}

var (
	scriptCodes = regexp.MustCompile(`(?m)^code ([0-9]+) wakepoint(?: --store \S+)? ([a-z]+)`)
	helpCodes   = regexp.MustCompile(`(?m)^    (\S+) +\S`)
)

// TestExitCodes: a code that a command ends with in a script stands in its help.
func TestExitCodes(t *testing.T) {
	listed := map[string][]string{}
	for _, c := range newApp(os.Stdin, os.Stdout, os.Stderr, nil).root().Commands() {
		_, help, _ := strings.Cut(c.Long, "Exit codes:\n")
		for _, m := range helpCodes.FindAllStringSubmatch(help, -1) {
			listed[c.Name()] = append(listed[c.Name()], m[1])
		}
	}
	scripts, err := filepath.Glob("testdata/script/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, script := range scripts {
		text, err := os.ReadFile(script)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range scriptCodes.FindAllStringSubmatch(string(text), -1) {
			found++
			codes, known := listed[m[2]]
			if known && !slices.Contains(codes, m[1]) && !slices.Contains(codes, "n") {
				t.Errorf("%s: %s ends with %s, and its help has %q", script, m[2], m[1], codes)
			}
		}
	}
	if found < 80 {
		t.Errorf("only %d exit codes were found in the scripts", found)
	}
}
