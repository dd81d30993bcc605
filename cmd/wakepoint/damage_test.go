package main

import (
	"bytes"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// undecided are the files of a workload of which no byte decides anything.
var undecided = []string{"lock", "output.log", "keeper.log", "heartbeat"}

// filesOf lists what is to be damaged below a store.
func filesOf(ts *testscript.TestScript, store string) []string {
	var files []string
	ts.Check(filepath.WalkDir(store, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && !slices.Contains(undecided, d.Name()) {
			files = append(files, path)
		}
		return err
	}))
	return files
}

// harmed are the ways in which a file is damaged; nil stands for its removal.
// The record of the command's end has no checksum, and a manifest that is gone
// is a generation that was forgotten.
func harmed(path string, whole []byte) map[string][]byte {
	all := map[string][]byte{}
	if filepath.Base(path) == "wait" {
		return map[string][]byte{"cut in half": whole[:4], "garbage": []byte("garbage!")}
	}
	for name, at := range map[string]int{
		"its first byte": 0, "its version": 8, "its head": 17, "a quarter": len(whole) / 4,
		"its middle": len(whole) / 2, "its last byte": len(whole) - 1,
	} {
		b := bytes.Clone(whole)
		b[at] ^= 0x10
		all[name+" flipped"] = b
	}
	all["emptied"], all["cut in half"] = []byte{}, whole[:len(whole)/2]
	if filepath.Base(filepath.Dir(path)) != "manifests" && filepath.Base(path) != "history" {
		all["removed"] = nil
	}
	return all
}

func writeHarm(ts *testscript.TestScript, path string, b []byte) {
	if b == nil {
		ts.Check(os.Remove(path))
		return
	}
	ts.Check(os.WriteFile(path, b, 0o600))
}

// wakepointAt runs a command on a store and returns its exit code and words.
func wakepointAt(ts *testscript.TestScript, store string, args ...string) (code int, words string) {
	cmd := exec.Command("wakepoint", append([]string{"--store", store, "--key", ts.Getenv("WAKEPOINT_KEY")}, args...)...)
	cmd.Dir = ts.Getenv("WORK")
	out, err := cmd.CombinedOutput()
	if _, failed := err.(*exec.ExitError); err != nil && !failed {
		ts.Check(err)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

// scriptEveryFile damages every file of a store in every way, one at a time.
// verify names it, and what reads it says so. What it did is undone.
func scriptEveryFile(ts *testscript.TestScript, _ bool, args []string) {
	store := ts.MkAbs(args[0])
	files := filesOf(ts, store)
	for _, path := range files {
		whole, err := os.ReadFile(path)
		ts.Check(err)
		if len(whole) == 0 {
			continue // no end was recorded
		}
		for name, b := range harmed(path, whole) {
			writeHarm(ts, path, b)
			code, words := wakepointAt(ts, store, "verify")
			if code != 7 || !strings.Contains(words, path) || !strings.Contains(words, "generations are whole") {
				ts.Fatalf("verify: %s, %s: exit code %d\n%s", path, name, code, words)
			}
			if code, words := wakepointAt(ts, store, "doctor"); code != 7 || !strings.Contains(words, "is damaged:") {
				ts.Fatalf("doctor: %s, %s: exit code %d\n%s", path, name, code, words)
			}
			for _, look := range [][]string{{"ps"}, {"log", args[1]}, {"status", args[1]}} {
				if code, words := wakepointAt(ts, store, look...); !bulky(path) && !strings.Contains(words, path) {
					ts.Fatalf("%s: %s, %s: exit code %d\n%s", look[0], path, name, code, words)
				}
			}
			ts.Check(os.WriteFile(path, whole, 0o600))
		}
	}
	if code, words := wakepointAt(ts, store, "verify"); code != 0 {
		ts.Fatalf("verify of the whole store: %d\n%s", code, words)
	}
	ts.Logf("damaged each of %d files", len(files))
}

// bulky says whether a file is part of the generations.
func bulky(path string) bool {
	return slices.Contains([]string{"packs", "manifests"}, filepath.Base(filepath.Dir(path)))
}

// touches says whether verify has named a generation.
func touches(found, generation string) bool {
	return regexp.MustCompile(`\b` + generation + `\b.* not restore`).MatchString(found)
}

// scriptStartDamaged starts a stopped workload from copies of its store, in
// each of which another file is damaged. It comes back or it does not: it says
// which file is damaged, or that what it took was an older generation.
func scriptStartDamaged(ts *testscript.TestScript, _ bool, args []string) {
	store, name, newest := ts.MkAbs(args[0]), args[1], args[2]
	for _, path := range filesOf(ts, store) {
		whole, err := os.ReadFile(path)
		ts.Check(err)
		ways := harmed(path, whole)
		for _, way := range slices.Sorted(maps.Keys(ways)) {
			if way != "cut in half" && way != "removed" {
				continue // they differ in what verify reads, not in what follows
			}
			twin := store + "-damaged"
			ts.Check(ts.Exec("cp", "-a", store, twin))
			file := filepath.Join(twin, strings.TrimPrefix(path, store))
			writeHarm(ts, file, ways[way])
			_, found := wakepointAt(ts, twin, "verify")
			code, words := wakepointAt(ts, twin, "start", name)
			// It may be silent only of damage that does not touch what it took:
			// another generation's, or that of a library which the host has.
			untouched := strings.Contains(words, "restored from "+newest) && bulky(path) && !touches(found, newest)
			if code == 0 && !strings.Contains(words, file) && !untouched {
				ts.Fatalf("start: %s, %s: nothing was said\n%s\n%s", file, way, words, found)
			}
			if code != 0 && !strings.Contains(words, "hint:") && code != 9 {
				ts.Fatalf("start: %s, %s: exit code %d, no hint\n%s", file, way, code, words)
			}
			ts.Logf("%s %s: exit code %d: %s", filepath.Base(file), way, code, words)
			if code == 0 || code == 9 {
				if code, words := wakepointAt(ts, twin, "rm", name); code != 0 {
					ts.Fatalf("rm: %s, %s: exit code %d\n%s", file, way, code, words)
				}
			}
			ts.Check(os.RemoveAll(twin))
		}
	}
}
