package keeper

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/wakepoint/wakepoint/internal/api"
)

const (
	restSettle = 10 * time.Second // a keeper's start is not its rest
	restTime   = 60 * time.Second
	userHZ     = 100 // clock ticks a second in /proc/PID/stat
)

// BenchmarkAtRest measures what keepers of a sleeping program take, the
// program being the one that is shipped.
func BenchmarkAtRest(b *testing.B) {
	b.ReportMetric(0, "ns/op")
	if os.Geteuid() != 0 {
		b.Skip("skip: needs root: process trees are started in namespaces of their own")
	}
	c := newCommand(b)
	var all []*resident
	for _, every := range []string{"1h", "1s"} {
		name := "every-" + every
		c.run("run", "-d", "--name", name, "--every", every, "--", "sleep", "1000")
		b.Cleanup(func() { c.run("rm", "--yes", name) })
		keeper := c.keeperOf(name)
		all = append(all, &resident{what: name + ": keeper", pid: keeper},
			&resident{what: name + ": its guard", pid: parentOf(keeper)})
	}
	time.Sleep(restSettle)
	start := time.Now()
	for _, r := range all {
		r.before = cpuTicks(b, r.pid)
	}
	time.Sleep(restTime)
	took := time.Since(start)
	fmt.Printf("\nat rest for %v, the program asleep\n\n", restTime)
	t := table{}
	t.row("", "resident MiB", "peak MiB", "share of a core, %")
	for _, r := range all {
		used := float64(cpuTicks(b, r.pid)-r.before) / userHZ
		t.row(r.what, mib(statusBytes(b, r.pid, "VmRSS")), mib(statusBytes(b, r.pid, "VmHWM")),
			fmt.Sprintf("%.3f", used/took.Seconds()*100))
	}
	t.print()
}

// BenchmarkPeak measures how much memory a keeper takes at most, for a program
// of 1 GiB that writes to all of it between checkpoints: more than fits into the
// buffer.
func BenchmarkPeak(b *testing.B) {
	b.ReportMetric(0, "ns/op")
	if os.Geteuid() != 0 {
		b.Skip("skip: needs root: process trees are started in namespaces of their own")
	}
	c := newCommand(b)
	program := filepath.Join(b.TempDir(), "rewrites")
	if text, err := exec.Command("gcc", "-O2", "-o", program, "testdata/bench/rewrites.c").CombinedOutput(); err != nil {
		b.Fatalf("gcc: %v\n%s", err, text)
	}
	fmt.Printf("\na program of 1 GiB that writes to all of it\n\n")
	t := table{}
	t.row("buffer MiB", "peak MiB of the keeper", "beside the buffer (goal 128)")
	for _, buffer := range []float64{64, 256} {
		name := fmt.Sprintf("buffer-%.0f", buffer)
		c.run("run", "-d", "--name", name, "--every", "1h", "--buffer", fmt.Sprintf("%.0fMiB", buffer), "--", program, "1024")
		keeper := c.keeperOf(name)
		for range 3 {
			time.Sleep(2 * time.Second)
			c.run("checkpoint", name)
		}
		peak := statusBytes(b, keeper, "VmHWM")
		t.row(fmt.Sprintf("%.0f", buffer), mib(peak), mib(peak-buffer*(1<<20)))
		c.run("rm", "--yes", name)
	}
	t.print()
}

// resident is a process that is watched.
type resident struct {
	what   string
	pid    int
	before int64
}

// command is the program that is shipped, with a store of its own.
type command struct {
	b    *testing.B
	path string
	env  []string
}

func newCommand(b *testing.B) command {
	b.Helper()
	dir := b.TempDir()
	c := command{b: b, path: filepath.Join(dir, "wakepoint"), env: append(os.Environ(), "WAKEPOINT_STORE="+filepath.Join(dir, "store"), "WAKEPOINT_KEY="+filepath.Join(dir, "key"))}
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", c.path, "github.com/wakepoint/wakepoint/cmd/wakepoint")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := build.CombinedOutput(); err != nil {
		b.Fatalf("build: %v\n%s", err, text)
	}
	return c
}

func (c command) run(args ...string) string {
	c.b.Helper()
	cmd := exec.Command(c.path, args...)
	cmd.Env, cmd.Stderr = c.env, os.Stderr
	text, err := cmd.Output()
	if err != nil {
		c.b.Fatalf("%s: %v", strings.Join(args, " "), err)
	}
	return string(text)
}

func (c command) keeperOf(name string) int {
	c.b.Helper()
	var rows []api.Row
	if err := json.Unmarshal([]byte(c.run("ps", "-o", "json")), &rows); err != nil {
		c.b.Fatal(err)
	}
	for _, r := range rows {
		if r.Name == name && r.KeeperPID != 0 {
			return r.KeeperPID
		}
	}
	c.b.Fatalf("%s has no keeper", name)
	return 0
}

// cpuTicks is the processor time that a process has used (proc_pid_stat(5),
// fields 14 and 15).
func cpuTicks(b *testing.B, pid int) int64 {
	b.Helper()
	p, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	f := strings.Fields(string(p[strings.LastIndexByte(string(p), ')')+1:]))
	var sum int64
	for _, text := range f[11:13] {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			b.Fatal(err)
		}
		sum += n
	}
	return sum
}

// statusBytes is a size of /proc/PID/status.
func statusBytes(b *testing.B, pid int, field string) float64 {
	b.Helper()
	p, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(p)) {
		var kib int64
		if n, _ := fmt.Sscanf(line, field+": %d kB", &kib); n == 1 {
			return float64(kib << 10)
		}
	}
	b.Fatalf("pid %d has no %s", pid, field)
	return 0
}
