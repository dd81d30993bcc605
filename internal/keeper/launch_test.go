package keeper

import (
	"context"
	"crypto/rand"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/wakepoint/wakepoint/internal/api"
	"github.com/wakepoint/wakepoint/internal/procfs"
)

// fullSite makes a store on a small file system that has no room for a
// generation; room makes some.
func fullSite(t *testing.T) (s Site, room func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("skip: needs root: mount")
	}
	dir := t.TempDir()
	if err := syscall.Mount("wakepoint-test", dir, "tmpfs", 0, "size=32m,mode=0700"); err != nil {
		t.Skipf("skip: needs to mount a tmpfs: %v", err)
	}
	t.Cleanup(func() {
		eventually(t, "its guard lets go", func() bool { return syscall.Unmount(dir, 0) == nil })
	})
	s = site(t)
	s.StoreDir = filepath.Join(dir, "store")
	filler := filepath.Join(dir, "filler")
	if err := os.WriteFile(filler, make([]byte, 32<<20-256<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	return s, func() {
		if err := os.Remove(filler); err != nil {
			t.Error(err)
		}
	}
}

// eventually waits for what should come soon.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// large is a policy by which no generation fits into 256 KiB.
func large(t *testing.T) api.Policy {
	t.Helper()
	dir := t.TempDir()
	data := make([]byte, 1<<20)
	_, _ = rand.Read(data) // never fails
	if err := os.WriteFile(filepath.Join(dir, "data"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	return api.Policy{EverySeconds: 0.2, Data: []string{dir}}
}

// A program whose first generation finds no room runs, named and unprotected,
// and is protected as soon as there is room.
func TestRealLaunchWithoutRoom(t *testing.T) {
	s, room := fullSite(t)
	ctx := context.Background()
	out, err := Launch(ctx, s, shell(counter), large(t), nil)
	if out.Name == "" {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() { _ = Remove(ctx, s, out.Name) })
	if e := api.AsError(err); e == nil || e.Hint == "" || out.Status.State != api.Running {
		t.Errorf("%+v %v", out, err)
	}
	goesOn(t, s, out.Name)
	room()
	eventually(t, "a generation", func() bool {
		v, err := StatusOf(ctx, s, out.Name)
		return err == nil && v.Generation != "" && v.LastError == nil
	})
	if err := Remove(ctx, s, out.Name); err != nil {
		t.Error(err)
	}
}

// A keeper that is killed between the start and the first generation leaves
// neither a program that nobody knows nor a launch that failed: the next one
// takes it over.
func TestRealKeeperKilledInLaunch(t *testing.T) {
	for _, guardToo := range []bool{false, true} {
		keeperKilledInLaunch(t, guardToo)
	}
}

func keeperKilledInLaunch(t *testing.T, guardToo bool) {
	t.Helper()
	s, room := fullSite(t)
	ctx := context.Background()
	p := large(t)
	type result struct {
		out Outcome
		err error
	}
	done := make(chan result, 1)
	spec := shell(counter)
	spec.Name = "web"
	go func() {
		out, err := Launch(ctx, s, spec, p, nil)
		done <- result{out, err}
	}()
	t.Cleanup(func() { _ = Remove(ctx, s, "web") })
	var v api.Status
	eventually(t, "a checkpoint that fails", func() bool {
		var err error
		v, err = StatusOf(ctx, s, "web")
		return err == nil && v.Failures > 0
	})
	if guardToo {
		_ = syscall.Kill(parentOf(v.KeeperPID), syscall.SIGKILL)
	}
	if err := syscall.Kill(v.KeeperPID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	room()
	r := <-done
	if guardToo { // the program runs, is named, and can be looked after again
		if e := api.AsError(r.err); e == nil || r.out.Name != "web" || r.out.Status.State != api.Running || !strings.Contains(e.Hint, "wakepoint recover") {
			t.Fatalf("%+v %v", r.out, r.err)
		}
		if outs, err := Recover(ctx, s, nil); err != nil || len(outs) != 1 || outs[0].Err != nil {
			t.Fatalf("%+v %v", outs, err)
		}
		eventually(t, "a generation", func() bool { r.out.Status, r.err = StatusOf(ctx, s, "web"); return r.out.Status.Generation != "" })
	}
	if r.err != nil || r.out.Status.PID != v.PID || r.out.Status.Generation == "" {
		t.Fatalf("%+v %v", r.out, r.err)
	}
	goesOn(t, s, "web")
	if err := Remove(ctx, s, "web"); err != nil {
		t.Error(err)
	}
}

// What ends before its first generation is told with how it ended. There is no
// room for one, so that it cannot come first.
func TestRealEndInLaunch(t *testing.T) {
	s, _ := fullSite(t)
	ctx := context.Background()
	out, err := Launch(ctx, s, shell("sleep 0.5; exit 3"), large(t), nil)
	if err != nil || !out.Status.Ended || out.Status.ExitCode != 3 || out.Status.Generation != "" {
		t.Errorf("%+v %v", out, err)
	}
	if err := Remove(ctx, s, "sh"); err != nil {
		t.Error(err)
	}
}

// Whatever is asked of a workload at once, at most one tree of it runs, its
// status says so, and when it is removed nothing is left.
func TestRealAllAtOnce(t *testing.T) {
	s := site(t)
	ctx := context.Background()
	mark := "wakepoint-test-" + strconv.Itoa(os.Getpid())
	for _, removeToo := range []bool{false, true} {
		spec := shell(": " + mark + "; " + counter)
		spec.Name = "web"
		launch(t, s, spec, api.Policy{EverySeconds: 0.2})
		if _, err := Stop(ctx, s, "web", StopOptions{}, nil); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() { _, _ = Start(ctx, s, "web", nil) })
		}
		if removeToo {
			wg.Go(func() {
				if err := Remove(ctx, s, "web"); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		list, err := List(ctx, s)
		if err != nil || len(list) == 0 != removeToo {
			t.Fatalf("%+v %v", list, err)
		}
		if !removeToo {
			if n := len(processesWith(t, mark)); n != 1 || list[0].State != api.Running {
				t.Errorf("%d run, and it is %s", n, list[0].State)
			}
			if err := Remove(ctx, s, "web"); err != nil {
				t.Error(err)
			}
		}
		eventually(t, "nothing is left", func() bool { return len(processesWith(t, mark)) == 0 })
	}
}

// processesWith returns the shells whose script holds a mark; one that such a
// shell has just forked is none.
func processesWith(t *testing.T, mark string) (pids []int) {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	found := map[int]bool{}
	for _, name := range all {
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		if p, err := os.ReadFile(name); err == nil && strings.HasPrefix(string(p), "sh\x00-c\x00: "+mark) {
			found[pid] = true
		}
	}
	for pid := range found {
		if line := procfs.NewReader("/proc").Line(pid); startTicks(pid) != 0 && len(line) > 1 && !found[line[1]] {
			pids = append(pids, pid)
		}
	}
	return pids
}

// A guard whose store was removed makes no other in its place.
func TestGuardWithoutAStore(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	a := arguments{Options: Options{Site: Site{StoreDir: dir}, Name: "web"}}
	if a.wantsKeeper() {
		t.Error("it wants a keeper")
	}
	if _, err := os.Lstat(dir); !os.IsNotExist(err) {
		t.Errorf("it made a store: %v", err)
	}
}
