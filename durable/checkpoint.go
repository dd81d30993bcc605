package durable

import (
	"cmp"
	"context"
	"slices"

	"github.com/wakepoint/wakepoint/internal/redo"
)

// part is a leaf as it was at the instant of a checkpoint.
type part struct {
	leaf       *leaf
	base, runs *block
	frozen     *overlay
	late       *block
	loaded     bool
	disk       *stored // where it lay
	splits     int

	dirty bool    // something of it is new
	whole bool    // base and runs are written anew
	saved *stored // where it lies in the new generation; nil: it is empty
}

// freeze sets apart what the next generation is to have: what is applied at
// this instant. Nobody waits longer than that takes.
func (t *tree) freeze() (parts []part, at redo.Position) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, l := range t.dirty {
		l.frozen, l.over, l.dirty = l.over, nil, false
	}
	t.dirty = nil
	parts = make([]part, len(t.leaves))
	for i, l := range t.leaves {
		parts[i] = part{leaf: l, base: l.base, runs: l.runs, frozen: l.frozen, late: l.late, loaded: l.loaded, disk: l.disk, splits: l.splits,
			dirty: l.disk == nil || l.frozen.len() > 0}
	}
	return parts, t.applied
}

// Checkpoint makes a generation of all that is applied, now. It is done at
// intervals in any case. When it returns nil, the generation is durable, or
// there was nothing new. In a closure of View it would wait for that view.
func (db *DB) Checkpoint(ctx context.Context) error {
	if err := db.enter(ctx); err != nil {
		return err
	}
	defer db.gate.leave()
	return db.checkpoint(ctx)
}

// segmentsMost is how many files of the log may be in use without a checkpoint when a
// database is opened. Each life begins one: those of a server that crashes again and
// again, before a checkpoint is due, would fill the disk.
const segmentsMost = 8

func (db *DB) checkpoint(ctx context.Context) error {
	select {
	case db.tasks.saving <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-db.tasks.saving }()
	if db.tree.clean() && len(db.saved.generations()) > 0 {
		if db.log.Segments() <= segmentsMost {
			return nil
		}
		if err := db.goOn(ctx); err != nil {
			return err
		}
	}
	db.pacer.begin()
	parts, at := db.tree.freeze()
	err := db.save(ctx, parts, at)
	db.pacer.end(err)
	return err
}

// goOn puts a record without changes into the log, so that the next generation has a
// position behind files of it in which nothing else is.
func (db *DB) goOn(ctx context.Context) error {
	if err := db.turn.take(ctx); err != nil {
		return err
	}
	defer db.turn.give()
	end, err := db.log.Append(ctx, []byte{recordChanges})
	if err == nil {
		db.tree.apply(nil, end)
	}
	return err
}

// clean says that nothing was changed since the last checkpoint.
func (t *tree) clean() bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return len(t.dirty) == 0
}

// save writes a generation. When it fails all that was frozen is a part of the
// next one.
func (db *DB) save(ctx context.Context, parts []part, at redo.Position) error {
	g, err := db.write(ctx, parts, at)
	if err != nil {
		db.tree.undo(parts)
		return err
	}
	// From here on the generation is there, also after a power cut.
	db.tree.settle(parts)
	oldest, more := db.saved.add(g)
	if !db.saved.keep.TryLock() {
		return nil // somebody reads what is not needed: the next one takes it away
	}
	defer db.saved.keep.Unlock()
	if more {
		db.log.Trim(oldest.position)
	}
	if err := db.saved.clean(); err != nil {
		db.o.Logger.Warn("files that are not needed could not be removed", "err", err)
	}
	return nil
}

// write writes the file of a generation and makes it durable.
func (db *DB) write(ctx context.Context, parts []part, at redo.Position) (g generation, err error) {
	if err := db.unseen(ctx, at); err != nil {
		return g, err
	}
	plan(parts, db.saved.wasteful())
	g = generation{number: db.saved.next, position: at, made: kept(db.o.Clock()), at: generationPage, since: db.saved.since(db.saved.next)}
	db.saved.next++
	d, err := newDraft(db, g.number)
	if err != nil {
		return g, err
	}
	defer func() {
		if err != nil {
			d.abandon()
		}
	}()
	left := newGarbage()
	for i := range parts {
		if err := ctx.Err(); err != nil {
			return g, err
		}
		p := &parts[i]
		old := p.frozen.size()
		if p.whole && p.frozen.len() > 0 {
			old += p.base.size() + p.runs.size()
		}
		err := db.writePart(d, p)
		p.base, p.runs, p.frozen = nil, nil, nil // somebody else may have no use for them any more
		if err != nil {
			return g, err
		}
		left.add(old, db.pacer.hurry())
	}
	// The index says where all is; the log is durable as far as the generation
	// goes, so that no other work can get its positions; then it gets its name.
	if err := d.finish(&g, parts); err != nil {
		return g, err
	}
	if err := db.log.Wait(ctx, at); err != nil {
		return g, err
	}
	return g, d.name()
}

// unseen waits until no view is open that began before a position: what it may
// see is about to be put together.
func (db *DB) unseen(ctx context.Context, at redo.Position) error {
	for {
		ended, before := db.tree.views.before(at)
		if !before {
			return nil
		}
		db.pacer.stuck(true)
		select {
		case <-ended:
		case <-ctx.Done():
		}
		db.pacer.stuck(false)
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

const (
	rewriteShare = 34 // one part of so many of the base is rewritten at most, where it is not mostly changed
	rewriteRuns  = 8  // from so many runs on
)

// plan says which leaves are written whole: those that are nowhere on the disk
// or mostly changed, and of the others a share, those with most runs first, and
// when the files hold too much that is not in use those in the oldest ones.
func plan(parts []part, wasteful bool) {
	var all int64
	var some []*part
	parts[0].whole = true // it is a part of the index
	for i := range parts[1:] {
		p := &parts[i+1]
		all += int64(p.base.size())
		if p.disk == nil || p.loaded && p.mostly() {
			p.whole = true
			continue
		}
		if p.loaded {
			some = append(some, p)
		}
	}
	slices.SortStableFunc(some, func(a, b *part) int {
		if c := cmp.Compare(len(b.disk.runs)/rewriteRuns, len(a.disk.runs)/rewriteRuns); c != 0 {
			return c
		}
		return cmp.Compare(a.disk.oldest(), b.disk.oldest())
	})
	room := all / rewriteShare
	for _, p := range some {
		if len(p.disk.runs) < rewriteRuns && !wasteful {
			break
		}
		if room -= int64(p.base.size() + p.runs.size()); room < 0 {
			break
		}
		p.whole = true
	}
}

// mostly says that most of a leaf was changed, by bytes or by keys.
func (p *part) mostly() bool {
	return 2*(p.runs.size()+p.frozen.size()) > p.base.size() || 2*(p.runs.len()+p.frozen.len()) > p.base.len()
}

// oldest is the first file in which a part of a leaf lies.
func (s *stored) oldest() uint64 {
	n := ^uint64(0)
	if s.base.size > 0 {
		n = s.base.file
	}
	for _, e := range s.runs {
		n = min(n, e.file)
	}
	return n
}

// writePart writes what is new of a leaf.
func (db *DB) writePart(d *draft, p *part) error {
	if !p.loaded && p.frozen.len() > 0 && len(p.disk.runs) >= runsMax && p.late == nil {
		if db.load(p.leaf) == nil {
			db.tree.again(p)
		}
	}
	switch {
	case p.whole:
		l := leaf{base: p.base, runs: p.runs, frozen: p.frozen}
		base := p.base
		if l.runs.len() > 0 || l.frozen.len() > 0 || base.size() < base.room() {
			base = flatten(l.layers(now), true)
		}
		db.tree.install(p, base, nil)
		if len(p.leaf.low) == 0 {
			d.catalog = base
			return nil
		}
		e, err := d.put(base)
		if base != nil {
			p.saved = &stored{base: e}
		}
		return err
	case p.frozen.len() == 0:
		p.saved = p.disk
		return nil
	}
	runs := p.disk.runs
	run := flatten([]layer{view{p.frozen, now}}, false)
	switch {
	case !p.loaded:
		if len(runs) > runsMax && p.late == nil { // of an earlier process, that could not load it either
			var err error
			if p.late, err = db.saved.block(runs[len(runs)-1]); err != nil {
				return err
			}
		}
		if p.late != nil {
			run = flatten([]layer{run, p.late}, false)
			runs = runs[:len(runs)-1]
		}
		p.late = run
	case len(runs) >= runsMax:
		run, runs = flatten([]layer{run, p.runs}, false), nil
		db.tree.install(p, p.base, run)
	case p.runs == nil:
		db.tree.install(p, p.base, run)
	default:
		db.tree.install(p, p.base, flatten([]layer{run, p.runs}, false))
	}
	e, err := d.put(run)
	p.saved = &stored{base: p.disk.base, runs: append(slices.Clone(runs), e)}
	return err
}

// again takes a leaf as it is now that it is loaded.
func (t *tree) again(p *part) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if l := p.leaf; l.loaded && l.splits == p.splits {
		p.base, p.runs, p.late, p.loaded = l.base, l.runs, nil, true
		p.whole = true
	}
}

// install puts together in memory what a checkpoint put together, unless the
// leaf was divided or loaded meanwhile.
func (t *tree) install(p *part, base, runs *block) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if l := p.leaf; l.splits == p.splits && l.loaded == p.loaded {
		l.base, l.runs, l.frozen, l.enough = base, runs, nil, 0
	}
}

// each calls f for all parts, mu held, and lets others go on now and then.
func (t *tree) each(parts []part, f func(*part)) {
	const atOnce = 256 // leaves
	for len(parts) > 0 {
		n := min(atOnce, len(parts))
		t.mu.Lock()
		for i := range parts[:n] {
			f(&parts[i])
		}
		t.mu.Unlock()
		parts = parts[n:]
	}
}

// settle says of all leaves where they lie now. Those that are empty, on the
// disk and here, are no leaves any more.
func (t *tree) settle(parts []part) {
	t.each(parts, settleOne)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.thaw()
	t.leaves = append(t.leaves[:2], slices.DeleteFunc(t.leaves[2:], (*leaf).empty)...)
}

func settleOne(p *part) {
	l := p.leaf
	if l.splits != p.splits {
		return
	}
	if l.disk = p.saved; l.disk == nil {
		l.disk = &stored{}
	}
	if l.frozen != nil && !l.loaded {
		l.frozen, l.late = nil, p.late
	}
}

// thaw puts what is still frozen into the blocks of leaves that are loaded, when no
// view is open that began before it was: mu is held.
func (t *tree) thaw() {
	for _, l := range t.leaves {
		if l.frozen != nil && l.loaded {
			ls := leaf{runs: l.runs, frozen: l.frozen}
			l.runs, l.frozen = flatten(ls.layers(now), false), nil
		}
	}
}

// undo makes what a checkpoint did not save a part of the next one, with all that
// open views see of it.
func (t *tree) undo(parts []part) {
	t.each(parts, t.undoOne)
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, l := range t.leaves { // those that were divided meanwhile
		t.melt(l)
	}
}

func (t *tree) undoOne(p *part) {
	l := p.leaf
	if l.frozen == nil && l.splits == p.splits && (p.dirty || p.whole) {
		l.disk = nil // what was put together is nowhere on the disk: it is written whole
		t.touch(l)
	}
	t.melt(l)
}

// melt makes what is frozen of a leaf a part of what was changed since: mu is held.
func (t *tree) melt(l *leaf) {
	if l.frozen == nil {
		return
	}
	if l.over == nil {
		l.over = l.frozen
	} else {
		l.over = l.over.onto(l.frozen)
	}
	l.frozen = nil
	t.touch(l)
}
