package keeper

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/wakepoint/wakepoint/internal/engine"
	"github.com/wakepoint/wakepoint/internal/files"
)

// watching is what is known of the files that a tree writes and closes.
type watching struct {
	w      watch         // nil: none
	names  *files.Index  // of parent: whose files are followed
	whole  bool          // w began before the tree
	off    bool          // none is wanted, and nothing is marked
	blind  error         // why there is none; nil: there is, or none is wanted
	gap    string        // says when nobody watched; empty: always
	beyond string        // says that files were too many
	others files.Outside // who else has what the tree has open for writing
}

// watchTree sees to it that what the tree writes and closes is watched, on all
// its mounts, if its policy has files rolled back. Where that is not possible
// the workload runs on, and its status says what is not captured.
func (k *keeper) watchTree(h engine.Handle) {
	if h.Init == 0 && h.Command == 0 {
		return // it has ended already
	}
	keep := keepsFiles(k.rec.policy)
	switch {
	case k.written.w != nil:
		k.written.blind = k.written.w.Mark()
	case !keep || !k.written.off:
		k.written.w, k.written.whole, k.written.blind = k.m.Watch(h, k.except())
	}
	k.written.off = keep
	if errors.Is(k.written.blind, os.ErrNotExist) {
		k.written.blind = nil // it has just ended
	}
	if keep {
		k.written.blind = nil
		if k.written.w != nil { // for nobody else either: events would wait
			k.ended(k.written.w.End())
		}
	}
	k.sees(nil)
}

func (k *keeper) ended(err error) {
	if k.written.w = nil; err != nil {
		k.log.Warn("end the watch of files", "err", err)
	}
}

// watchBuilt begins to watch a tree that was built and does not run yet. What
// was done to build it is not the program's doing.
func (k *keeper) watchBuilt(h engine.Handle) {
	if h.Init == 0 {
		return
	}
	k.unwatch()
	k.watchTree(h)
	if k.written.w != nil {
		k.written.w.Forget(k.written.w.Collect())
	}
}

// unwatch ends the watching, with the tree or before a keeper that comes next.
func (k *keeper) unwatch() {
	if k.written.w != nil {
		k.ended(k.written.w.Close())
	}
	k.written = watching{names: k.written.names}
}

// unwatched notes that a tree was taken over of which nobody had kept what it
// wrote and closed while it had no keeper.
func (k *keeper) unwatched() {
	if k.written.w == nil || k.written.whole {
		return
	}
	k.written.gap = fmt.Sprintf("before %s no keeper looked after it for a while: a file that it wrote and closed then, and never before, is captured when it writes it again; `--data DIR` captures a directory whole",
		time.Now().Format(time.DateTime))
	k.sees(nil)
}

// forgotten notes that it is not known which files the tree had written and
// closed, since the generation that names them cannot be read.
func (k *keeper) forgotten() {
	if keepsFiles(k.rec.policy) {
		return
	}
	k.written.gap = fmt.Sprintf("%v, which names the files that it had written and closed, cannot be read: such a file is captured when it writes it again; `--data DIR` captures a directory whole", k.parent)
	k.sees(nil)
}

// captured lets go of what was written and closed, since a generation has it.
func (k *keeper) captured(c *capture) {
	if k.written.w != nil && c.batch != nil {
		k.written.w.Forget(c.batch)
	}
	k.written.names = c.index
	k.sees(c.files)
}

// sees shows what is not captured of the files that the tree writes.
func (k *keeper) sees(c *files.Capture) {
	var now []string
	if k.written.blind != nil {
		now = append(now, blindNote(k.written.blind))
	}
	if k.written.w != nil {
		now = append(now, k.written.w.Notes()...)
	}
	if k.written.gap != "" {
		now = append(now, k.written.gap)
	}
	if c != nil {
		k.written.beyond = c.Beyond()
	}
	if k.written.beyond != "" {
		now = append(now, k.written.beyond)
	}
	for _, n := range now {
		if !slices.Contains(k.unseen, n) {
			k.log.Warn("files", "note", n)
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.unseen = now
	k.view.Notes = k.allNotes()
}

// blindNote says that nothing is watched, and why.
func blindNote(err error) string {
	note := fmt.Sprintf("files that it writes and closes are not captured, only those that it has open at a checkpoint (%v); `--data DIR` captures a directory whole", err)
	if errors.Is(err, syscall.EMFILE) {
		note += "; `sysctl fs.fanotify.max_user_groups` is how many workloads can be watched"
	}
	return note
}

// allNotes is what the owner should know. The caller holds mu.
func (k *keeper) allNotes() []string { return slices.Concat(k.notes, k.unseen) }
