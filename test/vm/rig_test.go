//go:build linux

package vm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/wakepoint/wakepoint/internal/vmtest"
)

const (
	// patience is how long anything may take on a busy host before a test
	// calls it stuck.
	patience  = 6 * time.Minute
	sizeBytes = 1 << 30
	memoryMiB = 1024

	// interruptsMax is how often a generation may have been cut short before
	// recovery may take an older one.
	interruptsMax = 3

	// onDisk is where the disk is mounted: the store, its key and what
	// programs write lie there, and nothing else outlives a boot.
	onDisk = "/disk"
)

// generation is a generation's number; in JSON it is "g412", or "" for none.
type generation uint64

func (g generation) String() string { return "g" + strconv.FormatUint(uint64(g), 10) }

func (g *generation) UnmarshalText(text []byte) error {
	n, err := strconv.ParseUint(strings.TrimPrefix(string(text), "g"), 10, 64)
	if len(text) > 0 && err != nil {
		return err
	}
	*g = generation(n)
	return nil
}

// promise is what was said of a workload before the cut.
type promise struct {
	generation generation
	count      uint64 // that the program had reached before that was taken
}

// subject is what is protected, as commands of the machine.
type subject struct {
	name   string
	start  string
	look   string // prints how far it is, and how much of what it knows is wrong
	client string // has it go on; "": it does so by itself
}

// counter counts.
var counter = subject{name: "counter", start: "program work " + onDisk + "/data 1", look: "program look " + onDisk + "/data"}

// large does so with 64 MiB.
var large = subject{name: "large", start: "program work " + onDisk + "/data 64", look: "program look " + onDisk + "/data"}

// redis is a server whose state is in memory alone. Each count of its client
// adds a key, of which it is known what it holds.
var redis = subject{
	name:   "redis",
	start:  "redis-server --bind 127.0.0.1 --save '' --appendonly no --dir /",
	client: "redis-cli -r -1 -i 0.01 eval \"local n = redis.call('incr', 'n'); redis.call('set', 'k' .. n, redis.sha1hex(n)); return n\" 0",
	look: "redis-cli eval \"local n, wrong = tonumber(redis.call('get', 'n') or 0), 0; for i = 1, n do if redis.call('get', 'k' .. i) ~= redis.sha1hex(i) then wrong = wrong + 1 end end; " +
		"return n .. ' ' .. wrong\" 0",
}

// rig is a disk, and the machine that has it now.
type rig struct {
	t    *testing.T
	of   subject
	r    *rand.Rand
	ctx  context.Context
	dir  string
	disk *vmtest.Disk
	vm   *vmtest.VM
	next func() string // the kernel that is booted next

	promised    promise
	interrupted int // cuts since the newest promise
	promises    *vmtest.Job

	left int // cuts that may be made
	made int // cuts
	open int // those of which it is not known whether they were survived
}

// newRig makes a machine with an empty disk, not running yet.
func newRig(t *testing.T, r *rand.Rand) *rig {
	t.Helper()
	if session.missing != "" {
		t.Skipf("skip: no machines here: %s", session.missing)
	}
	dir := t.TempDir()
	disk, err := vmtest.FormatDisk(filepath.Join(dir, "disk"), sizeBytes)
	if err != nil {
		t.Fatal(err)
	}
	g := &rig{t: t, of: counter, r: r, dir: dir, disk: disk}
	t.Cleanup(g.close)
	return g
}

// close ends everything, and keeps what there is when the test has failed.
func (g *rig) close() {
	failed := g.t.Failed()
	if g.vm != nil {
		if failed {
			g.explain()
		}
		if err := g.vm.Cut(); err != nil {
			g.t.Error(err)
		}
	}
	g.disk.Close()
	if !failed {
		return
	}
	kept := filepath.Join(session.cache, "failed", strings.ReplaceAll(g.t.Name(), "/", "-"))
	err := errors.Join(os.RemoveAll(kept), os.MkdirAll(filepath.Dir(kept), 0o755), os.CopyFS(kept, os.DirFS(g.dir)))
	g.t.Logf("kept: %s %v", kept, err)
}

// explain prints what the machine knows.
func (g *rig) explain() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for _, command := range []string{
		"wakepoint status " + g.of.name, "wakepoint log " + g.of.name, "wakepoint logs " + g.of.name + " | tail -n 20",
		"tail -n 40 " + onDisk + "/store/workloads/*/keeper.log", "ps -o pid,ppid,stat,args | grep -v ']$'",
	} {
		r, err := g.vm.Run(ctx, "sh", "-c", surroundings+command)
		g.t.Logf("%s: %v %d\n%s%s", command, err, r.Code, r.Out, r.Err)
	}
	g.t.Logf("the console:\n%s", g.vm.Console())
}

// surroundings come before every command in a machine.
const surroundings = "export WAKEPOINT_STORE=" + onDisk + "/store WAKEPOINT_KEY=" + onDisk + "/key; cd /root; "

// boot starts the machine on what is on the disk.
func (g *rig) boot(line string, clock time.Time) {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	g.t.Cleanup(cancel)
	if err := g.disk.Check(); err != nil {
		g.t.Fatal(err)
	}
	vm, err := vmtest.Boot(ctx, vmtest.Machine{
		Kernel: session.kernels[line], Initrd: session.initrds[line], Disk: g.disk, Dir: g.dir, Clock: clock, MemoryMiB: memoryMiB,
	})
	if err != nil {
		g.t.Fatal(err)
	}
	g.vm, g.ctx = vm, ctx
	if r, err := vm.Run(ctx, "/bin/busybox", "--install", "-s", "/bin"); err != nil || r.Code != 0 {
		g.t.Fatalf("busybox: %+v, %v", r, err)
	}
	// What is written reaches the disk soon, and is not flushed.
	g.must("ifconfig lo up && mkdir -p " + onDisk + " && mount -t ext4 /dev/vda " + onDisk + " && cd /proc/sys/vm && echo 20 >dirty_writeback_centisecs && echo 20 >dirty_expire_centisecs")
}

// try runs a command in the machine.
func (g *rig) try(command string) vmtest.Result {
	g.t.Helper()
	r, err := g.vm.Run(g.ctx, "sh", "-c", surroundings+command)
	if err != nil {
		g.t.Fatal(err)
	}
	return r
}

func (g *rig) must(command string) string {
	g.t.Helper()
	r := g.try(command)
	if r.Code != 0 {
		g.t.Fatalf("%s: exit code %d\n%s%s", command, r.Code, r.Out, r.Err)
	}
	return r.Out
}

// begin starts a command that goes on until the cut.
func (g *rig) begin(command string) *vmtest.Job {
	g.t.Helper()
	j, err := g.vm.Start("sh", "-c", surroundings+command)
	if err != nil {
		g.t.Fatal(err)
	}
	return j
}

// protect starts the program under protection.
func (g *rig) protect() {
	g.t.Helper()
	g.must("wakepoint run -d --name " + g.of.name + " --every 1s -- " + g.of.start)
	g.serve()
}

// serve has it go on.
func (g *rig) serve() {
	if g.of.client != "" {
		g.begin("until " + g.of.look + "; do sleep 0.2; done >/dev/null; " + g.of.client + " >/dev/null")
	}
}

// promising has generations taken, besides those that are taken anyway, and
// their numbers printed.
func (g *rig) promising() {
	g.promises = g.begin("while :; do c=$(" + g.of.look + ") && n=$(wakepoint checkpoint " + g.of.name + ") && echo $n $c; sleep 0.3; done")
}

// heard takes a line of the promises.
func (g *rig) heard(line string) {
	g.t.Helper()
	var p promise
	var wrong uint64
	if _, err := fmt.Sscanf(line, "g%d %d %d", &p.generation, &p.count, &wrong); err != nil || wrong != 0 {
		g.t.Fatalf("promised: %q, %v", line, err)
	}
	if p.generation <= g.promised.generation {
		g.t.Errorf("%v is promised after %v", p.generation, g.promised.generation)
	}
	g.promised, g.interrupted = p, 0
}

// waitPromise waits for another promise.
func (g *rig) waitPromise() {
	g.t.Helper()
	select {
	case line, ok := <-g.promises.Lines:
		if !ok {
			r, err := g.promises.Wait(g.ctx)
			g.t.Fatalf("no promises any more: %+v, %v", r, err)
		}
		g.heard(line)
	case <-g.ctx.Done():
		g.t.Fatal("nothing is promised any more")
	}
}

// cut takes the power away. p is how likely a sector survives that was written
// and not flushed.
func (g *rig) cut(p float64) {
	g.t.Helper()
	if err := g.vm.Cut(); err != nil {
		g.t.Fatal(err)
	}
	g.vm = nil
	if g.promises != nil {
		for line := range g.promises.Lines {
			g.heard(line)
		}
		g.promises = nil
	}
	kept, lost, err := g.disk.Cut(g.r, p)
	if err != nil {
		g.t.Fatal(err)
	}
	g.interrupted++
	g.made, g.open = g.made+1, g.open+1
	g.t.Logf("cut after %d flushes, %v promised; of what was not flushed %d sectors are kept, %d lost",
		g.disk.Flushes(), g.promised.generation, kept, lost)
}

// survival draws how likely a sector survives: nothing, everything, and what
// lies between.
func (g *rig) survival() float64 {
	return []float64{0, .05, .5, .9, 1}[g.r.IntN(5)]
}

// recovered is a row of `recover -o json`.
type recovered struct {
	Name       string
	State      string
	PID        int
	Generation generation
	Older      bool
	Words      string
}

// errBroken says that a promise was not kept.
var errBroken = errors.New("a promise was broken")

// recover brings back what was running, and says whether it is what was
// promised.
func (g *rig) recover() error {
	g.t.Helper()
	r := g.try("wakepoint recover -o json")
	var rows []recovered
	if err := json.Unmarshal([]byte(r.Out), &rows); err != nil {
		return fmt.Errorf("recover: exit code %d, %w\n%s%s", r.Code, err, r.Out, r.Err)
	}
	found := false
	for _, row := range rows {
		if row.State != "running" || row.PID == 0 {
			return fmt.Errorf("recover: %s is %s\n%s%s", row.Name, row.State, r.Out, r.Err)
		}
		if row.Name == g.of.name {
			found = true
			if err := g.judge(row); err != nil {
				return err
			}
		}
	}
	if !found {
		return fmt.Errorf("recover has not found the workload: %s%s", r.Out, r.Err)
	}
	return nil
}

// judge compares what came back with what was promised. A generation whose
// recovery was interrupted often may be passed over.
func (g *rig) judge(row recovered) error {
	g.t.Log(row.Words)
	spent := g.interrupted > interruptsMax
	switch {
	case row.Generation == 0:
		return fmt.Errorf("%w: it was not restored: %+v", errBroken, row)
	case row.Generation < g.promised.generation && !spent:
		return fmt.Errorf("%w: %v was promised, %v came back: %s", errBroken, g.promised.generation, row.Generation, row.Words)
	case row.Older && !spent:
		return fmt.Errorf("a newer generation was passed over: %s", row.Words)
	case row.Generation < g.promised.generation:
		g.promised = promise{} // what is newer is not on its line
	}
	return nil
}

// look returns what a program knows of itself: how far it is.
func (g *rig) look(command string) uint64 {
	g.t.Helper()
	var count, wrong uint64
	out := g.must(command)
	if _, err := fmt.Sscan(out, &count, &wrong); err != nil || wrong != 0 {
		g.t.Fatalf("its words: %q, %v", out, err)
	}
	return count
}

// onward is how far a program must come to have compared everything, twice.
const onward = 100

// goesOn waits until a program has counted on, and finds everything as it was.
func (g *rig) goesOn(look string, least uint64) {
	g.t.Helper()
	first := g.look(look)
	if first < least {
		g.t.Fatalf("it goes on at %d and had come to %d before what was promised was taken", first, least)
	}
	for g.look(look) < first+onward {
		if g.ctx.Err() != nil {
			g.t.Fatalf("it stands still at %d", g.look(look))
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// whole checks that everything is as it should be after a recovery.
func (g *rig) whole() {
	g.t.Helper()
	g.goesOn(g.of.look, g.promised.count)
	if out := g.must("program frozen"); out != "" {
		g.t.Fatalf("these stand still: %s", out)
	}
	if out := g.must("wakepoint logs " + g.of.name); strings.Contains(out, "BAD") {
		g.t.Fatalf("it complains: %s", out)
	}
	g.must("wakepoint verify")
	g.open = 0
}

// back boots again, brings back what was running and checks it.
func (g *rig) back() {
	g.t.Helper()
	g.boot(g.next(), time.Time{})
	g.bring()
}

// bring brings back what was running and checks it.
func (g *rig) bring() {
	g.t.Helper()
	if err := g.recover(); err != nil {
		g.t.Fatal(err)
	}
	g.serve()
	g.whole()
}
