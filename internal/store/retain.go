package store

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/wakepoint/wakepoint/internal/disk"
	"github.com/wakepoint/wakepoint/internal/object"
)

// Retain keeps the newest generations and removes the others, then the packs
// to which nothing refers any more. A generation that somebody reads, or that
// a draft has as its parent, stays until a later call. The workload must be
// locked. keep is at least 1.
func (w *Workload) Retain(keep int) (removed []Generation, err error) {
	if keep < 1 {
		return nil, fmt.Errorf("retain: cannot keep %d generations", keep)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	gens, err := w.list()
	if err != nil {
		return nil, fmt.Errorf("retain: %w", err)
	}
	var old []Generation
	for i, g := range gens {
		if keep == 0 {
			old = gens[i:]
			break
		}
		// A generation that cannot be read is not one of those that are kept.
		if _, err := w.manifest(g); err == nil {
			keep--
		}
	}
	removed, err = w.remove(old)
	if err != nil {
		return removed, fmt.Errorf("retain: %w", err)
	}
	return removed, nil
}

// Drop removes the named generations, then the packs to which nothing refers
// any more, and returns those that are gone. One that somebody reads, or that a
// draft has as its parent, stays; one that is gone already is no error. The
// workload must be locked. The numbers are not used again.
func (w *Workload) Drop(gens []Generation) (removed []Generation, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	all, err := w.list()
	if err != nil {
		return nil, fmt.Errorf("drop: %w", err)
	}
	gone := slices.DeleteFunc(all, func(g Generation) bool { return !slices.Contains(gens, g) })
	removed, err = w.remove(gone)
	if err != nil {
		return removed, fmt.Errorf("drop: %w", err)
	}
	return removed, nil
}

// Forget removes one generation, and the packs to which nothing refers any
// more; ErrNotFound when there is none, ErrLocked while somebody reads it. The
// workload must be locked. The number is not used again.
func (w *Workload) Forget(g Generation) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, err := w.manifests.Stat(g.String()); isNotExist(err) {
		return fmt.Errorf("forget %v: %w", g, ErrNotFound)
	}
	removed, err := w.remove([]Generation{g})
	if err == nil && len(removed) == 0 {
		err = ErrLocked
	}
	if err != nil {
		return fmt.Errorf("forget %v: %w", g, err)
	}
	return nil
}

// remove removes those of the generations that nobody reads. The order is the
// promise: the numbers are noted, the manifests removed, their directory
// fsynced, and only then are packs deleted, so that no manifest that a power
// cut brings back refers to a pack that is gone. The caller holds w.mu.
func (w *Workload) remove(gens []Generation) ([]Generation, error) {
	if err := w.checkWriter(); err != nil {
		return nil, err
	}
	if len(gens) > 0 {
		top, err := w.list()
		if err != nil {
			return nil, err
		}
		if slices.Contains(gens, top[0]) {
			if err := w.writeState(w.state); err != nil {
				return nil, err
			}
		}
	}
	var removed []Generation
	var locks []io.Closer
	defer func() {
		for _, l := range locks {
			l.Close()
		}
	}()
	for _, g := range gens {
		l, err := w.manifests.Lock(g.String(), disk.Exclusive)
		if errors.Is(err, ErrLocked) {
			continue
		}
		if err != nil {
			return removed, err
		}
		locks = append(locks, l)
		if err := w.manifests.Delete(g.String()); err != nil {
			return removed, err
		}
		removed = append(removed, g)
	}
	if len(removed) > 0 {
		if err := w.manifests.Sync(); err != nil {
			return removed, err
		}
	}
	return removed, w.sweepPacks(len(removed) > 0)
}

// sweepPacks deletes the packs to which no manifest refers. What a manifest
// that cannot be read refers to is unknown, so it keeps every pack that is
// not newer than it. The draft that is open keeps its own packs by number and
// those of its parent by the parent's lock. Without synced the manifests are
// fsynced before the first one goes: one that is not seen any more may have
// been removed by somebody who could not make that durable.
func (w *Workload) sweepPacks(synced bool) error {
	names, err := w.packs.List()
	if err != nil {
		return err
	}
	gens, err := w.list()
	if err != nil {
		return err
	}
	used := map[PackID]bool{}
	copied := map[Generation]bool{} // those whose copies are needed
	var unknown Generation
	for _, g := range gens {
		copied[g] = true
		m, err := w.manifest(g)
		if err != nil {
			unknown = max(unknown, g)
			continue
		}
		for _, p := range m.Packs {
			used[p.Pack] = true
			copied[p.Pack.Generation()] = true
		}
	}
	for _, name := range names {
		id, ok := parsePackID(name)
		if !ok || used[id] || id.Generation() <= unknown || id.copies() && copied[id.Generation()] {
			continue
		}
		if w.draft != nil && id.Generation() == w.draft.gen {
			continue
		}
		if !synced {
			if err := w.manifests.Sync(); err != nil {
				return err
			}
			synced = true
		}
		if err := w.packs.Delete(name); err != nil {
			return err
		}
	}
	return nil
}

// unread returns ErrLocked if somebody reads one of the generations.
func (w *Workload) unread() error {
	gens, err := w.list()
	if err != nil {
		return err
	}
	for _, g := range gens {
		l, err := w.manifests.Lock(g.String(), disk.Exclusive)
		if err != nil {
			return fmt.Errorf("%v: %w", g, err)
		}
		l.Close()
	}
	return nil
}

// Size returns how many bytes the generations take on the disk: packs and
// manifests. It needs no Lock.
func (w *Workload) Size() (int64, error) {
	var size int64
	for _, d := range []*object.Dir{w.packs, w.manifests} {
		names, err := d.List()
		if err != nil {
			return 0, fmt.Errorf("size: %w", err)
		}
		for _, name := range names {
			info, err := d.Stat(name)
			if isNotExist(err) {
				continue // went away meanwhile
			}
			if err != nil {
				return 0, fmt.Errorf("size: %w", err)
			}
			size += info.Size()
		}
	}
	return size, nil
}
