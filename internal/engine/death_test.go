package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/wakepoint/wakepoint/internal/procfs"
)

// A keeper of the death tests is this test binary, told by its environment.
const (
	deathAct   = "ENGINE_TEST_ACT"   // dump, restore
	deathAt    = "ENGINE_TEST_AT"    // die before this ptrace call
	deathTree  = "ENGINE_TEST_TREE"  // the Handle
	deathImage = "ENGINE_TEST_IMAGE" // a generation, as JSON
	deathRec   = "ENGINE_TEST_REC"
)

// savedGeneration is a memStore on disk.
type savedGeneration struct {
	Blobs    map[string][]byte
	Sections map[string]map[int64][]byte
}

// mortal is the keeper that dies.
func mortal() {
	if os.Getenv(deathAct) == "" {
		return
	}
	at, _ := strconv.Atoi(os.Getenv(deathAt))
	calls := 0
	before := func(string) {
		if calls++; calls == at {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}
	if err := mortalAct(before); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	os.Exit(0)
}

func mortalAct(before func(string)) error {
	ctx := context.Background()
	if os.Getenv(deathAct) == "restore" {
		b, err := os.ReadFile(os.Getenv(deathImage))
		if err != nil {
			return err
		}
		var g savedGeneration
		if err := json.Unmarshal(b, &g); err != nil {
			return err
		}
		rec, err := os.OpenFile(os.Getenv(deathRec), os.O_RDWR, 0)
		if err != nil {
			return err
		}
		s := &memStore{blobs: g.Blobs, sections: g.Sections}
		r, err := Restore(ctx, s.source(), RestoreOptions{Record: rec, Before: before})
		if err != nil {
			return err
		}
		_, err = r.Run()
		return err
	}
	var h Handle
	if err := json.Unmarshal([]byte(os.Getenv(deathTree)), &h); err != nil {
		return err
	}
	tree, err := Open(ctx, h)
	if err != nil {
		return err
	}
	tree.tracer.Before = before
	f, err := tree.Freeze(ctx)
	if err != nil {
		return err
	}
	if err := f.Dump(ctx, newMemStore(nil).sink(), false); err != nil {
		return err
	}
	return f.Thaw()
}

// mortalRun runs such a keeper and says whether it was killed.
func mortalRun(t *testing.T, env ...string) (killed bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err == nil {
		return false
	}
	if ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() && ws.Signal() == syscall.SIGKILL && ctx.Err() == nil {
		return true
	}
	t.Fatalf("the keeper failed: %v\n%s", err, out)
	return false
}

// compiled builds a C program of testdata into dir.
func compiled(t *testing.T, dir, name string) string {
	t.Helper()
	gcc, err := exec.LookPath("gcc")
	if err != nil {
		t.Skip("skip: gcc is not installed")
	}
	bin := filepath.Join(dir, strings.TrimSuffix(filepath.Base(name), ".c"))
	if out, err := exec.Command(gcc, "-O1", "-pthread", "-o", bin, "testdata/"+name).CombinedOutput(); err != nil {
		t.Fatalf("compile %s: %v\n%s", name, err, out)
	}
	return bin
}

// needRoot skips where trees cannot be started.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("skip: needs root")
	}
}

// goesOn waits until the program has said more, and nothing bad.
func goesOn(t *testing.T, out string) {
	t.Helper()
	before := fileText(t, out)
	deadline := time.Now().Add(20 * time.Second)
	for {
		now := fileText(t, out)
		if strings.Contains(now, "BAD") {
			t.Fatalf("the program says: %s", now[strings.Index(now, "BAD"):])
		}
		if len(now) >= len(before)+12 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the program does not go on; its last words: %q", tail(now, 80))
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func fileText(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func tail(s string, n int) string { return s[max(0, len(s)-n):] }

// startProgram starts bin with its output in a file.
func startProgram(t *testing.T, dir, bin string) (*Tree, string, *os.File) {
	t.Helper()
	out := filepath.Join(dir, "out")
	f, err := os.OpenFile(out, os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rec, err := os.Create(filepath.Join(dir, "record"))
	if err != nil {
		t.Fatal(err)
	}
	tree, err := Start(context.Background(), StartOptions{Argv: []string{bin}, Env: []string{"PATH=/usr/bin:/bin"},
		Dir: dir, Stdout: f, Stderr: f, Record: rec})
	if err != nil {
		t.Fatal(err)
	}
	return tree, out, rec
}

func killTree(t *testing.T, tree *Tree) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := tree.Kill(ctx); err != nil {
		t.Error(err)
	}
	_ = tree.Close()
}

// TestKeeperDiesInDump kills the keeper before each ptrace call of a dump.
// The program must go on as if nothing had been, and the next keeper, which
// takes it over, must be able to save it.
func TestKeeperDiesInDump(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	tree, out, _ := startProgram(t, dir, compiled(t, dir, "steady.c"))
	defer killTree(t, tree)
	goesOn(t, out)
	h, err := json.Marshal(tree.Handle())
	if err != nil {
		t.Fatal(err)
	}
	n := 1
	for ; mortalRun(t, deathAct+"=dump", deathTree+"="+string(h), deathAt+"="+strconv.Itoa(n)); n++ {
		goesOn(t, out)
	}
	goesOn(t, out)
	checkpoint(t, tree, nil)
	goesOn(t, out)
	t.Logf("%d of %d deaths", n-1, n-1)
	if n < 20 {
		t.Errorf("only %d ptrace calls were seen", n-1)
	}
}

// TestKeeperDiesInRestore kills the keeper before each ptrace call of a
// restore: nothing may be left of the tree.
func TestKeeperDiesInRestore(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	bin := compiled(t, dir, "steady.c")
	tree, out, rec := startProgram(t, dir, bin)
	goesOn(t, out)
	s := checkpoint(t, tree, nil)
	killTree(t, tree)
	b, err := json.Marshal(savedGeneration{s.blobs, s.sections})
	if err != nil {
		t.Fatal(err)
	}
	img := filepath.Join(dir, "image")
	if err := os.WriteFile(img, b, 0o600); err != nil {
		t.Fatal(err)
	}
	env := []string{deathAct + "=restore", deathImage + "=" + img, deathRec + "=" + rec.Name()}
	n := 1
	for ; mortalRun(t, append(env, deathAt+"="+strconv.Itoa(n))...); n++ {
		// Once the ties are cut it may run on as a whole; until then it is gone.
		left := waitLeft(t, bin)
		if len(left) == 0 {
			continue
		}
		goesOn(t, out)
		killAll(t, bin)
	}
	goesOn(t, out)
	killAll(t, bin)
	t.Logf("%d of %d deaths", n-1, n-1)
	if n < 20 {
		t.Errorf("only %d ptrace calls were seen", n-1)
	}
}

// waitLeft lists the processes that execute bin, or nothing when they vanish
// within a moment.
func waitLeft(t *testing.T, bin string) []int {
	t.Helper()
	for range 40 {
		if len(executing(bin)) == 0 {
			return nil
		}
		time.Sleep(5 * time.Millisecond)
	}
	return executing(bin)
}

func executing(bin string) []int {
	var out []int
	pids, _ := procfs.NewReader("/proc").Processes()
	for _, pid := range pids {
		if exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); err == nil && exe == bin {
			out = append(out, pid)
		}
	}
	return out
}

// killAll ends the trees that execute bin, by their init.
func killAll(t *testing.T, bin string) {
	t.Helper()
	for _, pid := range executing(bin) {
		st, err := procfs.NewReader("/proc").Stat(pid)
		if err == nil && st.PPID > 1 {
			_ = syscall.Kill(st.PPID, syscall.SIGKILL)
		}
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	if left := waitLeft(t, bin); len(left) > 0 {
		t.Fatalf("still there: %v", left)
	}
}
