package keeper

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wakepoint/wakepoint/internal/api"
	"github.com/wakepoint/wakepoint/internal/engine"
	"github.com/wakepoint/wakepoint/internal/generation"
	"github.com/wakepoint/wakepoint/internal/store"
)

// BenchmarkProgram measures checkpoints and restores of a program that writes
// to a share of its memory between them, beside floors that are measured in
// turn with them. doc/bench.md says what the rows mean.
func BenchmarkProgram(b *testing.B) {
	for _, c := range []struct {
		name      string
		mib, runs int
	}{
		{"16MiB", 16, 9},
		{"64MiB", 64, 9},
		{"1GiB", 1 << 10, 5},
		{"4GiB", 4 << 10, 5},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportMetric(0, "ns/op")
			r := newBench(b, c.mib)
			if r == nil {
				return
			}
			defer debug.SetGCPercent(debug.SetGCPercent(gcPercent)) // as a keeper does
			defer debug.SetMemoryLimit(debug.SetMemoryLimit(memoryMax))
			for range c.runs {
				r.turn()
			}
			r.print(c.name, c.runs)
		})
	}
}

// kind is one kind of checkpoint.
type kind struct {
	name    string
	dirty   int64 // pages written to before it
	copyAll bool
	nowhere bool // what is dumped is thrown away

	self, keeper, stop, files, dump, thaw samples // the pause and its parts
	commit                                samples
	bytes                                 samples
	memcpy, fork, fdatasync               samples // the floors
}

// bench is a program under protection, one without, and a store.
type bench struct {
	b     *testing.B
	pages int64
	k     *keeper
	w     *store.Workload
	rec   *os.File
	stage *stages

	program, plain *ticks
	kinds          []*kind
	first          kind    // the first generation, once
	quiet          samples // largest gap with nothing going on
	restore        samples // OpenGeneration to the first tick
	built          samples // of it: to the tree that stands ready
}

// newBench starts both programs; nil, with a word on why, when there is no room.
func newBench(b *testing.B, mib int) *bench {
	b.Helper()
	if os.Geteuid() != 0 {
		b.Skip("skip: needs root: process trees are started in namespaces of their own")
	}
	dir := b.TempDir()
	if why := noRoom(dir, int64(mib)<<20); why != "" {
		fmt.Printf("\n%d MiB: left out: %s\n", mib, why)
		return nil
	}
	pages := int64(mib) << 20 / store.PageSize
	r := &bench{b: b, pages: pages, stage: &stages{}, kinds: []*kind{
		{name: "0 % written"},
		{name: "1 % written", dirty: pages / 100},
		{name: "10 % written", dirty: pages / 10},
		{name: "all, to nowhere", copyAll: true, nowhere: true},
		{name: "all", copyAll: true},
	}}
	s, err := store.Open(filepath.Join(dir, "store"), store.Options{})
	if err != nil {
		b.Fatal(err)
	}
	if r.w, err = s.Create("bench"); err != nil {
		b.Fatal(err)
	}
	lock, err := r.w.Lock()
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { lock.Close() })
	if r.rec, err = os.Create(filepath.Join(dir, "record")); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { r.rec.Close() })
	r.start(buildTicks(b), mib)
	return r
}

// noRoom says why a program of that size cannot be measured here: two of them
// must fit, and on the disk its first generation with what follows.
func noRoom(dir string, size int64) string {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return err.Error()
	}
	var available int64
	for line := range strings.Lines(string(text)) {
		if n, _ := fmt.Sscanf(line, "MemAvailable: %d kB", &available); n == 1 {
			available <<= 10
			break
		}
	}
	if want := 2*size + 1<<30; available < want {
		return fmt.Sprintf("it takes %d MiB of memory, and %d are available", want>>20, available>>20)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return err.Error()
	}
	if free, want := int64(st.Bavail)*st.Bsize, 3*size; free < want {
		return fmt.Sprintf("it takes %d MiB of disk, and %d are free", want>>20, free>>20)
	}
	return ""
}

// start starts the programs and makes the first generation.
func (r *bench) start(program string, mib int) {
	b := r.b
	b.Helper()
	r.k = newKeeper(realMachine{}, realVault{r.w}, Site{}, slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})))
	r.k.rec.policy = api.Policy{Files: api.FilesRollback}
	r.program = newTicks(b)
	r.program.died = func() bool {
		select {
		case <-r.k.tree.CommandDone():
			return true
		default:
			return false
		}
	}
	t, err := engine.Start(context.Background(), engine.StartOptions{
		Argv: r.program.argv(program, mib), Dir: "/", Record: r.rec})
	if err != nil {
		b.Fatal(err)
	}
	r.hold(t)
	b.Cleanup(func() { r.end() })
	r.program.gap()
	r.plain = startPlain(b, program, mib)
	r.checkpoint(&r.first)
}

// hold makes t the tree of the keeper.
func (r *bench) hold(t *engine.Tree) {
	r.k.tree, r.k.inherit = stagedTree{realTree{t}, r.stage}, false
}

// end kills the tree, if there is one.
func (r *bench) end() {
	r.b.Helper()
	if r.k.tree == nil {
		return
	}
	defer func() { r.k.tree = nil }()
	if err := r.k.tree.Kill(context.Background()); err != nil {
		r.b.Error(err)
	}
	if err := r.k.tree.Close(); err != nil {
		r.b.Error(err)
	}
}

// turn measures everything once.
func (r *bench) turn() {
	r.b.Helper()
	r.program.gap()
	time.Sleep(50 * time.Millisecond)
	r.quiet.add(r.program.gap())
	for _, c := range r.kinds {
		r.program.ask(opDirty, c.dirty)
		real := r.k.tree.(stagedTree).realTree
		if c.copyAll {
			real.CopyAll(true)
		}
		if c.nowhere {
			r.throwAway(c)
		} else {
			r.checkpoint(c)
		}
		if c.copyAll {
			real.CopyAll(false)
		}
		r.floors(c)
	}
	r.revive()
	// Nothing is known of the restored tree's memory: its first checkpoint
	// reads everything, and those that are measured follow it.
	r.checkpoint(&kind{})
	if _, err := r.w.Retain(2); err != nil {
		r.b.Fatal(err)
	}
}

// checkpoint takes a generation as a keeper does.
func (r *bench) checkpoint(c *kind) {
	r.b.Helper()
	r.program.gap()
	start := time.Now()
	info, err := r.k.take(context.Background(), checkpointOptions{})
	if err != nil {
		r.b.Fatal(err)
	}
	c.commit.add(time.Since(start))
	c.self.add(r.program.gap())
	c.keeper.add(info.Pause)
	c.bytes = append(c.bytes, float64(info.NewBytes))
	r.stage.into(c)
}

// throwAway freezes and copies everything, and keeps nothing of it.
func (r *bench) throwAway(c *kind) {
	r.b.Helper()
	r.program.gap()
	f, err := r.k.tree.Freeze(context.Background())
	if err != nil {
		r.b.Fatal(err)
	}
	err = f.Dump(context.Background(), nowhere{}, false)
	if terr := f.Thaw(); terr != nil {
		r.b.Fatal(terr)
	}
	c.keeper.add(time.Since(f.Since()))
	r.k.tree.Abandoned()
	if err != nil {
		r.b.Fatal(err)
	}
	c.self.add(r.program.gap())
	r.stage.into(c)
}

// floors measures what the same amount costs without any of us.
func (r *bench) floors(c *kind) {
	r.b.Helper()
	if c.copyAll {
		c.memcpy.add(time.Duration(r.plain.ask(opCopy, r.pages)))
		return
	}
	c.memcpy.add(time.Duration(r.plain.ask(opCopy, c.dirty)))
	c.fork.add(time.Duration(r.plain.ask(opFork, 0)))
	c.fdatasync.add(r.flush(int64(c.bytes[len(c.bytes)-1])))
}

// flush writes n bytes to a file beside the generations and waits for the disk.
func (r *bench) flush(n int64) time.Duration {
	r.b.Helper()
	buf := make([]byte, 1<<20)
	for i := range buf {
		buf[i] = byte(i * i >> 7)
	}
	name := filepath.Join(r.w.Dir(), "floor")
	start := time.Now()
	f, err := os.Create(name)
	if err != nil {
		r.b.Fatal(err)
	}
	defer os.Remove(name)
	defer f.Close()
	for n > 0 {
		k := min(n, int64(len(buf)))
		if _, err := f.Write(buf[:k]); err != nil {
			r.b.Fatal(err)
		}
		n -= k
	}
	if err := unix.Fdatasync(int(f.Fd())); err != nil {
		r.b.Fatal(err)
	}
	return time.Since(start)
}

// revive kills the tree, restores its last generation, and has the program
// look whether its memory is what it was.
func (r *bench) revive() {
	r.b.Helper()
	r.end()
	r.program.newLife()
	ctx := context.Background()
	start := time.Now()
	g, err := generation.Open(r.w, r.k.parent)
	if err != nil {
		r.b.Fatal(err)
	}
	defer g.Close()
	re, err := engine.Restore(ctx, g, engine.RestoreOptions{Record: r.rec})
	if err != nil {
		r.b.Fatal(err)
	}
	r.built.add(time.Since(start))
	t, err := re.Run()
	if err != nil {
		r.b.Fatal(err)
	}
	r.hold(t)
	r.restore.add(r.program.first().Sub(start))
	r.program.sound()
}

// print prints the table of one program.
func (r *bench) print(name string, runs int) {
	fmt.Printf("\n%s in %d pages of 4 KiB: ms, median (least - most) of %d runs in turn\n\n", name, r.pages, runs)
	copied, whole := r.kinds[3], r.kinds[4]
	var t table
	line := func(what string, cell func(c *kind) string) {
		cells := []string{what}
		for _, c := range r.kinds {
			cells = append(cells, cell(c))
		}
		t.row(cells...)
	}
	spans := func(what string, of func(c *kind) samples) {
		line(what, func(c *kind) string { return of(c).span(ms) })
	}
	line("", func(c *kind) string { return c.name })
	spans("pause, by the program", func(c *kind) samples { return c.self })
	spans("pause, by the keeper", func(c *kind) samples { return c.keeper })
	spans("  stop, describe", func(c *kind) samples { return c.stop })
	spans("  files", func(c *kind) samples { return c.files })
	spans("  memory", func(c *kind) samples { return c.dump })
	spans("  thaw", func(c *kind) samples { return c.thaw })
	spans("until committed", func(c *kind) samples { return c.commit })
	line("new MiB", func(c *kind) string { return c.bytes.span(mib) })
	spans("floor: memcpy of them", func(c *kind) samples { return c.memcpy })
	spans("floor: fork", func(c *kind) samples { return c.fork })
	spans("floor: fdatasync", func(c *kind) samples { return c.fdatasync })
	line("pause of all / pause", func(c *kind) string { return ratio(whole.self, c.self) })
	line("  all to nowhere / pause", func(c *kind) string { return ratio(copied.self, c.self) })
	line("  memcpy of all / pause", func(c *kind) string { return ratio(whole.memcpy, c.self) })
	line("  fork / pause", func(c *kind) string { return ratio(c.fork, c.self) })
	line("committed / fdatasync", func(c *kind) string { return ratio(c.commit, c.fdatasync) })
	t.print()
	fmt.Printf("\nrestore to the first instruction: %s, of it until the tree stands ready: %s\n", r.restore.span(ms), r.built.span(ms))
	fmt.Printf("first generation, once: pause %s, committed after %s, %s MiB\n", ms(r.first.self.median()), ms(r.first.commit.median()), mib(r.first.bytes.median()))
	fmt.Printf("largest gap within 50 ms of nothing: %s\n", r.quiet.span(ms))
}

// stages are the parts of the last pause.
type stages struct {
	since, frozen, dump, dumped, thawed time.Time
}

func (s *stages) into(c *kind) {
	c.stop.add(s.frozen.Sub(s.since))
	c.files.add(s.dump.Sub(s.frozen))
	c.dump.add(s.dumped.Sub(s.dump))
	c.thaw.add(s.thawed.Sub(s.dumped))
}

// stagedTree notes when the parts of a checkpoint begin.
type stagedTree struct {
	realTree
	s *stages
}

func (t stagedTree) Freeze(ctx context.Context) (frozen, error) {
	f, err := t.realTree.Freeze(ctx)
	if err != nil {
		return nil, err
	}
	*t.s = stages{since: f.Since(), frozen: time.Now()}
	return stagedFrozen{f, t.s}, nil
}

type stagedFrozen struct {
	frozen
	s *stages
}

func (f stagedFrozen) Dump(ctx context.Context, s engine.Sink, inherit bool) error {
	f.s.dump = time.Now()
	err := f.frozen.Dump(ctx, s, inherit)
	f.s.dumped = time.Now()
	return err
}

func (f stagedFrozen) Thaw() error {
	err := f.frozen.Thaw()
	f.s.thawed = time.Now()
	return err
}

// nowhere is a Sink that keeps nothing.
type nowhere struct{}

func (nowhere) Blob(string, []byte) error                        { return nil }
func (nowhere) Section(string, bool) (engine.SectionSink, error) { return nowhere{}, nil }
func (nowhere) Put(int64, []byte) error                          { return nil }
func (nowhere) Zero(int64, int64) error                          { return nil }
func (nowhere) Close() error                                     { return nil }

var _ io.Closer = nowhere{}
