package keeper

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/wakepoint/wakepoint/internal/api"
)

// holdKeeper makes a keeper of a test stop before it does anything, when the test has
// asked for it by a file beside the store. The file then has its PID.
func holdKeeper(args []string) {
	a, err := parseArgs(args)
	if err != nil || a.StoreDir == "" || os.Rename(a.StoreDir+".hold", a.StoreDir+".held") != nil {
		return
	}
	if os.WriteFile(a.StoreDir+".held", []byte(strconv.Itoa(os.Getpid())), 0o600) == nil {
		_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
	}
}

// changing are the system calls by which files are put back.
var changing = []int{
	unix.SYS_OPENAT2, unix.SYS_MKDIRAT, unix.SYS_FTRUNCATE, unix.SYS_PWRITE64, unix.SYS_FCHMOD, unix.SYS_FCHOWN, unix.SYS_FCHOWNAT, unix.SYS_UTIMENSAT,
	unix.SYS_RENAMEAT, unix.SYS_RENAMEAT2, unix.SYS_LINKAT, unix.SYS_SYMLINKAT, unix.SYS_MKNODAT, unix.SYS_UNLINKAT, unix.SYS_FSYNC, unix.SYS_SYNCFS,
}

// seized traces all threads of a stopped process and lets it go on.
func seized(t *testing.T, pid int) (entered map[int]bool) {
	t.Helper()
	const options = unix.PTRACE_O_TRACECLONE | unix.PTRACE_O_TRACESYSGOOD | unix.PTRACE_O_EXITKILL
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		t.Fatal(err)
	}
	entered = map[int]bool{}
	for _, e := range list {
		tid, _ := strconv.Atoi(e.Name())
		if _, _, e := unix.RawSyscall6(unix.SYS_PTRACE, unix.PTRACE_SEIZE, uintptr(tid), 0, options, 0, 0); e != 0 {
			t.Fatal("seize: ", e)
		}
		entered[tid] = false
	}
	_ = unix.Kill(pid, unix.SIGCONT)
	return entered
}

// cutAt traces a stopped keeper (ptrace(2)) and kills it where it is about to
// do the nth call of changing, counted from the first openat2, with which a
// put-back begins. n == 0: where it flushes for the second time, at the end of it.
// It returns how many calls there were.
func cutAt(t *testing.T, pid, n int) (count int) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	entered := seized(t, pid) // by thread: it is in a call
	began, flushes, killed := false, 0, false
	call := func(tid int) {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/syscall", pid, tid))
		nr, err := strconv.Atoi(strings.SplitN(string(text), " ", 2)[0])
		if began = began || nr == unix.SYS_OPENAT2; err != nil || !began || !slices.Contains(changing, nr) {
			return
		}
		count++
		if nr == unix.SYS_SYNCFS {
			flushes++
		}
		if !killed && (count == n || n == 0 && flushes == 2) {
			killed = true
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
	for end := time.Now().Add(time.Minute); len(entered) > 0; {
		idle := true
		for tid := range entered {
			var ws unix.WaitStatus
			got, err := unix.Wait4(tid, &ws, unix.WALL|unix.WNOHANG, nil)
			if err == nil && got == 0 {
				continue
			}
			idle = false
			if err != nil || !ws.Stopped() {
				delete(entered, tid)
				continue
			}
			signal := 0
			switch s := ws.StopSignal(); {
			case s == unix.SIGTRAP|0x80:
				if entered[tid] = !entered[tid]; entered[tid] && !killed {
					call(tid)
				}
			case ws.TrapCause() == unix.PTRACE_EVENT_CLONE:
				if id, err := unix.PtraceGetEventMsg(tid); err == nil {
					entered[int(id)] = false
				}
			case int(ws)>>16 != 0: // another event
			default:
				signal = int(s)
			}
			_ = unix.PtraceSyscall(tid, signal)
		}
		if idle {
			time.Sleep(20 * time.Microsecond)
		}
		if time.Now().After(end) {
			_ = unix.Kill(pid, unix.SIGKILL)
			t.Fatal("the keeper did not come to its end")
		}
	}
	if !killed {
		t.Fatalf("the keeper did only %d calls of %d", count, n)
	}
	return count
}

// agreeing is a program of which all files say what its memory says; where they
// do not it notes that. It goes from a to b when there is a file "go".
const agreeing = `: %[1]s; cd %[2]s/data
all() {
	for i in 1 2 3 4 5 6 7 8; do mkdir -p d$i; echo $v > d$i/text; echo $v > d$i/$v; ln -f d$i/text d$i/other; ln -sf $v d$i/link; done
}
v=a
while [ -z "%[3]s" ]; do
	for i in 1 2 3 4 5 6 7 8; do
		read x < d$i/text; read y < d$i/link
		[ "$x$y" = $v$v ] || echo "$v, and d$i is $x $y" >> ../wrong
	done
	if [ -e ../go ]; then rm ../go d*/$v; v=b; all; : > ../gone; fi
	sleep 0.01
done
all`

// cutter is a workload that is made to be cut.
type cutter struct {
	*testing.T
	s     Site
	dir   string
	mark  string
	trees map[string]map[string]string // what each generation has
	gens  []string                     // their names
}

func newCutter(t *testing.T, onCrash string) *cutter {
	c := &cutter{T: t, s: site(t), dir: t.TempDir(), trees: map[string]map[string]string{}}
	c.mark = "wakepoint-test-cut-" + strconv.Itoa(os.Getpid()) + onCrash
	if err := os.Mkdir(c.dir+"/data", 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("sh", "-c", fmt.Sprintf(agreeing, c.mark, c.dir, "only write")).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	spec := shell(fmt.Sprintf(agreeing, c.mark, c.dir, ""))
	spec.Name = "web"
	out := launch(t, c.s, spec, api.Policy{EverySeconds: 3600, OnCrash: onCrash, GiveUp: api.OnFresh, Data: []string{c.dir + "/data"}})
	c.has(out.Status.Generation)
	if err := os.WriteFile(c.dir+"/go", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the program has gone on", func() bool { return fileThere(c.dir + "/gone") })
	eventually(t, "a checkpoint", func() bool { // on a busy machine a freeze may be too slow
		g, err := Checkpoint(context.Background(), c.s, "web", "")
		if err == nil {
			c.has(g.Generation)
		}
		return err == nil
	})
	return c
}

// has notes what a generation has.
func (c *cutter) has(g string) { c.trees[g], c.gens = c.tree(), append(c.gens, g) }

func fileThere(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// tree is all that the program has in its directory.
func (c *cutter) tree() map[string]string {
	out := map[string]string{}
	err := filepath.WalkDir(c.dir+"/data", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		st, err := os.Lstat(path)
		if err != nil {
			return err
		}
		text, _ := os.ReadFile(path)
		to, _ := os.Readlink(path)
		out[path] = fmt.Sprintf("%v %q %q", st.Mode(), text, to)
		if st.Mode().IsRegular() || st.IsDir() {
			out[path] += " " + st.ModTime().String()
		}
		return nil
	})
	if err != nil {
		c.Fatal(err)
	}
	return out
}

// spoil makes of the files what no generation has.
func (c *cutter) spoil() {
	d := c.dir + "/data"
	err := errors.Join(os.RemoveAll(d+"/d1"), os.WriteFile(d+"/d1", nil, 0o600), os.RemoveAll(d+"/d2/text"), os.Mkdir(d+"/d2/text", 0o700),
		os.Truncate(d+"/d3/text", 0), os.RemoveAll(d+"/d4"), os.MkdirAll(d+"/d9/e", 0o700), os.WriteFile(d+"/d9/e/f", nil, 0o600),
		os.RemoveAll(d+"/d5/link"), os.Chmod(d+"/d6/text", 0o400), os.WriteFile(d+"/d7/text", []byte("longer"), 0o600), os.RemoveAll(d+"/d8/other"))
	if err != nil {
		c.Fatal(err)
	}
}

// cut begins to bring the workload up, and kills who does it at a call.
func (c *cutter) cut(n int, bring func() error) (count int) {
	c.Helper()
	killAll(c.T, c.s, "web")
	eventually(c.T, "nobody answers", func() bool {
		v, err := StatusOf(context.Background(), c.s, "web")
		return err == nil && v.KeeperPID == 0
	})
	c.spoil()
	_ = os.Remove(c.s.StoreDir + ".held")
	if err := os.WriteFile(c.s.StoreDir+".hold", nil, 0o600); err != nil {
		c.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- bring() }()
	pid := 0
	eventually(c.T, "a keeper that waits", func() bool {
		select {
		case err := <-done:
			c.Fatalf("call %d: no keeper: %v", n, err)
		default:
		}
		text, _ := os.ReadFile(c.s.StoreDir + ".held")
		pid, _ = strconv.Atoi(string(text))
		state, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		return pid != 0 && strings.Contains(string(state), ") T ")
	})
	guard := parentOf(pid)
	_ = syscall.Kill(guard, syscall.SIGSTOP) // it would start another one
	count = cutAt(c.T, pid, n)
	if running := processesWith(c.T, c.mark); len(running) != 0 {
		c.Errorf("call %d: %v run on files that are half put back", n, running)
	}
	w, err := c.s.workload("web")
	if err != nil {
		c.Fatal(err)
	}
	if rec, err := readRecords(w); err != nil || rec.run.PutBack == 0 {
		c.Errorf("call %d: it is not known that files were being put back: %+v %v", n, rec.run, err)
	}
	_ = syscall.Kill(guard, syscall.SIGKILL)
	if err := <-done; err == nil {
		c.Errorf("call %d: it came up", n)
	}
	return count
}

// whole says that the workload runs from a generation, and has its files.
func (c *cutter) whole(n int, g string) {
	c.Helper()
	v, err := StatusOf(context.Background(), c.s, "web")
	if err != nil || v.State != api.Running || v.Recovery == nil || g != "" && v.Recovery.Generation != g {
		c.Fatalf("call %d: %+v %+v %v, want %s", n, v, v.Recovery, err, g)
	}
	want := c.trees[v.Recovery.Generation]
	if d := cmp.Diff(want, c.tree()); want == nil || d != "" {
		c.Errorf("call %d: not the files of %s: %s", n, v.Recovery.Generation, d)
	}
	if text, err := os.ReadFile(c.dir + "/wrong"); err == nil {
		c.Fatalf("call %d: the program found: %s", n, text)
	}
}

// A keeper is killed at any call with which it puts files back: what is brought
// up after that has the files and the memory of one generation, whoever asks for
// it, and nothing ran in between.
func TestRealCutWhilePuttingBack(t *testing.T) {
	for first, onCrash := range []string{api.OnRestore, api.OnFresh} {
		t.Run(onCrash, func(t *testing.T) {
			c := newCutter(t, onCrash)
			ctx := context.Background()
			restore := func(g string) error {
				_, err := Restore(ctx, c.s, "web", RestoreOptions{Generation: g}, nil)
				return err
			}
			again := func() error {
				outs, err := Recover(ctx, c.s, nil)
				if err == nil && (len(outs) != 1 || outs[0].Err != nil) {
					err = fmt.Errorf("%+v", outs)
				}
				return err
			}
			bring := func(n int, g string, f func() error) {
				t.Helper()
				if err := f(); err != nil {
					t.Fatalf("call %d: %v", n, err)
				}
				c.whole(n, g)
			}
			calls := c.cut(0, func() error { return restore(c.gens[1]) })
			bring(0, c.gens[1], func() error { return restore(c.gens[1]) })
			const points = 24 // half of them with each policy
			if calls < points {
				t.Fatalf("only %d calls", calls)
			}
			for i := first; i < points; i += 2 {
				n, g := 1+i*(calls-1)/points, c.gens[i/4%2]
				c.cut(n, func() error { return restore(g) })
				if i%4 < 2 { // a person's restore ends the incident
					bring(n, g, func() error { return restore(g) })
					continue
				}
				if i%8 > 4 {
					c.cut(n, again)
				}
				bring(n, "", again)
			}
			t.Logf("%d calls", calls)
		})
	}
}
