package keeper

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wakepoint/wakepoint/internal/api"
	"github.com/wakepoint/wakepoint/internal/files"
)

// wrote makes a file, and tells the tree's watch of it.
func (r *rig) wrote(name string) string {
	r.Helper()
	path := filepath.Join(r.TempDir(), name)
	if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
		r.Fatal(err)
	}
	st, err := os.Stat(path)
	if err != nil {
		r.Fatal(err)
	}
	sys := st.Sys().(*syscall.Stat_t)
	r.w.mu.Lock()
	defer r.w.mu.Unlock()
	r.w.watch.written = append(r.w.watch.written, files.Written{Path: path, Dev: uint64(sys.Dev), Ino: sys.Ino})
	return path
}

// names says whether the newest generation has a file.
func (r *rig) names(path string) bool {
	r.Helper()
	r.w.mu.Lock()
	defer r.w.mu.Unlock()
	var last []byte
	for g := range r.w.gens {
		if g == r.w.tried {
			last = r.w.gens[g].blobs[files.IndexName]
		}
	}
	x, err := files.Decode(last)
	if err != nil {
		r.Fatal(err)
	}
	return slices.ContainsFunc(x.Entries, func(e files.Entry) bool { return e.Path == path && e.Written })
}

// What was written and closed joins the next checkpoint when one fails, and is
// in every later generation, whichever keeper takes it.
func TestWrittenFilesAreCaptured(t *testing.T) {
	bubble(t, api.Policy{EverySeconds: 10}, func(r *rig) {
		r.begin(ActLaunch, RestoreOptions{})
		path := r.wrote("state")
		r.w.failWith(func(_ int, s string) error {
			if s == "commit" {
				return errFake
			}
			return nil
		})
		if e := r.ask(api.Request{Op: api.OpCheckpoint}).Error; e == nil {
			t.Fatal("the commit did not fail")
		}
		r.w.failWith(nil)
		for n := range 3 {
			if n == 2 {
				r.kill()
				r.begin(ActRecover, RestoreOptions{})
			}
			if e := r.ask(api.Request{Op: api.OpCheckpoint}).Error; e != nil {
				t.Fatal(e)
			}
			if !r.names(path) {
				t.Errorf("generation %d after the failure lacks the file", n)
			}
		}
		if n := r.k.status().Notes; len(n) != 0 {
			t.Errorf("notes: %q", n)
		}
	})
}

// A mount is looked for before each checkpoint, and the watch ends with the tree.
func TestWatchFollowsTheTree(t *testing.T) {
	bubble(t, api.Policy{EverySeconds: 10}, func(r *rig) {
		r.begin(ActLaunch, RestoreOptions{})
		first := r.w.watch
		before := first.marks
		if e := r.ask(api.Request{Op: api.OpCheckpoint}).Error; e != nil {
			t.Fatal(e)
		}
		if first.marks != before+1 {
			t.Errorf("mounts were looked for %d times before a checkpoint", first.marks-before)
		}
		r.only().exit(11)
		synctest.Wait()
		if r.only(); !first.over || r.w.watch == first || r.w.watch.over {
			t.Error("the watch of the tree that crashed was not replaced")
		}
		if e := r.ask(api.Request{Op: api.OpStop}).Error; e != nil {
			t.Fatal(e)
		}
		if synctest.Wait(); !r.w.watch.over {
			t.Error("the watch outlives the tree")
		}
	})
}

func TestFilesKeepWatchesNothing(t *testing.T) {
	bubble(t, api.Policy{EverySeconds: 10, Files: api.FilesKeep}, func(r *rig) {
		r.begin(ActLaunch, RestoreOptions{})
		path := r.wrote("state")
		if e := r.ask(api.Request{Op: api.OpCheckpoint}).Error; e != nil {
			t.Fatal(e)
		}
		if !r.w.watch.over || r.names(path) {
			t.Error("it is watched")
		}
		back := api.FilesRollback
		if e := r.ask(api.Request{Op: api.OpSet, Change: &api.PolicyChange{Files: &back}}).Error; e != nil {
			t.Fatal(e)
		}
		if e := r.ask(api.Request{Op: api.OpCheckpoint}).Error; e != nil {
			t.Fatal(e)
		}
		path = r.wrote("state")
		if e := r.ask(api.Request{Op: api.OpCheckpoint}).Error; e != nil {
			t.Fatal(e)
		}
		if r.w.watch.over || !r.names(path) {
			t.Error("it is not watched after its policy has changed")
		}
	})
}

// Where nothing can be watched the workload runs on, and its status says so.
func TestNotWatched(t *testing.T) {
	bubble(t, api.Policy{EverySeconds: 1}, func(r *rig) {
		r.w.blind = fmt.Errorf("%w: fanotify_init: %w", files.ErrNoWatch, syscall.EMFILE)
		r.begin(ActLaunch, RestoreOptions{})
		time.Sleep(2500 * time.Millisecond)
		r.only()
		n := r.k.status().Notes
		if len(n) != 1 || !strings.Contains(n[0], "not captured") || !strings.Contains(n[0], "--data") || !strings.Contains(n[0], "max_user_groups") {
			t.Errorf("notes: %q", n)
		}
		r.w.blind = nil
		time.Sleep(2 * time.Second)
		if n := r.k.status().Notes; len(n) != 0 {
			t.Errorf("notes when it can: %q", n)
		}
	})
}

// A tree that nobody watched while it had no keeper: that is said.
func TestTakenOverUnwatched(t *testing.T) {
	bubble(t, api.Policy{EverySeconds: 1}, func(r *rig) {
		r.w.partly = true
		r.begin(ActLaunch, RestoreOptions{})
		if n := r.k.status().Notes; len(n) != 0 {
			t.Errorf("notes of the first keeper: %q", n)
		}
		r.kill()
		r.begin(ActRecover, RestoreOptions{})
		time.Sleep(2500 * time.Millisecond)
		if n := r.k.status().Notes; len(n) != 1 || !strings.Contains(n[0], "no keeper looked after it") {
			t.Errorf("notes: %q", n)
		}
	})
}

// stepper is a program that writes its state in the ways that programs do, once
// for each step, and waits for the next.
const stepper = `cd %s
for i in 1 2 3 4 5 6; do
	echo $i > state
	echo $i > new; mv new swapped
	if [ $i != 1 ]; then echo $i > journal; fi
	echo $i >> log
	echo $i > journal2; mv log log.old; cp log.old log; rm journal2
	: > done$i
	while [ ! -e go$i ]; do sleep 0.02; done
done`

type stepped struct {
	*testing.T
	dir string
}

func (s stepped) exists(name string) bool {
	_, err := os.Stat(filepath.Join(s.dir, name))
	return err == nil
}

// reached waits until the program has done a step.
func (s stepped) reached(n int) {
	s.Helper()
	for end := time.Now().Add(20 * time.Second); !s.exists(fmt.Sprintf("done%d", n)); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			s.Fatalf("step %d is not done", n)
		}
	}
}

// undone takes away what tells of steps that the program will do again: files
// that it made for the first time after the generation are nobody's.
func (s stepped) undone(steps ...int) {
	s.Helper()
	for _, n := range steps {
		if err := os.Remove(filepath.Join(s.dir, fmt.Sprintf("done%d", n))); err != nil {
			s.Fatal(err)
		}
	}
}

// step lets the program do step n+1.
func (s stepped) step(n int) {
	s.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, fmt.Sprintf("go%d", n)), nil, 0o600); err != nil {
		s.Fatal(err)
	}
	s.reached(n + 1)
	if err := os.Remove(filepath.Join(s.dir, fmt.Sprintf("go%d", n))); err != nil {
		s.Fatal(err)
	}
}

// want compares a file.
func (s stepped) want(name, text string) {
	s.Helper()
	p, err := os.ReadFile(filepath.Join(s.dir, name))
	if err != nil || string(p) != text {
		s.Errorf("%s: %q %v, want %q", name, p, err, text)
	}
}

// A program opens, writes and closes: after everything was killed its files are
// what they were at the generation.
func TestRealWrittenFiles(t *testing.T) {
	s := site(t)
	p := stepped{t, t.TempDir()}
	out := launch(t, s, shell(fmt.Sprintf(stepper, p.dir)), api.Policy{EverySeconds: 3600})
	p.reached(1)
	ctx := context.Background()
	if _, err := Checkpoint(ctx, s, out.Name, ""); err != nil {
		t.Fatal(err)
	}
	p.step(1)
	p.step(2)
	killAll(t, s, out.Name)
	p.undone(2, 3)
	recoverAll(t, s)
	for _, name := range []string{"state", "swapped", "log", "log.old"} {
		p.want(name, "1\n")
	}
	if !p.exists("done1") {
		t.Error("a file of the generation is gone")
	}

	// The next generation has a journal; the one after it knows that there is none.
	p.step(1)
	if err := os.Remove(filepath.Join(p.dir, "journal")); err != nil { // as the program would
		t.Fatal(err)
	}
	if _, err := Checkpoint(ctx, s, out.Name, ""); err != nil {
		t.Fatal(err)
	}
	p.step(2)
	killAll(t, s, out.Name)
	recoverAll(t, s)
	p.want("state", "2\n")
	p.want("log", "1\n2\n")
	if p.exists("journal") {
		t.Error("the journal of a later time lies beside an earlier state")
	}
}

func recoverAll(t *testing.T, s Site) {
	t.Helper()
	outs, err := Recover(context.Background(), s, nil)
	if err != nil || len(outs) != 1 || outs[0].Err != nil {
		t.Fatalf("%+v %v", outs, err)
	}
}

// What was written while no keeper lived is captured by the next.
func TestRealWrittenWithoutAKeeper(t *testing.T) {
	s := site(t)
	p := stepped{t, t.TempDir()}
	out := launch(t, s, shell(fmt.Sprintf(stepper, p.dir)), api.Policy{EverySeconds: 3600})
	p.reached(1)
	ctx := context.Background()
	v, err := StatusOf(ctx, s, out.Name)
	if err != nil {
		t.Fatal(err)
	}
	guard := parentOf(v.KeeperPID)
	for _, pid := range []int{guard, v.KeeperPID} {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	for end := time.Now().Add(5 * time.Second); startTicks(v.KeeperPID) != 0 && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	p.step(1)
	recoverAll(t, s)
	if v, err := StatusOf(ctx, s, out.Name); err != nil || len(v.Notes) != 0 {
		t.Errorf("notes: %q %v", v.Notes, err)
	}
	if _, err := Checkpoint(ctx, s, out.Name, ""); err != nil {
		t.Fatal(err)
	}
	p.step(2)
	killAll(t, s, out.Name)
	recoverAll(t, s)
	p.want("state", "2\n")
	p.want("journal", "2\n")
}

// An adopted program shares its mounts with everybody: what others write is
// not rolled back with it.
func TestRealWrittenByAnAdoptedProgram(t *testing.T) {
	s := site(t)
	p := stepped{t, t.TempDir()}
	script := strings.ReplaceAll(fmt.Sprintf(stepper, p.dir), "mv new swapped", "echo $i > swapped")
	pid := background(t, func(c *exec.Cmd) { c.Stdin, c.Stdout, c.Stderr = nil, nil, nil }, "sh", "-c", script)
	p.reached(1)
	spec := api.Spec{Adopt: pid}
	out := launch(t, s, spec, api.Policy{EverySeconds: 3600})
	p.step(1)
	other := filepath.Join(p.dir, "other")
	for _, text := range []string{"before", "after"} {
		if err := os.WriteFile(other, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if text == "before" {
			if _, err := Checkpoint(context.Background(), s, out.Name, ""); err != nil {
				t.Fatal(err)
			}
		}
	}
	p.step(2)
	killAll(t, s, out.Name)
	_ = syscall.Kill(pid, syscall.SIGKILL)
	for end := time.Now().Add(5 * time.Second); startTicks(pid) != 0 && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	recoverAll(t, s)
	p.want("state", "2\n")
	p.want("swapped", "2\n")
	if text, err := os.ReadFile(other); err != nil || !bytes.Equal(text, []byte("after")) {
		t.Errorf("another program's file was rolled back: %q %v", text, err)
	}
}
