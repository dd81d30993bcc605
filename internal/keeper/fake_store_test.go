package keeper

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/wakepoint/wakepoint/internal/engine"
	"github.com/wakepoint/wakepoint/internal/store"
)

// The store.

func (w *world) Dir() string { return w.dir }

func (w *world) Lock() (io.Closer, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.locked {
		return nil, store.ErrLocked
	}
	w.locked = true
	return closer(func() { w.mu.Lock(); w.locked = false; w.mu.Unlock() }), nil
}

type closer func()

func (c closer) Close() error { c(); return nil }

func (w *world) PutRecord(name string, data []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.step("record " + name); err != nil {
		return err
	}
	w.records[name] = data
	return nil
}

func (w *world) Record(name string) ([]byte, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p, ok := w.records[name]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return p, nil
}

func (w *world) Generations() ([]store.Info, []store.Damage, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var infos []store.Info
	var damages []store.Damage
	for g, f := range w.gens {
		if w.damage[g] {
			damages = append(damages, store.Damage{Generations: []store.Generation{g}})
			continue
		}
		infos = append(infos, f.info)
	}
	return infos, damages, nil
}

func (w *world) Begin(parent store.Generation, _ int64) (draft, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.step("begin"); err != nil {
		return nil, err
	}
	if parent != 0 && w.gens[parent] == nil {
		return nil, fmt.Errorf("parent %v: %w", parent, store.ErrNotFound)
	}
	w.tried++
	w.draft = &fakeDraft{w: w, parent: parent, g: &fakeGen{info: store.Info{Generation: w.tried, Parent: parent},
		blobs: map[string][]byte{}, pages: map[string]map[int64][]byte{}}}
	return w.draft, nil
}

func (w *world) OpenGeneration(g store.Generation) (reader, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.damage[g] {
		return nil, &store.DamageError{What: "manifest"}
	}
	if w.gens[g] == nil {
		return nil, store.ErrNotFound
	}
	return &fakeReader{w.gens[g]}, nil
}

func (w *world) Drop(gens []store.Generation) ([]store.Generation, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, g := range gens {
		delete(w.gens, g)
	}
	return gens, nil
}

func (w *world) Size() (int64, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return int64(len(w.gens)) * w.genSize, nil
}

// Scrub finds what is damaged of the newest generation, at no pace.
func (w *world) Scrub(ctx context.Context, _ func(int64)) ([]store.Damage, error) {
	if w.lasting {
		<-ctx.Done()
		w.mu.Lock()
		defer w.mu.Unlock()
		w.ended = true
		return nil, ctx.Err()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.scrubs++
	var found []store.Damage
	for g := range w.damage {
		found = append(found, store.Damage{DamageError: store.DamageError{Pack: "packs/" + g.String() + ".0"}, Generations: []store.Generation{g}})
	}
	return found, nil
}

func (w *world) Space() (free, total int64, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.free, 100, nil
}

type fakeDraft struct {
	w      *world
	parent store.Generation
	g      *fakeGen
	over   bool
}

func (d *fakeDraft) Waits() int { return 0 }
func (d *fakeDraft) Still(bool) {}

func (d *fakeDraft) Blob(name string, data []byte) error {
	d.w.mu.Lock()
	defer d.w.mu.Unlock()
	if err := d.w.step("blob " + name); err != nil {
		return err
	}
	d.g.blobs[name] = data
	return nil
}

func (d *fakeDraft) Section(name string, inherit bool) (engine.SectionSink, error) {
	d.w.mu.Lock()
	defer d.w.mu.Unlock()
	if err := d.w.step("section"); err != nil {
		return nil, err
	}
	pages := map[int64][]byte{}
	if inherit {
		old, ok := d.w.gens[d.parent].pages[name]
		if !ok {
			return nil, store.ErrNotFound
		}
		pages = maps.Clone(old)
	}
	d.g.pages[name] = pages
	return slowSection{fakeSection(pages), d.w}, nil
}

// slowSection takes its time for what it is given.
type slowSection struct {
	fakeSection
	w *world
}

func (s slowSection) Put(off int64, p []byte) error {
	time.Sleep(time.Duration(s.w.slowPut.Load()))
	return s.fakeSection.Put(off, p)
}

type fakeSection map[int64][]byte

func (s fakeSection) Put(off int64, p []byte) error {
	for i := int64(0); i < int64(len(p)); i += 4096 {
		s[off+i] = slices.Clone(p[i : i+4096])
	}
	return nil
}

func (s fakeSection) Zero(off, n int64) error {
	maps.DeleteFunc(s, func(o int64, _ []byte) bool { return o >= off && o < off+n })
	return nil
}

func (s fakeSection) Close() error { return nil }

func (s fakeSection) Each(from, to int64, f func(int64, []byte) error) error {
	for _, off := range slices.Sorted(maps.Keys(s)) {
		if off >= from && off < to {
			if err := f(off, s[off]); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s fakeSection) ReadAt(p []byte, off int64) (int, error) { return 0, errors.ErrUnsupported }

func (d *fakeDraft) Commit(ctx context.Context, pause time.Duration, tag string, meta map[string]string) (store.Info, error) {
	time.Sleep(time.Duration(d.w.slow.Load()))
	d.w.mu.Lock()
	defer d.w.mu.Unlock()
	d.over = true
	if err := d.w.step("commit"); err != nil {
		return store.Info{}, err
	}
	d.g.info.Pause, d.g.info.Tag, d.g.info.Meta, d.g.info.CommittedAt = pause, tag, meta, time.Now()
	d.g.info.NewBytes = d.w.genSize
	d.w.gens[d.g.info.Generation] = d.g
	if err := d.w.step("committed"); err != nil { // done but reported as an error
		return store.Info{}, err
	}
	return d.g.info, nil
}

func (d *fakeDraft) Abort() error { return nil }

type fakeReader struct{ g *fakeGen }

func (r *fakeReader) Close() error { return nil }

func (r *fakeReader) Blob(name string) ([]byte, error) {
	p, ok := r.g.blobs[name]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return p, nil
}

func (r *fakeReader) Section(name string) (engine.SectionSource, error) {
	p, ok := r.g.pages[name]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return fakeSection(p), nil
}

// trace returns the steps whose names begin with one of prefixes.
func (w *world) trace(prefixes ...string) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []string
	for _, s := range w.steps {
		for _, p := range prefixes {
			if strings.HasPrefix(s, p) {
				out = append(out, s)
			}
		}
	}
	return out
}
