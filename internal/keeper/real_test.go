package keeper

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/wakepoint/wakepoint/internal/api"
	"github.com/wakepoint/wakepoint/internal/engine"
	"github.com/wakepoint/wakepoint/internal/pocket"
)

// TestMain makes the test program stand for the whole: init, guard, keeper.
func TestMain(m *testing.M) {
	engine.InitMain()
	if err := pocket.BequeathNothing(); err != nil { // what the test's own parents left open is no program's
		panic(err)
	}
	if len(os.Args) > 1 {
		var err error
		switch os.Args[1] {
		case "_guard":
			err = GuardMain(os.Args[2:])
		case "_keeper":
			holdKeeper(os.Args[2:])
			err = Main(context.Background(), os.Args[2:])
		case "version": // of what an upgrade finds
		case "_unit":
			err = UnitMain(context.Background(), unitSite(), os.Args[2])
		default:
			os.Exit(m.Run())
		}
		if err != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// site makes a store of its own. Everything in it is ended with the test.
func site(t *testing.T) Site {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("skip: needs root: process trees are started in namespaces of their own")
	}
	s := Site{StoreDir: filepath.Join(t.TempDir(), "store")}
	t.Cleanup(func() {
		list, err := List(context.Background(), s)
		if err != nil {
			t.Error(err)
		}
		for _, v := range list {
			if t.Failed() {
				log, _ := os.ReadFile(filepath.Join(s.StoreDir, "workloads", v.Name, logName))
				t.Logf("%s: %s %v\n%s", v.Name, v.State, v.LastError, log)
			}
			if err := Remove(context.Background(), s, v.Name); err != nil {
				t.Error(err)
			}
		}
	})
	return s
}

func shell(script string) api.Spec {
	return api.Spec{Argv: []string{"sh", "-c", script}, Env: os.Environ(), Dir: "/", Umask: 0o22}
}

// counter counts in memory and prints each number.
const counter = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.02; done"

func launch(t *testing.T, s Site, spec api.Spec, p api.Policy) Outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	out, err := Launch(ctx, s, spec, p, nil)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// killAll kills a workload's guard, keeper and whole tree, as a power cut does.
func killAll(t *testing.T, s Site, name string) {
	t.Helper()
	w, err := s.workload(name)
	if err != nil {
		t.Fatal(err)
	}
	v, err := StatusOf(context.Background(), s, name)
	if err != nil {
		t.Fatal(err)
	}
	rec, err := readRecords(w)
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	if v.KeeperPID != 0 {
		pids = append(pids, parentOf(v.KeeperPID), v.KeeperPID)
	}
	pids = append(pids, int(rec.run.Handle.Init))
	for _, p := range pids {
		if p > 1 && p != os.Getpid() {
			_ = syscall.Kill(p, syscall.SIGKILL)
		}
	}
	for _, p := range pids {
		for end := time.Now().Add(5 * time.Second); p > 1 && p != os.Getpid() && startTicks(p) != 0 && time.Now().Before(end); {
			time.Sleep(time.Millisecond)
		}
	}
}

func parentOf(pid int) int {
	p, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	f := strings.Fields(string(p[strings.LastIndexByte(string(p), ')')+1:]))
	n, _ := strconv.Atoi(f[1])
	return n
}

// printed returns the lines of the workload's output.
func printed(t *testing.T, s Site, name string) []string {
	t.Helper()
	path, err := Output(s, name)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var out []string
	for sc := bufio.NewScanner(f); sc.Scan(); {
		out = append(out, sc.Text())
	}
	return out
}

// goesOn checks that a counter's numbers, behind the last restore, follow
// without a gap, begin no later than where it was, and go on.
func goesOn(t *testing.T, s Site, name string) { goesOnFrom(t, s, name, false) }

// goesOnFrom is goesOn for a restore that may also go forward.
func goesOnFrom(t *testing.T, s Site, name string, forward bool) {
	t.Helper()
	last := -1
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		lines := printed(t, s, name)
		from := 0
		for i, l := range lines {
			if strings.HasPrefix(l, "wakepoint: ") {
				from = i + 1
			}
		}
		var numbers []int
		for _, l := range lines[from:] {
			n, err := strconv.Atoi(l)
			if err != nil {
				t.Fatalf("line %q", l)
			}
			if k := len(numbers); k > 0 && numbers[k-1]+1 != n {
				t.Fatalf("%d follows %d", n, numbers[k-1])
			}
			numbers = append(numbers, n)
		}
		if len(numbers) >= 5 {
			before := 0
			for i := from - 1; i >= 0 && before == 0; i-- {
				before, _ = strconv.Atoi(lines[i])
			}
			if from > 0 && (numbers[0] < 2 || !forward && numbers[0] > before+1) {
				t.Fatalf("it went on at %d, after %d", numbers[0], before)
			}
			return
		}
		if last = len(numbers); time.Now().After(end) {
			t.Fatalf("only %d numbers in 10 s", last)
		}
	}
}

func TestRealPowerCuts(t *testing.T) {
	s := site(t)
	out := launch(t, s, shell(counter), api.Policy{EverySeconds: 0.2})
	goesOn(t, s, out.Name)
	for n := range 3 {
		time.Sleep(500 * time.Millisecond)
		killAll(t, s, out.Name)
		v, err := StatusOf(context.Background(), s, out.Name)
		if err != nil || v.State != api.Down {
			t.Fatalf("cut %d: %v %v", n, v.State, err)
		}
		outs, err := Recover(context.Background(), s, nil)
		if err != nil || len(outs) != 1 || outs[0].Err != nil {
			t.Fatalf("cut %d: %+v %v", n, outs, err)
		}
		if outs[0].Older || !strings.HasPrefix(outs[0].Words, "restored from g") {
			t.Errorf("cut %d: %+v", n, outs[0])
		}
		goesOn(t, s, out.Name)
	}
}

func TestRealKeeperKilled(t *testing.T) {
	s := site(t)
	out := launch(t, s, shell(counter), api.Policy{EverySeconds: 0.2})
	ctx := context.Background()
	before, err := StatusOf(ctx, s, out.Name)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		_ = syscall.Kill(before.KeeperPID, syscall.SIGKILL)
		var after api.Status
		for end := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
			after, err = StatusOf(ctx, s, out.Name)
			if err == nil && after.KeeperPID != 0 && after.KeeperPID != before.KeeperPID && after.State == api.Running {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("no new keeper: %+v %v", after, err)
			}
		}
		if after.PID != before.PID {
			t.Errorf("pid %d became %d", before.PID, after.PID)
		}
		if _, err := Checkpoint(ctx, s, out.Name, ""); err != nil {
			t.Error(err)
		}
		before = after
	}
	goesOn(t, s, out.Name)
}

func TestRealStopStartRestore(t *testing.T) {
	s := site(t)
	out := launch(t, s, shell(counter), api.Policy{EverySeconds: 10})
	ctx := context.Background()
	goesOn(t, s, out.Name)
	g, err := Checkpoint(ctx, s, out.Name, "mine")
	if err != nil {
		t.Fatal(err)
	}
	if v, err := Stop(ctx, s, out.Name, StopOptions{}, nil); err != nil || v.State != api.Stopped {
		t.Fatalf("%+v %v", v, err)
	}
	if _, err := Start(ctx, s, out.Name, nil); err != nil {
		t.Fatal(err)
	}
	goesOn(t, s, out.Name)
	back, err := Restore(ctx, s, out.Name, RestoreOptions{Generation: g.Generation}, nil)
	if err != nil || back.Words != "restored from "+g.Generation {
		t.Fatalf("%+v %v", back, err)
	}
	goesOn(t, s, out.Name)
	if _, err := Restore(ctx, s, out.Name, RestoreOptions{Undo: true}, nil); err != nil {
		t.Fatal(err)
	}
	goesOnFrom(t, s, out.Name, true)
}

func TestRealEnds(t *testing.T) {
	s := site(t)
	for _, c := range []struct {
		script string
		state  api.State
		code   int
	}{
		{"exit 0", api.Finished, 0},
		{"sleep 0.5; exit 0", api.Finished, 0},
		{"exit 3", api.Failed, 3},
		{"kill -TERM $$", api.Finished, 143},
	} {
		out := launch(t, s, shell(c.script), api.Policy{GiveUp: api.GiveUpStop})
		v, err := Wait(context.Background(), s, out.Name)
		if err != nil || v.State != c.state || v.ExitCode != c.code || !v.Ended {
			t.Errorf("%s: %s code %d ended %v, %v", c.script, v.State, v.ExitCode, v.Ended, err)
		}
	}
}

func TestRealMissingCommand(t *testing.T) {
	s := site(t)
	_, err := Launch(context.Background(), s, api.Spec{Argv: []string{"/nowhere/prog"}, Dir: "/"}, api.Policy{}, nil)
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
	_, err = Launch(context.Background(), s, api.Spec{Argv: []string{"/etc/passwd"}, Dir: "/"}, api.Policy{}, nil)
	if !errors.Is(err, fs.ErrPermission) {
		t.Errorf("not executable: %v", err)
	}
	if list, err := List(context.Background(), s); err != nil || len(list) != 0 {
		t.Errorf("left behind: %+v %v", list, err)
	}
}

func TestRealCrash(t *testing.T) {
	s := site(t)
	out := launch(t, s, shell(counter), api.Policy{EverySeconds: 0.2})
	goesOn(t, s, out.Name)
	ctx := context.Background()
	time.Sleep(time.Second)
	before, err := StatusOf(ctx, s, out.Name)
	if err != nil {
		t.Fatal(err)
	}
	if err := Signal(ctx, s, out.Name, int(syscall.SIGSEGV)); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		v, err := StatusOf(ctx, s, out.Name)
		if err == nil && v.State == api.Running && v.PID != before.PID {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%+v %v", v, err)
		}
	}
	goesOn(t, s, out.Name)
	if v, err := StatusOf(ctx, s, out.Name); err != nil || v.Incident == nil || v.Recovery == nil {
		t.Errorf("%+v %v", v, err)
	}
}

// A keeper that dies before it could write down what it started leaves
// nothing that runs beside what the next one brings up.
func TestRealOrphan(t *testing.T) {
	s := site(t)
	out := launch(t, s, shell(counter), api.Policy{EverySeconds: 0.2})
	goesOn(t, s, out.Name)
	w, err := s.workload(out.Name)
	if err != nil {
		t.Fatal(err)
	}
	killAll(t, s, out.Name)
	rec, err := readRecords(w)
	if err != nil {
		t.Fatal(err)
	}
	rec.run.State, rec.run.Handle = api.Restoring, engine.Handle{}
	if err := putRecord(w, recordRun, rec.run); err != nil {
		t.Fatal(err)
	}
	record, err := os.Create(filepath.Join(w.Dir(), waitName))
	if err != nil {
		t.Fatal(err)
	}
	defer record.Close()
	orphan, err := engine.Start(context.Background(), engine.StartOptions{Argv: []string{"sleep", "1000"}, Env: os.Environ(), Dir: "/", Record: record})
	if err != nil {
		t.Fatal(err)
	}
	defer orphan.Close()
	outs, err := Recover(context.Background(), s, nil)
	if err != nil || len(outs) != 1 || outs[0].Err != nil {
		t.Fatalf("%+v %v", outs, err)
	}
	select {
	case <-orphan.Done():
	case <-time.After(5 * time.Second):
		t.Error("the orphan lives")
		_ = orphan.Kill(context.Background())
	}
	goesOn(t, s, out.Name)
}
