package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/wakepoint/wakepoint/internal/keeper"
)

// recoverTurns is how often each row is measured.
const recoverTurns = 7

// BenchmarkRecover kills workloads with their keepers, and measures from the
// start of `wakepoint recover` to the first instruction of the last of them.
func BenchmarkRecover(b *testing.B) {
	if !live() {
		b.Skip("needs root and a kernel that can do it")
	}
	dir := b.TempDir()
	program, gaps := filepath.Join(dir, "wakepoint"), filepath.Join(dir, "gaps")
	for _, build := range [][]string{{"go", "build", "-o", program, "."}, {"gcc", "-O1", "-o", gaps, "testdata/bench/gaps.c"}} {
		if out, err := exec.Command(build[0], build[1:]...).CombinedOutput(); err != nil {
			b.Fatalf("%v: %v\n%s", build, err, out)
		}
	}
	var rows []string
	for _, c := range []struct{ workloads, mib int }{{1, 16}, {1, 1024}, {10, 4}} {
		r := &recovery{b: b, program: program, gaps: gaps, site: keeper.Site{StoreDir: filepath.Join(dir, fmt.Sprint("store", c.mib)), KeyFile: filepath.Join(dir, "key"), Program: program}}
		goal := 150 + float64(c.mib)/1024*1000
		if c.workloads > 1 {
			goal = 1000
		}
		took := r.measure(c.workloads, c.mib)
		rows = append(rows, fmt.Sprintf("%2d x %4d MiB   %4.0f (%.0f - %.0f)   goal %4.0f", c.workloads, c.mib, took[len(took)/2], took[0], took[len(took)-1], goal))
	}
	fmt.Printf("from `wakepoint recover` to the first instruction of the last program: ms, median (least - most) of %d\n%s\n", recoverTurns, strings.Join(rows, "\n"))
}

// recovery is one row under measurement.
type recovery struct {
	b             *testing.B
	program, gaps string
	site          keeper.Site
}

func (r *recovery) run(args ...string) {
	r.b.Helper()
	cmd := exec.Command(r.program, append(args, "--store", r.site.StoreDir, "--key", r.site.KeyFile)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		r.b.Fatalf("%v: %v\n%s", args, err, out)
	}
}

// measure returns the times in ms, sorted.
func (r *recovery) measure(workloads, mib int) (took []float64) {
	var names []string
	defer func() { removeSite(r.site) }()
	for i := range workloads {
		names = append(names, fmt.Sprintf("w%d", i))
		cmd := exec.Command(r.program, "run", "--store", r.site.StoreDir, "--key", r.site.KeyFile, "--name", names[i], "--every", "1h", "--rehearse", "never",
			"-d", "--", r.gaps, strconv.Itoa(mib))
		if out, err := cmd.CombinedOutput(); err != nil {
			r.b.Fatalf("%v\n%s", err, out)
		}
	}
	for _, name := range names {
		r.await(name, "ready", 1)
	}
	for range recoverTurns {
		for _, name := range names {
			r.run("checkpoint", name) // one that was cut short too often is passed over
			s, err := keeper.StatusOf(context.Background(), r.site, name)
			if err != nil {
				r.b.Fatal(err)
			}
			if err := killAll(s); err != nil {
				r.b.Fatal(err)
			}
		}
		time.Sleep(200 * time.Millisecond)
		began := time.Now()
		r.run("recover")
		last := began
		for _, name := range names {
			if at := r.back(name, began); at.After(last) {
				last = at
			}
		}
		took = append(took, float64(last.Sub(began).Microseconds())/1000)
	}
	slices.Sort(took)
	return took
}

// printed is what a workload has printed.
func (r *recovery) printed(name string) []string {
	path, err := keeper.Output(r.site, name)
	if err != nil {
		r.b.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		r.b.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(text)), "\n")
}

// await waits until a workload has printed a line.
func (r *recovery) await(name, line string, n int) {
	for range 6000 {
		if len(r.printed(name)) >= n && slices.Contains(r.printed(name), line) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	r.b.Fatalf("%s does not print %q", name, line)
}

// back returns when a program ran again.
func (r *recovery) back(name string, after time.Time) time.Time {
	for range 1000 {
		for _, line := range r.printed(name) {
			if ns, err := strconv.ParseInt(line, 10, 64); err == nil && ns > after.UnixNano() {
				return time.Unix(0, ns)
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	r.b.Fatalf("%s does not run again", name)
	return after
}
