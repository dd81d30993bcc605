package engine

import (
	"fmt"
	"slices"

	"github.com/wakepoint/wakepoint/internal/sys"
)

// shared are the kinds of resource that processes may share only in ways that
// are saved: threads of one process all of them, different processes none.
var shared = []struct {
	kind int
	what string
}{
	{sys.KcmpVM, "memory (CLONE_VM)"},
	{sys.KcmpFiles, "a descriptor table (CLONE_FILES)"},
	{sys.KcmpFS, "directories and umask (CLONE_FS)"},
}

const unshareHint = "start it without what makes processes or threads so"

// sharing refuses processes that share what is saved for each by itself, and
// threads that do not share what is saved once for all of them.
func (d *dumper) sharing() error {
	var alive []*process
	for _, p := range d.f.processes {
		if !p.zombie {
			alive = append(alive, p)
		}
	}
	for _, s := range shared {
		if err := d.f.unshared(alive, s.kind, s.what); err != nil {
			return err
		}
	}
	for _, p := range alive {
		for _, t := range p.threads[1:] {
			for _, s := range shared[1:] {
				same, err := sys.Kcmp(p.pid, t.TID, s.kind, 0, 0)
				if err != nil {
					return fmt.Errorf("compare threads: %w", err)
				}
				if same != 0 {
					_ = d.f.note(refuse(p.pid, fmt.Sprintf("thread %d of pid %d does not share %s with the others", t.TID, p.pid, s.what), unshareHint))
				}
			}
		}
	}
	return nil
}

// unshared refuses two processes that share a resource. The kernel orders
// them, so that those that share lie side by side (kcmp(2)).
func (f *Frozen) unshared(list []*process, kind int, what string) error {
	var failed error
	sorted := slices.SortedFunc(slices.Values(list), func(a, b *process) int {
		switch order, err := sys.Kcmp(a.pid, b.pid, kind, 0, 0); {
		case err != nil:
			failed = err
		case order == 1:
			return -1
		case order == 2:
			return 1
		}
		return 0
	})
	if failed != nil {
		return fmt.Errorf("compare processes: %w", failed)
	}
	for i := 0; i+1 < len(sorted); i++ {
		a, b := sorted[i], sorted[i+1]
		if same, err := sys.Kcmp(a.pid, b.pid, kind, 0, 0); err == nil && same == 0 {
			_ = f.note(refuse(b.pid, fmt.Sprintf("pid %d and pid %d share %s, which cannot be saved yet", a.pid, b.pid, what), unshareHint))
		}
	}
	return nil
}
