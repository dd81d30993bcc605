package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// Verify reads every byte of every generation and returns the damage, each
// with the generations that it touches. It needs no Lock. Damage is no error;
// an error says that the verification did not come to its end.
func (w *Workload) Verify(ctx context.Context) ([]Damage, error) {
	gens, err := w.list()
	if err != nil {
		return nil, fmt.Errorf("verify: %w", err)
	}
	v := &verifier{ctx: ctx, w: w, bad: map[place][]*Damage{}, seen: map[place]bool{}}
	for _, g := range gens {
		if err := v.generation(g); err != nil {
			return nil, fmt.Errorf("verify %v: %w", g, err)
		}
	}
	var all []Damage
	for _, d := range v.all {
		all = append(all, *d)
	}
	return all, nil
}

// verifier walks all generations and reads what they share once.
type verifier struct {
	ctx context.Context
	w   *Workload
	gen Generation
	all []*Damage

	seen map[place]bool      // nodes and pieces of blobs that were read
	bad  map[place][]*Damage // of those, the damage in and below them
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
	for _, b := range r.m.Blobs {
		for _, p := range b.Pieces {
			e := p.entry()
			if _, err := v.once(e.place, func() ([]*Damage, error) {
				_, err := r.packs.frame(kindBlob, e)
				return v.note(err)
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
func (v *verifier) note(err error) ([]*Damage, error) {
	var de *DamageError
	if !errors.As(err, &de) {
		return nil, err
	}
	for _, d := range v.all {
		if d.Pack == de.Pack && d.Offset == de.Offset && d.What == de.What {
			v.touch(d)
			return []*Damage{d}, nil
		}
	}
	d := &Damage{DamageError: *de, Generations: []Generation{v.gen}}
	v.all = append(v.all, d)
	return []*Damage{d}, nil
}

// node verifies a node and what is below it.
func (v *verifier) node(s *SectionReader, e entry, level int) ([]*Damage, error) {
	return v.once(e.place, func() ([]*Damage, error) {
		if err := v.ctx.Err(); err != nil {
			return nil, err
		}
		n, err := s.c.src.read(e, level)
		if err != nil {
			return v.note(err)
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

// pages verifies the pages of a leaf.
func (v *verifier) pages(s *SectionReader, leaf *node) ([]*Damage, error) {
	var e []entry
	for i := range fan {
		if leaf.has(i) {
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
		found, err := v.note(err)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}
