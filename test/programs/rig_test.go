//go:build linux

package programs

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// patience is how long anything may take before a test calls it stuck.
const patience = 60 * time.Second

// rig is one workload, its own store, and the surroundings that a test takes
// from it. In a plain run there is neither keeper nor store: the program runs
// below unshare(1) in namespaces of its own.
type rig struct {
	t        *testing.T
	name     string
	top      string // holds everything but shm
	dir      string // the program's directory, on disk
	store    string
	shm      string // a directory on a tmpfs: gone after a boot
	gate     string // programs that count by themselves idle while it exists
	env      []string
	plain    *exec.Cmd
	restores int
	sleepers []*exec.Cmd
	before   leftovers
	used     map[string]bool // files on tmpfs that the tree ever used
}

// newRig makes the surroundings of one test, and takes them away at its end.
func newRig(t *testing.T, name string) *rig {
	t.Helper()
	needRoot(t)
	top, err := os.MkdirTemp("", "wakepoint-"+name+"-")
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{
		t: t, name: name, top: top, dir: filepath.Join(top, "work"), store: filepath.Join(top, "store"),
		shm: filepath.Join("/dev/shm", filepath.Base(top)), gate: filepath.Join(top, "gate"), before: look(), used: map[string]bool{},
	}
	r.env = append(os.Environ(), "WAKEPOINT_KEY="+filepath.Join(top, "key"), "WAKEPOINT_STORE="+r.store)
	t.Cleanup(r.close)
	for _, dir := range []string{r.dir, r.shm} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(top, 0o755); err != nil {
		t.Fatal(err)
	}
	return r
}

// row is what `ps -o json` says of a workload.
type row struct {
	Name            string     `json:"name"`
	State           string     `json:"state"`
	PID             int        `json:"pid"`
	KeeperPID       int        `json:"keeper_pid"`
	Generation      generation `json:"generation"`
	LostWorkSeconds float64    `json:"lost_work_seconds"`
}

// generation is a generation's number; in JSON it is "g412", or "" for none.
type generation uint64

func (g *generation) UnmarshalJSON(text []byte) error {
	s := strings.TrimPrefix(strings.Trim(string(text), `"`), "g")
	if s == "" || s == "null" || s == "-" {
		*g = 0
		return nil
	}
	n, err := strconv.ParseUint(s, 10, 64)
	*g = generation(n)
	return err
}

func (g generation) String() string { return "g" + strconv.FormatUint(uint64(g), 10) }

// command prepares the binary under test with the rig's store.
func (r *rig) command(args ...string) *exec.Cmd {
	cmd := exec.Command(session.bin, append([]string{"--store", r.store}, args...)...)
	cmd.Env, cmd.Dir = r.env, r.dir
	return cmd
}

// try runs a command of wakepoint to its end and returns what it printed.
func (r *rig) try(args ...string) (string, error) {
	cmd := r.command(args...)
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	cmd.WaitDelay = 5 * time.Second // a keeper may hold them still
	if err := cmd.Start(); err != nil {
		return "", err
	}
	timer := time.AfterFunc(2*patience, func() { cmd.Process.Kill() })
	err := cmd.Wait()
	if !timer.Stop() {
		err = fmt.Errorf("does not return")
	}
	if err != nil {
		err = fmt.Errorf("wakepoint %s: %w\n%s", strings.Join(args, " "), err, complaint.Bytes())
	}
	return out.String(), err
}

func (r *rig) must(args ...string) string {
	r.t.Helper()
	out, err := r.try(args...)
	if err != nil {
		r.t.Fatal(err)
	}
	return out
}

// start runs the program under protection, with options of `run`, and returns
// when its first generation is committed.
func (r *rig) start(options, argv []string) {
	r.t.Helper()
	if session.plain {
		r.startPlain(argv)
		return
	}
	args := append([]string{"run", "-d", "--name", r.name}, options...)
	out := r.must(append(append(args, "--"), argv...)...)
	if got := strings.TrimSpace(out); got != r.name {
		r.t.Fatalf("run -d printed %q, not the name %q", got, r.name)
	}
	r.waitRunning()
}

func (r *rig) startPlain(argv []string) {
	r.t.Helper()
	out, err := os.OpenFile(filepath.Join(r.top, "output"), os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
	if err != nil {
		r.t.Fatal(err)
	}
	defer out.Close()
	inside := []string{"--pid", "--ipc", "--fork", "--mount-proc", "--kill-child", "--", "sh", "-c", `"$@"; exit $?`, "sh"}
	cmd := exec.Command("unshare", append(inside, argv...)...)
	cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr = r.env, r.dir, out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	r.plain = cmd
	r.waitRunning()
}

// row is the workload's line of `ps`.
func (r *rig) row() (row, error) {
	if session.plain {
		return r.plainRow()
	}
	out, err := r.try("ps", "-o", "json")
	if err != nil {
		return row{}, err
	}
	var rows []row
	if err := json.Unmarshal([]byte(out), &rows); err != nil {
		return row{}, fmt.Errorf("ps -o json: %w: %s", err, out)
	}
	for _, w := range rows {
		if w.Name == r.name {
			return w, nil
		}
	}
	return row{}, fmt.Errorf("ps does not list %s", r.name)
}

func (r *rig) plainRow() (row, error) {
	init := childOf(r.plain.Process.Pid)
	if pid := childOf(init); pid != 0 {
		return row{Name: r.name, State: "running", PID: pid}, nil
	}
	return row{}, errors.New("not started yet")
}

// childOf returns the first child of a process, 0 when it has none.
func childOf(pid int) int {
	for _, candidate := range pids() {
		if p, err := readProcess(candidate); pid != 0 && err == nil && p.ppid == pid {
			return candidate
		}
	}
	return 0
}

// waitRunning waits until the workload runs and returns its line of `ps`.
func (r *rig) waitRunning() row {
	r.t.Helper()
	var w row
	eventually(r.t, patience, "ps: running", func() (err error) {
		if w, err = r.row(); err == nil && w.State != "running" {
			err = fmt.Errorf("state %s", w.State)
		}
		if w.State == "failed" || w.State == "finished" {
			r.t.Fatalf("the workload has %s", w.State)
		}
		if err == nil && (w.PID <= 0 || unix.Kill(w.PID, 0) != nil) {
			err = fmt.Errorf("pid %d is no process", w.PID)
		}
		return err
	})
	return w
}

// checkpoint takes a generation now and returns its number, which is
// committed. In a plain run it does nothing.
func (r *rig) checkpoint() generation {
	r.t.Helper()
	if session.plain {
		return 0
	}
	var g generation
	out := strings.TrimSpace(r.must("checkpoint", r.name))
	if err := g.UnmarshalJSON([]byte(out)); err != nil || g == 0 || !strings.HasPrefix(out, "g") {
		r.t.Fatalf("checkpoint printed %q", out)
	}
	return g
}

// newest returns the newest committed generation.
func (r *rig) newest() generation {
	r.t.Helper()
	if session.plain {
		return 0
	}
	var list []struct{ Generation generation }
	if err := json.Unmarshal([]byte(r.must("log", r.name, "-o", "json")), &list); err != nil || len(list) == 0 {
		r.t.Fatalf("log -o json: %d generations, %v", len(list), err)
	}
	return list[0].Generation
}

// logs returns what the program printed until now.
func (r *rig) logs() (string, error) {
	if session.plain {
		text, err := os.ReadFile(filepath.Join(r.top, "output"))
		return string(text), err
	}
	return r.try("logs", r.name)
}

// tree lists the processes of the workload.
func (r *rig) tree() []process {
	r.t.Helper()
	w := r.waitRunning()
	list, err := tree(w.PID)
	if err != nil {
		r.t.Fatal(err)
	}
	return list
}

// recover brings the workload back and returns the generation that it was
// restored from, which is the newest that `recover` says it has; 0 when it was
// started afresh.
func (r *rig) recover() generation {
	r.t.Helper()
	if session.calm {
		return 0
	}
	out := r.must("recover", "-o", "json")
	var rows []struct {
		Name       string
		Generation generation
		Words      string
	}
	if err := json.Unmarshal([]byte(out), &rows); err != nil || len(rows) != 1 || rows[0].Name != r.name {
		r.t.Fatalf("recover -o json: %v: %s", err, out)
	}
	r.restores++
	r.waitRunning()
	return rows[0].Generation
}

// close ends the workload, takes everything away and says what is left.
func (r *rig) close() {
	r.wake()
	if session.plain {
		if r.plain != nil {
			if list, err := tree(childOf(r.plain.Process.Pid)); err == nil {
				r.temporaries(list)
			}
			r.plain.Process.Kill()
			r.plain.Wait()
		}
	} else {
		r.end()
	}
	r.assertNothingLeft()
	for path := range r.used { // what a killed program does not clear away itself
		if err := os.RemoveAll(path); err != nil {
			r.t.Error(err)
		}
	}
	if r.t.Failed() && session.keep {
		r.t.Logf("kept: %s %s", r.top, r.shm)
		return
	}
	for _, dir := range []string{r.top, r.shm} {
		if err := os.RemoveAll(dir); err != nil {
			r.t.Error(err)
		}
	}
}

// assertNothingLeft says what the workload has left on the host, when it is
// still there after a while.
func (r *rig) assertNothingLeft() {
	var left []string
	for range 20 {
		if left = r.before.missing(look(), r.top, r.shm); len(left) == 0 {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	r.t.Errorf("left over: %q", left)
}

// end stops and removes the workload by the command line; what does not end so
// is killed, which is an error.
func (r *rig) end() {
	if r.t.Failed() {
		r.explain()
	}
	var inside []process
	if w, err := r.row(); err == nil {
		if w.State == "running" {
			if inside, err = tree(w.PID); err == nil {
				r.temporaries(inside)
			}
			if _, err := r.try("stop", r.name); err != nil {
				r.t.Error(err)
			}
		}
		if _, err := r.try("rm", "--yes", r.name); err != nil {
			r.t.Error(err)
		}
	} else if len(keepers()) > 0 {
		r.t.Error(err)
	}
	deadline := time.Now().Add(5 * time.Second)
	for len(keepers()) > 0 && time.Now().Before(deadline) {
		time.Sleep(20 * time.Millisecond)
	}
	inside = slices.DeleteFunc(inside, func(p process) bool {
		now, err := readProcess(p.pid)
		return err != nil || now.nspid != p.nspid || now.name != p.name || ended(p.pid)
	})
	if left := append(keepers(), inside...); len(left) > 0 {
		r.t.Errorf("left over: processes %v", left)
		if grips, err := hold(left); err == nil {
			killAll(grips)
			release(grips)
		}
	}
}

// explain prints what is known when a test has failed.
func (r *rig) explain() {
	for _, args := range [][]string{{"ps"}, {"status", r.name}, {"log", r.name}} {
		out, err := r.try(args...)
		r.t.Logf("wakepoint %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	if out, err := r.logs(); err == nil {
		r.t.Logf("the end of its output:\n%s", out[max(0, len(out)-600):])
	}
	for _, p := range keepers() {
		r.t.Logf("process %d, parent %d: %s", p.pid, p.ppid, p.name)
	}
}
