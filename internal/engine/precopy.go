package engine

import (
	"context"
	"fmt"

	"github.com/wakepoint/wakepoint/internal/abi"
	"github.com/wakepoint/wakepoint/internal/memory"
)

// precopyMin is the least memory, in bytes, for which copying beforehand is
// worth a freeze of its own.
const precopyMin uint64 = 64 << 20

// copied is a section that was filled while the program ran.
type copied struct {
	key  spaceKey
	sink SectionSink
}

// Precopy copies the tree's memory into s while the tree runs, so that the
// freeze that follows has to copy only what was written in the meantime. It is
// for a generation that cannot inherit: the first one of a tree. It stands still
// for the moment in which write tracking begins. Small trees, and those whose
// writes cannot be tracked, are left to the freeze.
//
// The Dump into the same s must follow. When anything fails in between,
// Abandoned must be called; what was copied is then worth nothing.
func (t *Tree) Precopy(ctx context.Context, s Sink) error {
	big, err := t.big()
	if err != nil || !big {
		return err
	}
	f, err := t.Freeze(ctx)
	if err != nil {
		return err
	}
	work, err := f.track(s)
	if terr := f.Thaw(); err == nil {
		err = terr
	}
	if err != nil {
		return fmt.Errorf("copy beforehand: %w", err)
	}
	for _, w := range work {
		missed, err := memory.CopyRunning(ctx, w.pid, w.ranges, make([]byte, chunk), w.sink.Put)
		w.strategy.Missed(missed)
		if err != nil {
			return fmt.Errorf("copy beforehand: pid %d: %w", w.pid, err)
		}
	}
	return nil
}

// big says whether the tree holds enough memory.
func (t *Tree) big() (bool, error) {
	roots, err := t.roots()
	if err != nil {
		return false, gone(err)
	}
	var bytes uint64
	for _, root := range roots {
		for _, pid := range t.proc.Descendants(root) {
			if st, err := t.proc.Stat(pid); err == nil {
				bytes += st.RSSPages * abi.PageSize
			}
		}
	}
	return bytes >= t.precopyMin, nil
}

// precopy is what is to be copied of one process.
type precopy struct {
	pid      int
	sink     SectionSink
	strategy memory.Strategy
	ranges   []memory.Range
}

// track begins the tracking of writes, at a look that counts as the base of
// the next one, and opens a section for each space.
func (f *Frozen) track(s Sink) ([]precopy, error) {
	t := f.tree
	t.copied = map[string]copied{}
	var work []precopy
	for _, sp := range f.image.spaces {
		if err := sp.chooseStrategy(); err != nil {
			return nil, err
		}
		w := precopy{pid: sp.owner.pid, strategy: sp.state.strategy}
		for _, a := range sp.privateAreas() {
			if !a.Readable || a.blank {
				continue // not looked at, it stays unknown, and so fresh
			}
			found, err := sp.state.strategy.Look(a.Area)
			if err != nil {
				return nil, err
			}
			w.ranges = append(w.ranges, found.Present...)
		}
		if !sp.state.strategy.Copied() {
			continue
		}
		var err error
		if w.sink, err = s.Section(sp.section(), false); err != nil {
			return nil, err
		}
		t.copied[sp.section()] = copied{sp.key, w.sink}
		work = append(work, w)
	}
	return work, nil
}

// begin opens the section of a space for a dump: the parent's, one that was
// filled beforehand, or an empty one. based says that it holds what the
// strategy's fresh pages are relative to.
func (s *frozenSpace) begin(sink Sink, inherit bool) (out SectionSink, based bool, err error) {
	st := s.state.strategy
	if c, ok := s.tree.copied[s.section()]; ok {
		delete(s.tree.copied, s.section())
		if c.key == s.key {
			return c.sink, true, nil
		}
		// The process has executed another program since.
		return c.sink, false, c.sink.Zero(0, int64(s.tree.arch.StackTop))
	}
	based = inherit && st.Complete()
	out, err = sink.Section(s.section(), based)
	return out, based, err
}

// endCopied closes the sections of processes that ended before the freeze.
func (t *Tree) endCopied() error {
	for name, c := range t.copied {
		delete(t.copied, name)
		if err := c.sink.Zero(0, int64(t.arch.StackTop)); err != nil {
			return err
		}
		if err := c.sink.Close(); err != nil {
			return err
		}
	}
	return nil
}
