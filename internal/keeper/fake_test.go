package keeper

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wakepoint/wakepoint/internal/engine"
	"github.com/wakepoint/wakepoint/internal/files"
	"github.com/wakepoint/wakepoint/internal/health"
	"github.com/wakepoint/wakepoint/internal/notify"
	"github.com/wakepoint/wakepoint/internal/store"
)

// world is an engine and a store in memory. Every step can be made to fail.
type world struct {
	ill    func() error // of health checks; nil: always well
	mu     sync.Mutex   // guards everything
	dir    string
	steps  []string
	fail   func(n int, step string) error // nil: nothing fails
	nextPI int
	trees  []*fakeTree
	orphan engine.Handle

	locked    bool
	records   map[string][]byte
	gens      map[store.Generation]*fakeGen
	damage    map[store.Generation]bool
	tried     store.Generation
	genSize   int64                      // of each generation on the disk
	free      int64                      // per cent of the disk
	slow      atomic.Int64               // how long a commit takes, ns
	slowPut   atomic.Int64               // how long it takes to give a section something, ns
	refuse    map[store.Generation]error // generations that cannot be restored
	poison    map[store.Generation]bool  // generations whose trees die at once
	rehearsed int
	onStage   int        // rehearsals that go on
	crowded   bool       // there was more than one
	draft     *fakeDraft // the last one that was begun
	whole     int        // dumps that inherited nothing
	scrubs    int
	lasting   bool       // a scrub goes on until it is ended
	ended     bool       // it was
	ear       *fakeEar   // the last one
	resumes   bool       // the next ones go on with its socket
	env       []string   // of the last start
	watch     *fakeWatch // the last one
	blind     error      // nothing can be watched
	partly    bool       // watches begin after their tree

	goingDown bool // the whole machine
}

type fakeGen struct {
	info  store.Info
	blobs map[string][]byte
	pages map[string]map[int64][]byte
}

var errFake = errors.New("injected")

func newWorld(dir string) *world {
	return &world{dir: dir, free: 100, nextPI: 1000, records: map[string][]byte{}, gens: map[store.Generation]*fakeGen{},
		damage: map[store.Generation]bool{}, refuse: map[store.Generation]error{}, poison: map[store.Generation]bool{}}
}

// step counts a step and says whether it fails. The caller holds mu.
func (w *world) step(name string) error {
	n := len(w.steps)
	w.steps = append(w.steps, name)
	if w.fail != nil {
		return w.fail(n, name)
	}
	return nil
}

func (w *world) failWith(f func(n int, step string) error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fail = f
}

// living returns the trees that have not ended.
func (w *world) living() []*fakeTree {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []*fakeTree
	for _, t := range w.trees {
		if !t.over {
			out = append(out, t)
		}
	}
	return out
}

func (w *world) generations() []store.Generation {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Sorted(maps.Keys(w.gens))
}

// fakeTree is a program: its state is a number.
type fakeTree struct {
	w       *world
	handle  engine.Handle
	state   int
	record  *os.File
	frozen  bool
	over    bool
	isRun   bool // false: built, and not yet running
	done    chan struct{}
	command chan struct{}
	status  engine.Status
	signals []int
	onTerm  bool // ends by itself when asked
	dumped  bool // waits for Committed or Abandoned
}

func (w *world) newTree(state int, record *os.File) *fakeTree {
	w.nextPI += 2
	t := &fakeTree{w: w, state: state, record: record, done: make(chan struct{}), command: make(chan struct{}),
		handle: engine.Handle{BootID: "boot", Init: engine.PID(w.nextPI), Command: engine.PID(w.nextPI + 1)}}
	w.trees = append(w.trees, t)
	return t
}

// end ends the tree. The caller holds mu.
func (t *fakeTree) end(wait uint32) {
	if t.over {
		return
	}
	t.over, t.frozen = true, false
	t.commandEnd(wait)
	close(t.done)
}

func (t *fakeTree) commandEnd(wait uint32) {
	if t.status.Ended {
		return
	}
	t.status = engine.Status{Ended: true, Wait: wait}
	if t.record != nil {
		b := []byte{byte(wait), byte(wait >> 8), byte(wait >> 16), byte(wait >> 24), 1, 0, 0, 0}
		_, _ = t.record.WriteAt(b, 0)
	}
	close(t.command)
}

// exit is the program's own end, as wait(2) tells it.
func (t *fakeTree) exit(wait uint32) {
	t.w.mu.Lock()
	defer t.w.mu.Unlock()
	t.end(wait)
}

// vanish is the end of everything in a power cut.
func (w *world) vanish() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, t := range w.trees {
		t.record = nil
		t.end(9)
	}
}

func (t *fakeTree) set(n int) {
	t.w.mu.Lock()
	defer t.w.mu.Unlock()
	t.state = n
}

func (w *world) Start(ctx context.Context, o engine.StartOptions) (tree, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.step("start"); err != nil {
		return nil, err
	}
	if o.Argv[0] == "/missing" {
		return nil, &engine.ExecError{Path: o.Argv[0], Err: fs.ErrNotExist}
	}
	w.env = o.Env
	t := w.newTree(0, dup(o.Record))
	t.isRun = true
	return t, nil
}

// fakeWatch is a watch that is told what was written.
type fakeWatch struct {
	w       *world
	written []files.Written
	notes   []string
	marks   int
	over    bool
}

func (w *world) Watch(h engine.Handle, except []string) (watch, bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.blind != nil {
		return nil, false, w.blind
	}
	w.watch = &fakeWatch{w: w}
	return w.watch, !w.partly, nil
}

func (f *fakeWatch) Mark() error { f.marks++; return nil }

func (f *fakeWatch) Collect() *files.Batch {
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	return &files.Batch{Files: slices.Clone(f.written)}
}

func (f *fakeWatch) Forget(b *files.Batch) {
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	f.written = f.written[len(b.Files):]
}

func (f *fakeWatch) Notes() []string { return f.notes }
func (f *fakeWatch) Close() error    { f.over = true; return nil }
func (f *fakeWatch) End() error      { return f.Close() }

// dup stands for the init's own descriptor.
func dup(f *os.File) *os.File {
	g, err := os.OpenFile(f.Name(), os.O_RDWR, 0)
	if err != nil {
		panic(err)
	}
	return g
}

func (w *world) Open(ctx context.Context, h engine.Handle) (tree, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.step("open"); err != nil {
		return nil, err
	}
	for _, t := range w.trees {
		if t.handle == h && !t.over {
			return t, nil
		}
	}
	return nil, os.ErrProcessDone
}

func (w *world) HandleOf(pid engine.PID) (engine.Handle, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, t := range w.trees {
		if t.handle.Command == pid && !t.over {
			return t.handle, nil
		}
	}
	return engine.Handle{}, os.ErrProcessDone
}

func (w *world) Alive(h engine.Handle) bool {
	_, err := w.HandleOf(h.Command)
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, t := range w.trees {
		if t.handle.Command == h.Command && h.Init == 0 && t.status.Ended {
			return false // the command alone is asked for
		}
	}
	return h.Command != 0 && err == nil
}

func (w *world) Orphan(string) (engine.Handle, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.orphan.Init == 0 {
		return engine.Handle{}, os.ErrProcessDone
	}
	return w.orphan, nil
}

func (w *world) Restore(ctx context.Context, s engine.Source, o engine.RestoreOptions) (restored, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.step("restore"); err != nil {
		return nil, err
	}
	g := s.(*fakeReader).g
	if err := w.refuse[g.info.Generation]; err != nil {
		return nil, err
	}
	n, err := strconv.Atoi(string(g.blobs["state"]))
	if err != nil {
		return nil, err
	}
	t := w.newTree(n, dup(o.Record))
	return &fakeRestored{t, g}, nil
}

type fakeRestored struct {
	t *fakeTree
	g *fakeGen
}

func (r *fakeRestored) Handle() engine.Handle { return r.t.handle }
func (r *fakeRestored) Resets() engine.Resets { return engine.Resets{} }

func (r *fakeRestored) Run() (tree, error) {
	w := r.t.w
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.step("run"); err != nil {
		return nil, err
	}
	r.t.isRun = true
	if w.poison[r.g.info.Generation] {
		r.t.end(11)
	}
	return r.t, nil
}

func (r *fakeRestored) Kill() error { r.t.exit(9); return nil }

func (t *fakeTree) Handle() engine.Handle          { return t.handle }
func (t *fakeTree) Terminal() *os.File             { return nil }
func (t *fakeTree) Done() <-chan struct{}          { return t.done }
func (t *fakeTree) CommandDone() <-chan struct{}   { return t.command }
func (t *fakeTree) Close() error                   { return nil }
func (t *fakeTree) Written() ([]files.Open, error) { return nil, nil }
func (t *fakeTree) Committed()                     { t.dumped = false }
func (t *fakeTree) Abandoned()                     { t.dumped = false }
func (t *fakeTree) Kill(ctx context.Context) error { t.exit(9); return nil }

func (t *fakeTree) Status() (engine.Status, error) {
	t.w.mu.Lock()
	defer t.w.mu.Unlock()
	return t.status, nil
}

func (t *fakeTree) Signal(sig int) error {
	t.w.mu.Lock()
	defer t.w.mu.Unlock()
	t.signals = append(t.signals, sig)
	if t.onTerm {
		t.end(uint32(sig))
	}
	return nil
}

func (t *fakeTree) Freeze(ctx context.Context) (frozen, error) {
	t.w.mu.Lock()
	defer t.w.mu.Unlock()
	if err := t.w.step("freeze"); err != nil {
		return nil, err
	}
	if t.over {
		return nil, os.ErrProcessDone
	}
	if t.dumped {
		panic("freeze before Committed or Abandoned")
	}
	t.frozen = true
	return &fakeFrozen{t, time.Now()}, nil
}

type fakeFrozen struct {
	t     *fakeTree
	since time.Time
}

func (f *fakeFrozen) Files() []engine.OpenFile { return nil }
func (f *fakeFrozen) Mapped() []engine.Mapped  { return nil }
func (f *fakeFrozen) Dirs() []string           { return nil }
func (f *fakeFrozen) Since() time.Time         { return f.since }

func (f *fakeFrozen) Dump(ctx context.Context, s engine.Sink, inherit bool) error {
	w := f.t.w
	w.mu.Lock()
	f.t.dumped = true
	if !inherit {
		w.whole++
	}
	err := w.step("dump")
	state := f.t.state
	w.mu.Unlock()
	if err != nil {
		return err
	}
	return s.Blob("state", []byte(strconv.Itoa(state)))
}

func (f *fakeFrozen) Thaw() error {
	f.t.w.mu.Lock()
	defer f.t.w.mu.Unlock()
	f.t.frozen = false
	return f.t.w.step("thaw")
}

func (f *fakeFrozen) Kill() error {
	f.t.w.mu.Lock()
	defer f.t.w.mu.Unlock()
	if err := f.t.w.step("kill"); err != nil {
		return err
	}
	f.t.end(9)
	return nil
}

func (w *world) GoingDown(context.Context) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.goingDown
}

// fakeEar hears what a test says.
type fakeEar struct {
	w     *world
	heard chan struct{}
	words notify.Words
	ours  func(pid int) bool // nil: nobody's words count
	over  bool
}

func (w *world) Listen(string, *slog.Logger) (ear, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ear = &fakeEar{w: w, heard: make(chan struct{}, 1)}
	return w.ear, nil
}

func (w *world) Belongs(_ engine.Handle, pid int) bool { return pid == childPID }

// childPID is a process of every tree, beside its command.
const childPID = 77

// says has the program say something.
func (w *world) says(lines string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	said := notify.Parse([]byte(lines))
	if said.Well {
		said.At = time.Now()
	}
	w.ear.words = w.ear.words.Then(said)
	select {
	case w.ear.heard <- struct{}{}:
	default:
	}
}

func (e *fakeEar) Path() string           { return "/run/wakepoint/web.notify" }
func (e *fakeEar) Heard() <-chan struct{} { return e.heard }
func (e *fakeEar) Settle()                {}
func (e *fakeEar) Resumed() bool          { return e.w.resumes }

func (e *fakeEar) Take() notify.Words {
	e.w.mu.Lock()
	defer e.w.mu.Unlock()
	words := e.words
	e.words = notify.Words{}
	return words
}

func (e *fakeEar) Of(ours func(int) bool, _ bool) {
	e.w.mu.Lock()
	defer e.w.mu.Unlock()
	e.ours, e.words = ours, notify.Words{}
}

func (e *fakeEar) Close(bool) error { e.over = true; return nil }

func (w *world) Ask(context.Context, health.Check) error {
	w.mu.Lock()
	ill := w.ill
	w.mu.Unlock()
	if ill == nil {
		return nil
	}
	return ill()
}
