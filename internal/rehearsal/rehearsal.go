// Package rehearsal restores a generation in a sandbox, beside the workload that
// runs on, and sees whether it lives. Outside, Spawn starts a process for it;
// that process calls Run.
package rehearsal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wakepoint/wakepoint/internal/engine"
	"github.com/wakepoint/wakepoint/internal/files"
	"github.com/wakepoint/wakepoint/internal/generation"
	"github.com/wakepoint/wakepoint/internal/health"
	"github.com/wakepoint/wakepoint/internal/policy"
	"github.com/wakepoint/wakepoint/internal/sandbox"
)

const (
	checkEvery = time.Second     // between health checks
	checkTime  = 2 * time.Second // in which one must be answered
	leftMin    = 1 << 20         // with less than these bytes left for files, a death says nothing,
	leftShare  = 8               // nor with less than an eighth of them at any time
	lookEvery  = 2 * time.Millisecond
	largeShare = 16      // files of a sixteenth of the bytes are cloned, where that can be done
	saidMax    = 4 << 10 // of what a rehearsal that fails says
	slackMin   = 30 * time.Second
	readRate   = 100 << 20 // bytes of files a second, at least
)

// Task says what is rehearsed.
type Task struct {
	Source  engine.Source
	Dir     string       // the workload's directory
	Home    string       // what it was when the generation was made
	Output  string       // the file in Dir that takes what the program prints
	Scratch string       // an empty directory
	Budget  int64        // bytes of files that may be written or changed
	Files   int64        // bytes of files that the generation has, without holes
	Health  health.Check // the zero Check: only whether it survives
	Checked bool         // Health is asked
	For     time.Duration
	Helper  string // program of the init
}

// Result is what came of it. Refused: it could not be rehearsed, which says
// nothing of the generation.
type Result struct {
	Fate  policy.Fate   `json:"fate"`
	Lived time.Duration `json:"lived"`
	Why   string        `json:"why,omitempty"`
	Tied  bool          `json:"tied,omitempty"` // some of its files could not be renamed or deleted
}

// refused is the result of what could not be rehearsed.
func refused(err error) Result { return Result{Fate: policy.Refused, Why: err.Error()} }

// Spawn has another process of this program rehearse, and returns what that
// says. When ctx ends, so does all of it.
func Spawn(ctx context.Context, program string, args ...string) Result {
	r, w, err := os.Pipe()
	if err != nil {
		return refused(err)
	}
	defer r.Close()
	line, end, err := os.Pipe() // a line to us: it ends when this process does
	if err != nil {
		w.Close()
		return refused(err)
	}
	defer end.Close()
	said := &tail{}
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir, cmd.Stdin, cmd.Stderr, cmd.ExtraFiles = "/", line, said, []*os.File{w}
	cmd.SysProcAttr = sandbox.Attr()
	cmd.WaitDelay = time.Second
	err = cmd.Start()
	w.Close()
	line.Close()
	if err != nil {
		return refused(fmt.Errorf("start a sandbox: %w", err))
	}
	var res Result
	answer, rerr := io.ReadAll(io.LimitReader(r, 1<<20))
	werr := cmd.Wait()
	if ctx.Err() != nil {
		return refused(ctx.Err())
	}
	if jerr := json.Unmarshal(answer, &res); jerr != nil || res.Fate == "" {
		return refused(fmt.Errorf("the sandbox ended without an answer: %w: %s", errors.Join(rerr, werr, jerr), said))
	}
	return res
}

// tail keeps the end of what is written to it.
type tail struct{ b []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.b = append(t.b, p...)
	t.b = append(t.b[:0], t.b[max(0, len(t.b)-saidMax):]...)
	return len(p), nil
}

func (t *tail) String() string { return strings.TrimSpace(strings.ToValidUTF8(string(t.b), "?")) }

// answerFD is where a process that Spawn started writes its Result.
const answerFD = 3

// Answer returns a function that tells Spawn what came of it. It must be called
// before the process is sealed; from then on this process ends when the one that
// started it does.
func Answer() func(Result) {
	w := os.NewFile(answerFD, "answer")
	unix.CloseOnExec(answerFD)
	unix.CloseOnExec(0)
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(1)
	}()
	return func(r Result) {
		_ = json.NewEncoder(w).Encode(r)
		_ = w.Close()
	}
}

// Run seals this process, which Spawn has started, and rehearses.
func Run(ctx context.Context, t Task) Result {
	in, err := generation.Stand(t.Source, t.Budget/largeShare)
	if err != nil {
		return refused(err)
	}
	defer in.Close()
	if t.Files-in.Size() > t.Budget { // nothing is read in vain
		return refused(t.large())
	}
	room, err := sandbox.Enter(sandbox.Options{Scratch: t.Scratch, Budget: t.Budget, Over: in.Clones()})
	if err != nil {
		return refused(err)
	}
	in.Only(room.Over)
	g := look(ctx, room, in)
	res, err := t.rehearse(g.ctx, room, in)
	g.end()
	short := g.least < max(leftMin, t.Budget/leftShare)
	switch {
	case g.short != nil:
		return refused(g.short)
	case err != nil && short, errors.Is(err, syscall.ENOSPC):
		return refused(fmt.Errorf("%w: %w", t.large(), err))
	case err != nil:
		return refused(err)
	case res.Fate == policy.Died && short:
		return refused(fmt.Errorf("it wrote more than the %d MiB that there are for files, or nearly so", t.Budget>>20))
	}
	if err := in.Disturbed(res.Fate == policy.Died); err != nil {
		return refused(err)
	}
	res.Tied = len(in.Clones()) > 0
	return res
}

// large says that there is no room for copies.
func (t Task) large() error {
	return fmt.Errorf("its files would have to be copied, and are more than %d MiB", t.Budget>>20)
}

// rehearse restores the generation. An error says that it could not be restored
// here.
func (t Task) rehearse(ctx context.Context, room *sandbox.Room, in *files.StandIns) (res Result, err error) {
	if err := t.sealed(room); err != nil {
		return res, err
	}
	for _, dir := range []string{t.Dir, t.Home} { // what the run has printed is not copied
		name := filepath.Join(dir, t.Output)
		if _, err := os.Lstat(name); err == nil && dir != "" {
			if err := errors.Join(os.Remove(name), os.WriteFile(name, nil, 0o600)); err != nil {
				return res, err
			}
		}
	}
	if _, err := generation.PutBackBeside(t.Source, in); err != nil {
		return res, fmt.Errorf("put its files back: %w", err)
	}
	o := engine.RestoreOptions{Helper: t.Helper, Sealed: true}
	if t.Home != "" && t.Home != t.Dir {
		o.Replace = map[string]string{t.Home: t.Dir}
	}
	if o.Record, err = os.CreateTemp(t.Dir, ".rehearsal-"); err != nil {
		return res, err
	}
	defer o.Record.Close()
	shelved, err := generation.Shelve(t.Source, &o, t.Dir, t.Home)
	if err != nil {
		return res, err
	}
	re, err := engine.Restore(ctx, t.Source, o)
	shelved(err == nil)
	if err != nil {
		return res, err
	}
	began := time.Now()
	tree, err := re.Run()
	if errors.Is(err, os.ErrProcessDone) { // it was faster than we are
		return judged(began, o.Record), nil
	}
	if err != nil {
		return res, err
	}
	defer tree.Close()
	return t.watch(ctx, tree, o.Record), nil
}

// sealed refuses what would leave the sandbox, or could not be written in it.
func (t Task) sealed(room *sandbox.Room) error {
	x, err := generation.Index(t.Source)
	if err != nil || x == nil {
		return err
	}
	for i := range x.Entries {
		if path := x.Entries[i].Path; !room.Writable(path) {
			return fmt.Errorf("%s lies on a file system that cannot be overlaid (%s)", path, strings.Join(room.Fixed, ", "))
		}
	}
	return nil
}

// watch follows the tree until its time is over.
func (t Task) watch(ctx context.Context, tree *engine.Tree, record *os.File) Result {
	began := time.Now()
	if tree.Terminal() != nil {
		go func() { _, _ = io.Copy(io.Discard, tree.Terminal()) }()
	}
	over := time.NewTimer(t.For)
	defer over.Stop()
	tick := time.NewTicker(checkEvery)
	defer tick.Stop()
	pulse, well := policy.Pulse{Since: began}, error(nil)
	command := tree.CommandDone()
	for {
		select {
		case <-ctx.Done():
			return refused(ctx.Err())
		case <-command:
			if r := judged(began, record); r.Fate == policy.Died {
				return r
			}
			command = nil // what it has left goes on
		case <-tree.Done():
			return judged(began, record)
		case <-over.C:
			if t.Checked && !pulse.Well {
				over.Reset(checkEvery) // it is well sooner or later, or ill
				continue
			}
			return Result{Fate: policy.Lived, Lived: time.Since(began)}
		case <-tick.C:
			if !t.Checked {
				continue
			}
			bounded, end := context.WithTimeout(ctx, checkTime)
			well = t.Health.Run(bounded)
			end()
			var ill bool
			if pulse, ill = pulse.Answer(time.Now(), well == nil); ill {
				return died(began, fmt.Sprintf("failed %d health checks: %v", pulse.Failed, well))
			}
		}
	}
}

// judged says what the end of the command means.
func judged(began time.Time, record *os.File) Result {
	lived := time.Since(began)
	if end, words := endOf(record); !end.Clean() {
		return Result{Fate: policy.Died, Lived: lived, Why: "ended with " + words}
	}
	return Result{Fate: policy.Lived, Lived: lived, Why: "it finished"}
}

func died(began time.Time, why string) Result {
	return Result{Fate: policy.Died, Lived: time.Since(began), Why: why}
}

// statusWait is how long an init may take to record the command's end.
const statusWait = 2 * time.Second

// endOf says how the command ended. One of which nobody knows is a death: here
// somebody looked.
func endOf(record *os.File) (policy.End, string) {
	for limit := time.Now().Add(statusWait); time.Now().Before(limit); time.Sleep(2 * time.Millisecond) {
		st, err := engine.ReadRecord(record)
		if err != nil || !st.Ended {
			continue
		}
		ws := syscall.WaitStatus(st.Wait)
		if ws.Signaled() {
			return policy.End{Known: true, Signal: int(ws.Signal())}, unix.SignalName(ws.Signal())
		}
		return policy.End{Known: true, Code: ws.ExitStatus()}, fmt.Sprintf("exit code %d", ws.ExitStatus())
	}
	return policy.End{Known: true, Code: 1}, "an end that nobody saw"
}

// Means is what the host can spare for a rehearsal.
func Means() (m policy.Means, err error) {
	text, err := os.ReadFile("/proc/meminfo")
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) >= 2 && f[0] == "MemAvailable:" {
			n, _ := strconv.ParseInt(f[1], 10, 64)
			m.Memory = n << 10
		}
	}
	load, lerr := os.ReadFile("/proc/loadavg")
	if f := strings.Fields(string(load)); len(f) > 0 {
		n, _ := strconv.ParseFloat(f[0], 64)
		m.Load = n / float64(runtime.NumCPU())
	}
	return m, errors.Join(err, lerr)
}

// budgetMax is the most that a rehearsal may write or change of files, in bytes.
const budgetMax = 1 << 30

// Budget is how much a rehearsal may write or change of files.
func Budget(m policy.Means) int64 { return min(budgetMax, max(m.Memory/4, 1<<20)) }

// Affords says whether a generation may be rehearsed now that has so many bytes,
// of which files are some: of these no more lie in memory than there may.
func Affords(m policy.Means, bytes, files int64) bool {
	return m.Affords(bytes - max(0, files-Budget(m)))
}

// Slack is how much longer than it is to live a rehearsal may take, to read the
// generation and its files, to restore, and to be well.
func Slack(files int64) time.Duration {
	return slackMin + time.Duration(files/readRate)*time.Second
}
