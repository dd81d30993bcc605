package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"github.com/wakepoint/wakepoint/internal/object"
)

// Verify reads every byte of every generation, of the records and of what the
// workload is opened with, and returns the damage, each with the generations
// that it touches. It needs no Lock. Damage is no error; an error says that
// the verification did not come to its end.
func (w *Workload) Verify(ctx context.Context) ([]Damage, error) {
	small, err := w.Damage()
	if err != nil {
		return nil, fmt.Errorf("verify: %w", err)
	}
	gens, err := w.list()
	if err != nil {
		return nil, fmt.Errorf("verify: %w", err)
	}
	v := &verifier{ctx: ctx, w: w, bad: map[place][]*Damage{}, seen: map[place]bool{}, walked: map[PackID]*Damage{}, clean: map[PackID]bool{}}
	for _, g := range gens {
		if err := v.generation(g); err != nil {
			return nil, fmt.Errorf("verify %v: %w", g, err)
		}
	}
	all := small
	for _, d := range append(v.all, v.unreferred()...) {
		all = append(all, *d)
	}
	return all, nil
}

// Damage returns what is damaged of the files that a workload is opened with:
// what it is, its state, its records. It reads those alone and needs no Lock.
func (w *Workload) Damage() ([]Damage, error) {
	var all []Damage
	w.mu.Lock()
	if w.damage != nil {
		all = append(all, *w.damage)
	}
	w.mu.Unlock()
	gens, err := w.list()
	if err != nil {
		return nil, err
	}
	b, err := readRecord(w.fs, w.keys, filepath.Join(w.dir, stateFile))
	if err == nil {
		err = decodeState(b, new(state))
	}
	// Whoever commits has written the state before.
	if d := damageIn(stateFile, err); d != nil && (len(gens) > 0 || !errors.Is(err, fs.ErrNotExist)) {
		d.Follows = "it is made again from the generations when a keeper takes the workload"
		all = append(all, *d)
	}
	records := object.Open(w.fs, filepath.Join(w.dir, recordsDir))
	names, err := records.List()
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if CheckName(name) != nil {
			continue
		}
		_, err := w.Record(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // went away meanwhile
		}
		if d := damageIn(recordsDir+"/"+name, err); d != nil {
			all = append(all, *d)
		} else if err != nil {
			return nil, err
		}
	}
	return all, nil
}

// verifier walks all generations and reads what they share once.
type verifier struct {
	ctx context.Context
	w   *Workload
	gen Generation
	all []*Damage

	pace func(bytes int64) // nil: as fast as it goes

	seen map[place]bool      // nodes and pieces of blobs that were read
	bad  map[place][]*Damage // of those, the damage in and below them

	walked map[PackID]*Damage // packs of which every frame was read; nil: all are whole
	clean  map[PackID]bool    // those of them that are whole to the last byte
}

func (v *verifier) generation(g Generation) error {
	r, err := v.w.OpenGeneration(g)
	if errors.Is(err, ErrNotFound) {
		return nil // went away meanwhile
	}
	v.gen = g
	if err != nil {
		d := damageOf(err, manifestsDir+"/"+g.String(), g)
		v.all = append(v.all, &d)
		return nil
	}
	defer r.Close()
	if err := v.copies(r); err != nil {
		return err
	}
	for _, p := range r.m.Packs {
		if err := v.walk(r.packs, p); err != nil {
			return err
		}
	}
	for _, b := range r.m.Blobs {
		for _, p := range b.Pieces {
			e := p.entry()
			if _, err := v.once(e.place, func() ([]*Damage, error) {
				_, err := r.packs.blob(e)
				return v.note(err, "")
			}); err != nil {
				return err
			}
		}
	}
	for i := range r.m.Sections {
		s := &SectionReader{r: r, s: &r.m.Sections[i]}
		s.c = newCursor(&nodes{r: r.packs}, s.s)
		if s.c.root.none() {
			continue
		}
		if _, err := v.node(s, s.c.root, s.c.level); err != nil {
			return err
		}
	}
	return nil
}

// copies verifies the second copies of what a generation wrote, and the first
// one of its manifest. That they stand for each other touches no generation.
func (v *verifier) copies(r *Reader) error {
	_, err := v.w.firstManifest(v.gen)
	for _, err := range append([]error{err, r.packs.checkCopies(r.m)}, v.orphans(r)...) {
		var de *DamageError
		if errors.As(err, &de) {
			v.all = append(v.all, &Damage{DamageError: *de, Follows: "the other copy is whole: no generation is touched"})
		} else if err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
	}
	return nil
}

// orphans verifies the copies of what generations wrote that were removed, and
// of which this one still has a part.
func (v *verifier) orphans(r *Reader) (wrong []error) {
	for _, p := range r.m.Packs {
		g := p.Pack.Generation()
		first := packID(g, copiesIndex)
		if _, done := v.walked[first]; done {
			continue
		}
		if _, err := v.w.manifests.Stat(g.String()); isNotExist(err) {
			v.walked[first] = nil
			wrong = append(wrong, r.packs.checkOrphans(g))
		}
	}
	return wrong
}

// once calls check the first time that it comes to a place. Later it only
// notes that what was found there touches this generation too.
func (v *verifier) once(p place, check func() ([]*Damage, error)) ([]*Damage, error) {
	if v.seen[p] {
		for _, d := range v.bad[p] {
			v.touch(d)
		}
		return v.bad[p], nil
	}
	found, err := check()
	if err != nil {
		return nil, err
	}
	v.seen[p] = true
	if len(found) > 0 {
		v.bad[p] = found
	}
	return found, nil
}

func (v *verifier) touch(d *Damage) {
	if !slices.Contains(d.Generations, v.gen) {
		d.Generations = append(d.Generations, v.gen)
	}
}

// note turns an error of reading into a damage, and leaves others alone. The
// same damage, met on another way, is not another one.
func (v *verifier) note(err error, section string) ([]*Damage, error) {
	var de *DamageError
	if !errors.As(err, &de) {
		return nil, err
	}
	for _, d := range v.all {
		if d.Pack == de.Pack && d.Offset == de.Offset && d.What == de.What {
			v.touch(d)
			if d.Section != section {
				d.Section = ""
			}
			return []*Damage{d}, nil
		}
	}
	d := &Damage{DamageError: *de, Generations: []Generation{v.gen}, Section: section}
	v.all = append(v.all, d)
	return []*Damage{d}, nil
}

// node verifies a node and what is below it.
func (v *verifier) node(s *SectionReader, e entry, level int) ([]*Damage, error) {
	return v.once(e.place, func() ([]*Damage, error) {
		if err := v.ctx.Err(); err != nil {
			return nil, err
		}
		n, err := s.c.src.first(e.place, level)
		if errors.Is(err, ErrDamaged) {
			n, err = v.copied(s, e.place, level, err)
		}
		if err != nil {
			return v.note(err, s.s.Name)
		}
		if level == 0 {
			return v.pages(s, n)
		}
		var all []*Damage
		for i := range fan {
			if !n.has(i) {
				continue
			}
			found, err := v.node(s, n.e[i], level-1)
			if err != nil {
				return nil, err
			}
			all = append(all, found...)
		}
		return all, nil
	})
}

// copied notes that the first copy of a node is damaged, and returns the
// second one, or the error when that is damaged too.
func (v *verifier) copied(s *SectionReader, at place, level int, damage error) (*node, error) {
	n, err := s.c.src.second(at, level)
	var de *DamageError
	if err != nil || !errors.As(damage, &de) {
		return nil, damage
	}
	v.all = append(v.all, &Damage{DamageError: *de, Follows: "its copy is whole: no generation is touched"})
	return n, nil
}

// pages verifies the pages of a leaf, but for those in packs that are whole:
// every frame of these was read, and a leaf that changes in one page would have
// all of them read again.
func (v *verifier) pages(s *SectionReader, leaf *node) ([]*Damage, error) {
	var e []entry
	for i := range fan {
		if leaf.has(i) && !v.clean[leaf.e[i].pack] {
			e = append(e, leaf.e[i])
		}
	}
	if _, err := s.pages(e); err == nil {
		return nil, nil
	}
	// One of them is damaged; find out which.
	var all []*Damage
	for i := range e {
		_, err := s.pages(e[i : i+1])
		if err == nil {
			continue
		}
		found, err := v.note(err, s.s.Name)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}
