package keeper

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/wakepoint/wakepoint/internal/api"
	"github.com/wakepoint/wakepoint/internal/engine"
	"github.com/wakepoint/wakepoint/internal/files"
	"github.com/wakepoint/wakepoint/internal/generation"
	"github.com/wakepoint/wakepoint/internal/policy"
	"github.com/wakepoint/wakepoint/internal/store"
	"github.com/wakepoint/wakepoint/internal/terminal"
)

// firstTries is how often the first checkpoint of a launch may fail before
// the launch says so.
const firstTries = 3

// checkpointOptions says what kind of checkpoint is taken.
type checkpointOptions struct {
	tag string
	// hold commits while the tree is frozen, and then calls held instead of
	// thawing. When held fails the tree is thawed.
	hold bool
	held func(frozen) error
	// anyone: others may have the files open for writing too.
	anyone bool
	asked  bool // by a person
}

// checkpoint takes a generation, keeps the books of it and sets the time of
// the next one.
func (k *keeper) checkpoint(ctx context.Context, o checkpointOptions) (store.Info, error) {
	start := time.Now()
	k.setCheckpointing(true)
	info, err := store.Info{}, k.room(o)
	if err == nil {
		k.watchTree(k.tree.Handle())
		info, err = k.take(ctx, o)
	}
	end := time.Now()
	k.learn(info, err)
	k.mu.Lock()
	v := &k.view
	v.Checkpointing = false
	if err == nil {
		k.failures = 0
		v.Failures, v.LastError = 0, nil
		v.Generation = info.Generation.String()
		v.LastPauseSeconds = info.Pause.Seconds()
		v.LastCheckpointSeconds = end.Sub(start).Seconds()
		t := taken(info)
		v.LastCheckpointAt = &t
	} else {
		k.failures++
		v.Failures, v.LastError = k.failures, k.explain(err)
	}
	k.mu.Unlock()
	if err != nil {
		k.log.Warn("checkpoint", "err", err, "failures", k.failures)
	} else {
		if !o.hold {
			k.choice = k.choice.Next(info.Pause, end.Sub(start), k.between(end))
		}
		k.retain()
	}
	k.last.start, k.last.end = start, end
	k.pace(start, end)
	k.watchful()
	k.first(err)
	return info, err
}

// first tells a waiting launch how the first checkpoint went. An adopted
// program that cannot be saved is let go.
func (k *keeper) first(err error) {
	var refused *engine.RefusedError
	if err != nil && !errors.As(err, &refused) && k.failures < firstTries {
		return
	}
	if err != nil && k.rec.spec.Adopt != 0 && k.status().Generation == "" {
		k.unfit = err
		return
	}
	k.launched(err)
}

// launched tells a waiting launch, once, what came of it.
func (k *keeper) launched(err error) {
	if k.onFirst != nil {
		k.onFirst(err)
		k.onFirst = nil
	}
}

func (k *keeper) setCheckpointing(b bool) {
	k.mu.Lock()
	k.view.Checkpointing = b
	k.mu.Unlock()
}

// take is one checkpoint: freeze; files, then memory, into a draft; thaw;
// commit. Whatever fails, the tree is thawed, the draft dropped, and what the
// engine found dirty joins the next checkpoint.
func (k *keeper) take(ctx context.Context, o checkpointOptions) (info store.Info, err error) {
	d, err := k.v.Begin(k.parent, k.buffer())
	if err != nil {
		return info, err
	}
	defer func() {
		if err != nil {
			if aerr := d.Abort(); aerr != nil {
				k.log.Warn("drop the draft", "err", aerr)
			}
		}
	}()
	c := capture{k: k, d: d}
	if err := c.prepare(ctx); err != nil {
		return info, fmt.Errorf("take the files: %w", err)
	}
	if err := k.precopy(ctx, d); err != nil {
		return info, err
	}
	d.Still(true)
	fz, err := k.tree.Freeze(ctx)
	if err != nil {
		k.tree.Abandoned()
		return info, err
	}
	c.fz = fz
	defer c.release() // thaws, if nothing else did
	h := k.tree.Handle()
	if h.Init = 0; !k.quiet && !k.m.Alive(h) { // the same, of one that ended meanwhile
		return info, fmt.Errorf("freeze: the command has just ended: %w", os.ErrProcessDone)
	}
	if err := c.frozen(ctx); err != nil {
		return info, err
	}
	if !o.hold {
		if err := c.thaw(); err != nil {
			k.log.Error("thaw", "err", err)
		}
	}
	d.Still(false)
	if !o.anyone {
		if err := k.shared(c.files, o.asked || o.hold); err != nil {
			return info, err
		}
	}
	info, err = c.commit(ctx, o.tag)
	if err != nil {
		return info, err
	}
	k.inherit, k.parent, k.index, k.kept = true, info.Generation, c.index, c.kept
	k.captured(&c)
	if o.hold {
		if err := o.held(fz); err != nil {
			return info, err
		}
		c.over = true
	}
	return info, nil
}

// precopy copies memory before the freeze when the generation has none to
// inherit from.
func (k *keeper) precopy(ctx context.Context, d draft) error {
	t, ok := k.tree.(interface {
		Precopy(context.Context, engine.Sink) error
	})
	if !ok || k.inherit {
		return nil
	}
	if err := t.Precopy(ctx, d); err != nil {
		k.tree.Abandoned()
		return err
	}
	return nil
}

// capture is one checkpoint under way.
type capture struct {
	k       *keeper
	d       draft
	fz      frozen
	section engine.SectionSink // of the files; nil: none
	files   *files.Capture
	ready   *files.Index // what was copied beforehand
	index   *files.Index
	reads   []engine.Mapped // what the tree only reads
	kept    *files.Kept
	batch   *files.Batch // what was written and closed; nil: not watched
	noted   *generation.Noted
	screen  []byte // of its terminal; nil: it has none
	full    bool   // the buffer was too small
	dumped  bool   // the engine waits for Committed or Abandoned
	over    bool   // thawed or killed
	since   time.Time
	pause   time.Duration
}

// frozen does what must be done while the tree stands still.
func (c *capture) frozen(ctx context.Context) error {
	c.since = c.fz.Since()
	if err := c.k.rotate(); err != nil {
		c.k.log.Warn("output", "err", err) // it grows on; that is no reason to lose a generation
	}
	if c.k.hub != nil {
		c.screen = c.k.hub.Screen()
	}
	if err := c.takeFiles(); err != nil {
		return fmt.Errorf("take the files: %w", err)
	}
	c.dumped = true
	c.noted = generation.Note(c.d)
	err := c.fz.Dump(ctx, c.noted, c.k.inherit)
	c.reads = c.fz.Mapped()
	c.full = c.d.Waits() > 0
	return err
}

// bufferSize is how much is copied while the program stands still, unless its
// policy says otherwise; bufferMax the most that it may say.
const (
	bufferSize = 256 << 20
	bufferMax  = 64 << 30
)

// buffer is the size of the buffer, for which the collector makes room.
func (k *keeper) buffer() int64 {
	n := k.rec.policy.BufferBytes
	if n == 0 {
		n = bufferSize
	}
	if n != k.roomFor {
		debug.SetMemoryLimit(memoryMax + n)
		k.roomFor = n
	}
	return n
}

// takeFiles fixes what the workload's files contain.
func (c *capture) takeFiles() error {
	k := c.k
	o, batch := k.fileOptions()
	c.batch = batch
	o.Prepared, o.Dirs = c.ready, c.fz.Dirs()
	for _, f := range c.fz.Files() {
		k.adviseOn(f.Path)
		o.Open = append(o.Open, files.Open{Path: f.Path, File: f.File, Writable: f.Writable, Append: f.Append, Mapped: f.Mapped, Volatile: f.Volatile})
	}
	var err error
	if c.files, err = files.Take(o, c.section); err == nil {
		k.paused(c.files.Costs())
	}
	return err
}

// adviseOn notes what an open file says about the program: that it keeps
// durable state of its own, which a roll-back after a crash undoes.
func (k *keeper) adviseOn(path string) {
	kind := ""
	switch base := filepath.Base(path); {
	case strings.HasSuffix(base, "-wal"), strings.HasSuffix(base, "-journal"):
		kind = "an SQLite journal"
	case strings.HasSuffix(base, ".aof"):
		kind = "a redis append-only file"
	}
	if kind == "" || k.rec.policy.OnCrash != api.OnRestore || k.rec.policy.Durable {
		return
	}
	note := "it writes " + kind + " (" + path + "): a crash rolls it back with the program; `wakepoint set " + k.rec.spec.Name + " --on-crash fresh` starts it afresh instead, with nothing that it acknowledged undone"
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.notes) == 0 { // one is enough
		k.notes = append(k.notes, note)
		k.view.Notes = k.allNotes()
	}
}

// except names what is never captured: the workload's own directory, with
// the output and the generations.
func (k *keeper) except() []string {
	dir := k.v.Dir()
	if real, err := filepath.EvalSymlinks(dir); err == nil && real != dir {
		return []string{dir, real}
	}
	return []string{dir}
}

// screenName is the blob with what a workload's terminal shows
// (terminal.Hub.Screen).
const screenName = "screen"

// standsOn makes the next checkpoint go on from generation g: 0 is none. A tree
// that is made of g begins with its screen; one made of a generation that has
// none, and it had a terminal, draws it itself.
func (k *keeper) standsOn(g store.Generation) {
	k.parent, k.index, k.kept, k.written.names = g, nil, nil, nil
	k.shown = terminal.Options{Stale: g != 0}
	if g == 0 {
		return
	}
	defer func() {
		if k.written.names = k.index; k.index == nil {
			k.forgotten()
		}
	}()
	r, err := k.v.OpenGeneration(g)
	if err != nil {
		return // everything is then taken anew
	}
	defer r.Close()
	if p, err := r.Blob(files.IndexName); err == nil {
		if x, err := files.Decode(p); err == nil {
			k.index = x
		}
	}
	if x, err := generation.Kept(r); err == nil {
		k.kept = x
	}
	if p, err := r.Blob(screenName); err == nil {
		k.shown = terminal.Options{Screen: p}
	}
}

// anew has the next checkpoint read everything again.
func (k *keeper) anew() { k.inherit, k.index, k.kept = false, nil, nil }

// thaw lets the tree go on, once.
func (c *capture) thaw() error {
	if c.over {
		return nil
	}
	c.over = true
	err := c.fz.Thaw()
	c.pause = time.Since(c.since)
	c.k.spoken.dog = c.k.spoken.dog.Stood(time.Now(), c.pause)
	return err
}

// commit finishes the files and makes the generation durable.
func (c *capture) commit(ctx context.Context, tag string) (store.Info, error) {
	x, p, err := c.files.Finish()
	if err != nil {
		return store.Info{}, fmt.Errorf("take the files: %w", err)
	}
	if err := c.section.Close(); err != nil {
		return store.Info{}, err
	}
	if err := c.d.Blob(files.IndexName, p); err != nil {
		return store.Info{}, err
	}
	if c.screen != nil {
		if err := c.d.Blob(screenName, c.screen); err != nil {
			return store.Info{}, err
		}
	}
	if err := c.noted.Ground(); err != nil {
		return store.Info{}, fmt.Errorf("what it stands on: %w", err)
	}
	if err := c.keep(x); err != nil {
		return store.Info{}, fmt.Errorf("keep executables and libraries: %w", err)
	}
	if c.pause == 0 {
		c.pause = time.Since(c.since) // frozen until after the commit
	}
	run := &c.k.rec.run
	meta := map[string]string{
		metaTaken:  c.since.UTC().Format(time.RFC3339Nano),
		metaSteady: c.k.steady(c.since).UTC().Format(time.RFC3339Nano),
		metaRun:    strconv.FormatUint(run.Run, 10),
		metaFrom:   strconv.FormatUint(uint64(run.From), 10),
		metaHome:   c.k.v.Dir(),
		metaChosen: c.k.choice.String(),
	}
	if keepsFiles(c.k.rec.policy) {
		meta[metaKeeps] = "yes"
	}
	if d := c.k.spoken.dog; d.Armed {
		meta[metaWatchdog] = d.Limit.String()
	}
	if c.full {
		meta[metaStreamed] = "yes"
	}
	info, err := c.d.Commit(ctx, c.pause, tag, meta)
	if err != nil {
		return info, err
	}
	c.index = x
	c.dumped = false
	c.k.tree.Committed()
	return info, nil
}

// release gives back what the checkpoint holds, whatever has become of it.
func (c *capture) release() {
	if err := c.thaw(); err != nil {
		c.k.log.Error("thaw", "err", err)
	}
	if c.files != nil {
		c.files.Close()
	}
	if c.dumped {
		c.k.tree.Abandoned()
	}
}

// verdict is what is known of a generation.
func (k *keeper) verdict(g store.Generation) string { return verdict(k.rec.history, g) }

func verdict(h policy.History, g store.Generation) string {
	return string(h.Verdict(policy.Generation(g)))
}
