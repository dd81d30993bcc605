package main

import (
	"context"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/wakepoint/wakepoint/internal/api"
	"github.com/wakepoint/wakepoint/internal/engine"
	"github.com/wakepoint/wakepoint/internal/keeper"
)

// patience is how long a script waits for what should come soon.
const patience = 30 * time.Second

// scriptSite is the store of a script.
func scriptSite(workDir string) keeper.Site {
	return keeper.Site{StoreDir: workDir + "/store", KeyFile: workDir + "/key", Program: "wakepoint"}
}

// live says whether programs can be saved here.
func live() bool {
	if os.Getuid() != 0 || needRights() != nil {
		return false
	}
	for _, f := range engine.Probe() {
		if f.Needed && !f.OK {
			return false
		}
	}
	return true
}

// removeAll ends what a script left running.
func removeAll(workDir string) { removeSite(scriptSite(workDir)) }

func removeSite(site keeper.Site) {
	list, err := keeper.List(context.Background(), site)
	if err != nil {
		return
	}
	for _, w := range list {
		if keeper.Remove(context.Background(), site, w.Name) != nil {
			for _, pid := range []int{w.PID, w.KeeperPID} {
				if pid > 1 {
					syscall.Kill(pid, syscall.SIGKILL)
				}
			}
		}
	}
}

// scriptCut kills everything of a workload at once.
func scriptCut(ts *testscript.TestScript, _ bool, args []string) {
	status, err := keeper.StatusOf(context.Background(), scriptSite(ts.Getenv("WORK")), args[0])
	ts.Check(err)
	ts.Check(killAll(status))
}

// scriptWaitFor waits until a workload is in a state.
func scriptWaitFor(ts *testscript.TestScript, _ bool, args []string) {
	soon(ts, func() bool {
		status, err := keeper.StatusOf(context.Background(), scriptSite(ts.Getenv("WORK")), args[0])
		return err == nil && status.State == api.State(args[1])
	})
}

// scriptGrows waits until a workload has printed more than a file holds.
func scriptGrows(ts *testscript.TestScript, _ bool, args []string) {
	path, err := keeper.Output(scriptSite(ts.Getenv("WORK")), args[0])
	ts.Check(err)
	before := len(ts.ReadFile(args[1]))
	soon(ts, func() bool {
		now, err := os.ReadFile(path)
		return err == nil && len(now) > before+64
	})
}

// scriptSoonHas waits until a file holds a number that is large enough.
func scriptSoonHas(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[1])
	ts.Check(err)
	soon(ts, func() bool {
		text, err := os.ReadFile(ts.MkAbs(args[0]))
		n, bad := strconv.Atoi(strings.TrimSpace(string(text)))
		return err == nil && bad == nil && n >= want
	})
}

func soon(ts *testscript.TestScript, done func() bool) {
	for deadline := time.Now().Add(patience); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			ts.Fatalf("waited for %s in vain", patience)
		}
	}
}

// scriptSteady checks the numbers that count.sh prints: between two restores
// each is one more than the last, and a restore never goes forward.
func scriptSteady(ts *testscript.TestScript, _ bool, args []string) {
	last, restored := 0, false
	for line := range strings.Lines(ts.ReadFile(args[0])) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "wakepoint: restored from ") {
			restored = true
			continue
		}
		n, err := strconv.Atoi(line)
		ts.Check(err)
		if n != last+1 && !(restored && n <= last) {
			ts.Fatalf("%d comes after %d", n, last)
		}
		last, restored = n, false
	}
	if last == 0 {
		ts.Fatalf("nothing was counted")
	}
}

// scriptBackground starts a program in a session of its own, away from all
// that the script holds.
func scriptBackground(ts *testscript.TestScript, _ bool, args []string) {
	cmd := exec.Command(args[1], args[2:]...)
	cmd.Dir = ts.Getenv("WORK")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	ts.Check(cmd.Start())
	ended := make(chan struct{})
	go func() { defer close(ended); cmd.Wait() }()
	ts.Defer(func() { cmd.Process.Kill(); <-ended })
	ts.Setenv(args[0], strconv.Itoa(cmd.Process.Pid))
	time.Sleep(100 * time.Millisecond)
}

// scriptPiped starts a program whose standard input is a pipe that we hold.
func scriptPiped(ts *testscript.TestScript, _ bool, args []string) {
	cmd := exec.Command("cat")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	in, err := cmd.StdinPipe()
	ts.Check(err)
	ts.Check(cmd.Start())
	ts.Defer(func() { in.Close(); cmd.Wait() })
	ts.Setenv(args[0], strconv.Itoa(cmd.Process.Pid))
}

// scriptAlive says whether there is a process of this number.
func scriptAlive(ts *testscript.TestScript, neg bool, args []string) {
	pid, err := strconv.Atoi(args[0])
	ts.Check(err)
	soon(ts, func() bool {
		_, err := readProcess(pid)
		return (err == nil) != neg
	})
}
