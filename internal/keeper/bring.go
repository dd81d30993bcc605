package keeper

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/wakepoint/wakepoint/internal/api"
	"github.com/wakepoint/wakepoint/internal/engine"
	"github.com/wakepoint/wakepoint/internal/files"
	"github.com/wakepoint/wakepoint/internal/generation"
	"github.com/wakepoint/wakepoint/internal/policy"
	"github.com/wakepoint/wakepoint/internal/store"
	"github.com/wakepoint/wakepoint/internal/terminal"
)

// openRecord makes the file in which the next init records the command's
// end. It is a new inode, so that an init that is ending still writes to its
// own.
func (k *keeper) openRecord() error {
	if k.record != nil {
		_ = k.record.Close()
		k.record = nil
	}
	if err := os.Remove(k.path(waitName)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(k.path(waitName), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	k.record = f
	return err
}

// openOutput opens the file that takes what the command prints.
func (k *keeper) openOutput() (*os.File, error) {
	return os.OpenFile(k.path(api.OutputName), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
}

// begin notes that another run begins, before anything of it exists. Until it
// runs the workload stands on what it stood on before.
func (k *keeper) begin(s api.State) error {
	l, err := readLineage(k.v)
	if err != nil {
		return err
	}
	r := &k.rec.run
	r.Head = l.head(*r)
	r.Wanted, r.State, r.Handle = true, s, engine.Handle{}
	r.Run++
	r.Frozen, r.Ended, r.Daemon, r.Error = false, false, false, nil
	return k.putRun()
}

// running notes that the tree runs, made from a generation or, with 0,
// started afresh. When that cannot be written the tree is ended: one that
// nobody could take over must not be left.
func (k *keeper) running(ctx context.Context, t tree, from store.Generation) error {
	r := &k.rec.run
	r.State, r.Handle, r.Started = api.Running, t.Handle(), time.Now()
	r.From, r.Head = from, from
	k.standsOn(from)
	if err := k.putRun(); err != nil {
		_ = t.Kill(ctx)
		_ = t.Close()
		return err
	}
	due, _ := k.interval(r.Started)
	if from == 0 {
		due = 0 // nothing of it is kept yet
	}
	k.setTree(t, due)
	k.listenTo(t, from, false)
	return nil
}

// startFresh starts the command.
func (k *keeper) startFresh(ctx context.Context) error {
	if err := k.begin(api.Starting); err != nil {
		return err
	}
	spec := &k.rec.spec
	if err := k.openRecord(); err != nil {
		return err
	}
	out, err := k.openOutput()
	if err != nil {
		return err
	}
	defer out.Close()
	o := engine.StartOptions{
		Argv: spec.Argv, Env: k.environment(), Dir: spec.Dir, Umask: spec.Umask,
		Stdout: out, Stderr: out, Record: k.record, HostIPC: spec.HostIPC,
		Terminal: spec.Terminal, Rows: spec.Rows, Cols: spec.Cols, Helper: k.helper, Inherit: (*engine.Inherited)(spec.Inherit),
	}
	if spec.Stdin != "" {
		in, err := os.Open(spec.Stdin)
		if err != nil {
			return fmt.Errorf("standard input: %w", err)
		}
		defer in.Close()
		o.Stdin = in
	}
	t, err := k.m.Start(ctx, o)
	if errors.Is(err, os.ErrProcessDone) {
		if _, known := k.lastEnd(); known {
			t, err = newEndedTree(), nil // it was faster than we are
		}
	}
	if err != nil {
		return err
	}
	return k.running(ctx, t, 0)
}

// endedTree stands for a tree that had ended before we could look at it.
type endedTree struct{ done chan struct{} }

func newEndedTree() endedTree {
	t := endedTree{make(chan struct{})}
	close(t.done)
	return t
}

func (t endedTree) Handle() engine.Handle                  { return engine.Handle{BootID: files.BootID()} }
func (t endedTree) Terminal() *os.File                     { return nil }
func (t endedTree) Done() <-chan struct{}                  { return t.done }
func (t endedTree) CommandDone() <-chan struct{}           { return t.done }
func (t endedTree) Status() (engine.Status, error)         { return engine.Status{}, os.ErrProcessDone }
func (t endedTree) Signal(int) error                       { return os.ErrProcessDone }
func (t endedTree) Kill(context.Context) error             { return nil }
func (t endedTree) Close() error                           { return nil }
func (t endedTree) Freeze(context.Context) (frozen, error) { return nil, os.ErrProcessDone }
func (t endedTree) Written() ([]files.Open, error)         { return nil, os.ErrProcessDone }
func (t endedTree) Committed()                             {}
func (t endedTree) Abandoned()                             {}

// adopt takes a process that runs already under protection.
func (k *keeper) adopt(ctx context.Context) error {
	h := k.rec.run.Handle
	if h.Command == 0 {
		var err error
		if h, err = k.m.HandleOf(engine.PID(k.rec.spec.Adopt)); err != nil {
			return err
		}
	}
	h.Cut = k.rec.spec.Cut
	t, err := k.m.Open(ctx, h)
	if err != nil {
		return err
	}
	r := &k.rec.run
	r.Wanted, r.Run = true, r.Run+1
	r.State, r.Handle, r.Started = api.Running, h, time.Now()
	if err := k.putRun(); err != nil {
		_ = t.Close()
		return err
	}
	k.setTree(t, 0)
	return nil
}

// takeOver opens the tree that runs already. os.ErrProcessDone when it is
// gone.
func (k *keeper) takeOver(ctx context.Context) error {
	h := k.rec.run.Handle
	if !k.m.Alive(h) {
		return os.ErrProcessDone
	}
	t, err := k.m.Open(ctx, h)
	if err != nil {
		return err
	}
	l, err := readLineage(k.v)
	if err != nil {
		_ = t.Close()
		return err
	}
	head := l.head(k.rec.run)
	if _, ok := l.info(head); !ok {
		head = 0
	}
	k.standsOn(head)
	// What the tree has printed since that generation the keeper before us has
	// read. It has handed the screen over, or it has died and that is lost with it:
	// the screen begins with the generation's, and the program is made to draw it
	// again. What scrolled by is not drawn again.
	if k.shown.Stale = true; k.handed != nil {
		k.shown, k.handed = terminal.Options{Screen: k.handed}, nil
	}
	if k.record, err = os.OpenFile(k.path(waitName), os.O_RDWR, 0o600); err != nil {
		k.record = nil // adopted: nobody records its end
	}
	k.setTree(t, 0)
	k.listenTo(t, head, true)
	k.unwatched()
	if k.rec.run.State != api.Running {
		k.rec.run.State, k.rec.run.Frozen = api.Running, false
		return k.putRun()
	}
	return nil
}

// restoreGeneration puts g back and lets it run. On an error nothing of it is
// left running; files may have been put back.
func (k *keeper) restoreGeneration(ctx context.Context, g store.Generation) error {
	start := time.Now()
	r, err := k.v.OpenGeneration(g)
	if err != nil {
		return err
	}
	defer r.Close()
	if err := k.rollsBack(g); err != nil {
		return err
	}
	k.rec.run.PutBack = g
	if err := k.begin(api.Restoring); err != nil {
		return err
	}
	changed, err := generation.PutBack(r)
	if err != nil {
		return fmt.Errorf("put the files of %v back: %w", g, err)
	}
	k.rec.run.PutBack = 0
	if err := k.openRecord(); err != nil {
		return err
	}
	o := engine.RestoreOptions{Record: k.record, Helper: k.helper}
	home := k.homeOf(g)
	if home != "" && home != k.v.Dir() {
		o.Replace = map[string]string{home: k.v.Dir()}
	}
	shelved, err := generation.Shelve(r, &o, k.v.Dir(), home)
	if err != nil {
		return err
	}
	if out, err := k.openOutput(); err == nil { // the program holds it open by name
		_ = out.Close()
	}
	rs, err := k.m.Restore(ctx, r, o)
	shelved(err == nil)
	if err != nil {
		return err
	}
	// Written down before it runs: a keeper that dies from here on leaves a
	// tree that the next one knows.
	k.rec.run.Handle, k.rec.run.From, k.rec.run.Head = rs.Handle(), g, g
	if err := k.putRun(); err != nil {
		_ = rs.Kill()
		return err
	}
	k.printed("wakepoint: restored from " + g.String())
	k.watchBuilt(rs.Handle())
	t, err := rs.Run()
	if err != nil {
		k.unwatch()
		_ = rs.Kill()
		return err
	}
	resets := rs.Resets()
	k.rec.run.Recovery = &api.Recovery{
		At: time.Now(), Generation: g.String(), TookSeconds: time.Since(start).Seconds(), AgeSeconds: k.ageOf(g),
		Resets: resets.Count, ResetEnds: resets.Ends,
		FilesWritten: changed.Written, FilesDeleted: changed.Deleted, FileNames: changed.Names,
	}
	return k.running(ctx, t, g)
}

// ageOf is how long ago the instant is that g shows, in seconds.
func (k *keeper) ageOf(g store.Generation) float64 {
	l, err := readLineage(k.v)
	i, ok := l.info(g)
	if err != nil || !ok {
		return 0
	}
	return max(0, time.Since(taken(i)).Seconds())
}

// homeOf returns where the workload's directory was when g was made.
func (k *keeper) homeOf(g store.Generation) string {
	l, err := readLineage(k.v)
	if err != nil {
		return ""
	}
	i, _ := l.info(g)
	return i.Meta[metaHome]
}

// printed adds a line to the command's output, which a restore never cuts.
func (k *keeper) printed(line string) {
	if k.rec.spec.Terminal {
		return
	}
	f, err := k.openOutput()
	if err != nil {
		k.log.Warn("note the restore in the output", "err", err)
		return
	}
	defer f.Close()
	if _, err := f.WriteString(line + "\n"); err != nil {
		k.log.Warn("note the restore in the output", "err", err)
	}
}

// clearOrphan ends a tree that a keeper started or built just before it died,
// and could not write down any more. Nothing was promised of it.
func (k *keeper) clearOrphan(ctx context.Context) {
	h, err := k.m.Orphan(k.path(waitName))
	if err != nil {
		return
	}
	t, err := k.m.Open(ctx, h)
	if err != nil {
		return
	}
	defer t.Close()
	k.log.Warn("end what an earlier keeper left half started", "init", h.Init)
	if err := t.Kill(ctx); err != nil {
		k.log.Error("end it", "err", err)
	}
}

// lastEnd says how the command ended while no keeper looked, as its init
// recorded it.
func (k *keeper) lastEnd() (wait uint32, known bool) {
	f, err := os.Open(k.path(waitName))
	if err != nil {
		return 0, false
	}
	defer f.Close()
	st, err := engine.ReadRecord(f)
	if err != nil || !st.Ended {
		return 0, false
	}
	return st.Wait, true
}

// everyOf is the interval that was in force at the newest generation.
func everyOf(p api.Policy, newest store.Info) time.Duration {
	if p.EveryAuto {
		return max(policy.ParseChosen(newest.Meta[metaChosen]).Every, policy.ChosenMin)
	}
	return seconds(p.EverySeconds)
}

// journalLag is how old a file's times may be after a power cut: they are
// written with the file system's journal, every few seconds.
const journalLag = 10 * time.Second

// lostAt is the latest instant at which a tree that is gone can have lived,
// as far as what it did since its newest generation counts: the last sign of
// life (heartbeat, commit, start), and the time in which neither the next
// sign nor the next generation was due.
func lostAt(dir string, rec records, newest store.Info) time.Time {
	last := rec.run.Started
	if newest.CommittedAt.After(last) {
		last = newest.CommittedAt
	}
	if st, err := os.Stat(filepath.Join(dir, beatName)); err == nil && st.ModTime().After(last) {
		last = st.ModTime()
	}
	lag := heartbeat
	if rec.run.Handle.BootID != files.BootID() {
		lag = journalLag
	}
	at := last.Add(min(lag, everyOf(rec.policy, newest)))
	if now := time.Now(); now.After(last) && now.Before(at) {
		return now
	}
	return at
}
