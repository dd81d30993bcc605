package keeper

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wakepoint/wakepoint/internal/api"
	"github.com/wakepoint/wakepoint/internal/engine"
	"github.com/wakepoint/wakepoint/internal/procfs"
)

// adopted makes the rig's workload an adopted program that runs already.
func (r *rig) adopted() *fakeTree {
	r.Helper()
	r.w.mu.Lock()
	tr := r.w.newTree(5, nil)
	tr.isRun = true
	r.w.mu.Unlock()
	if err := putRecord(r.w, recordSpec, api.Spec{Name: "web", Argv: []string{"prog"}, Dir: "/", Adopt: int(tr.handle.Command)}); err != nil {
		r.Fatal(err)
	}
	return tr
}

// An adopted program that cannot be saved even once is let go: it runs on,
// and no keeper comes back to it.
func TestRefusedAdopt(t *testing.T) {
	for name, failure := range map[string]error{
		"refused": &engine.RefusedError{Obstacles: []engine.Obstacle{{What: "pipe:[7] is also held by pid 8"}}},
		"full":    syscall.ENOSPC,
	} {
		for _, takenOver := range []bool{false, true} {
			bubble(t, api.Policy{}, func(r *rig) {
				tr := r.adopted()
				r.w.failWith(func(_ int, s string) error {
					if s == "dump" {
						return failure
					}
					return nil
				})
				r.begin(ActLaunch, RestoreOptions{})
				if takenOver {
					if name == "refused" {
						return // it is let go at once, before any keeper could be killed
					}
					r.kill()
					r.begin(ActRecover, RestoreOptions{})
				}
				time.Sleep(time.Minute)
				synctest.Wait()
				select {
				case <-r.done:
				default:
					t.Fatalf("%s: its keeper stays", name)
				}
				if r.only() != tr {
					t.Fatalf("%s: it does not run on", name)
				}
				run := r.records().run
				if run.Wanted || run.State != api.Failed || run.Handle != (engine.Handle{}) || run.Error == nil {
					t.Errorf("%s: %+v", name, run)
				}
			})
		}
	}
}

// An adopted program that was saved once is looked after, come what may.
func TestAdoptThatFailsLater(t *testing.T) {
	bubble(t, api.Policy{}, func(r *rig) {
		tr := r.adopted()
		r.begin(ActLaunch, RestoreOptions{})
		time.Sleep(1500 * time.Millisecond)
		r.w.failWith(func(_ int, s string) error {
			if s == "dump" {
				return syscall.ENOSPC
			}
			return nil
		})
		time.Sleep(time.Minute)
		if r.only() != tr || !r.records().run.Wanted {
			t.Error("it was given up")
		}
	})
}

// background starts a program of its own, away from all that the test holds.
func background(t *testing.T, prepare func(*exec.Cmd), argv ...string) int {
	t.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if prepare != nil {
		prepare(cmd)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = cmd.Wait() }()
	t.Cleanup(func() { _ = cmd.Process.Kill(); <-ended })
	return cmd.Process.Pid
}

// wantEmpty checks that nothing is left of a launch that failed.
func wantEmpty(t *testing.T, s Site) {
	t.Helper()
	if list, err := List(context.Background(), s); err != nil || len(list) != 0 {
		t.Errorf("left behind: %+v %v", list, err)
	}
}

// A program that shares a pipe with the outside is refused by name, runs on
// as before, and no workload is left.
func TestRealRefusedAdopt(t *testing.T) {
	s := site(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	pid := background(t, func(c *exec.Cmd) { c.Stdout = w }, "sh", "-c", "while :; do echo on; sleep 0.01; done")
	_, err = Launch(context.Background(), s, api.Spec{Adopt: pid}, api.Policy{}, nil)
	if e := api.AsError(err); e == nil || e.Code != api.CodeRefused || !strings.Contains(e.Message, "pipe") {
		t.Errorf("%v", err)
	}
	wantEmpty(t, s)
	b := make([]byte, 1<<20)
	for range 3 { // more than what waited in the pipe: it still writes
		if _, err := r.Read(b); err != nil {
			t.Fatal(err)
		}
	}
}

// What started this command cannot be adopted by it, nor this host's init.
func TestRealAdoptOfOurOwn(t *testing.T) {
	s := site(t)
	for _, pid := range append(procfs.NewReader("/proc").Line(os.Getpid()), 1) {
		if pid == 0 {
			continue // above a container's own
		}
		_, err := Launch(context.Background(), s, api.Spec{Adopt: pid}, api.Policy{}, nil)
		if e := api.AsError(err); e == nil || e.Code != api.CodeRefused || e.Hint == "" {
			t.Errorf("%d: %v", pid, err)
		}
	}
	wantEmpty(t, s)
}

// Of two that adopt one program at once, one does, and the program's parts
// are not adopted beside it.
func TestRealAdoptTwice(t *testing.T) {
	s := site(t)
	pid := background(t, nil, "sh", "-c", "sleep 1000; :")
	var wg sync.WaitGroup
	var errs [4]error
	for i := range errs {
		wg.Go(func() { _, errs[i] = Launch(context.Background(), s, api.Spec{Adopt: pid}, api.Policy{}, nil) })
	}
	wg.Wait()
	done := 0
	for _, err := range errs {
		if err == nil {
			done++
		} else if !strings.Contains(err.Error(), "protected already") {
			t.Error(err)
		}
	}
	list, err := List(context.Background(), s)
	if err != nil || len(list) != 1 || done != 1 {
		t.Fatalf("%d adopted it: %+v %v", done, list, err)
	}
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		kids, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
		if err == nil && len(kids) > 0 {
			kid, _ := strconv.Atoi(strings.TrimSpace(string(kids)))
			_, err := Launch(context.Background(), s, api.Spec{Adopt: kid}, api.Policy{}, nil)
			if e := api.AsError(err); e == nil || e.Code != api.CodeRefused || !strings.Contains(e.Message, "part of "+list[0].Name) {
				t.Errorf("a part of it: %v", err)
			}
			break
		}
		if time.Now().After(end) {
			t.Fatal("it has no child")
		}
	}
	if err := Remove(context.Background(), s, list[0].Name); err != nil {
		t.Error(err)
	}
}

// A zombie and a number that nobody has.
func TestRealAdoptOfNothing(t *testing.T) {
	s := site(t)
	cmd := exec.Command("true")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for startTicks(cmd.Process.Pid) != 0 {
		time.Sleep(time.Millisecond)
	}
	_, err := Launch(context.Background(), s, api.Spec{Adopt: cmd.Process.Pid}, api.Policy{}, nil)
	if e := api.AsError(err); e == nil || e.Code != api.CodeRefused {
		t.Errorf("zombie: %v", err)
	}
	_ = cmd.Wait()
	_, err = Launch(context.Background(), s, api.Spec{Adopt: cmd.Process.Pid}, api.Policy{}, nil)
	if e := api.AsError(err); e == nil || e.Code != api.CodeFailed || errors.Is(err, os.ErrNotExist) {
		t.Errorf("nobody: %v", err)
	}
	wantEmpty(t, s)
}
