package store

import (
	"context"
	"errors"
	"fmt"
)

// spot is where a frame begins.
type spot struct {
	pack PackID
	off  uint32
}

// spots are frames that are damaged; at offset 0 stands a whole pack.
type spots map[spot]bool

func (s spots) has(p place) bool {
	return len(s) > 0 && (s[spot{p.pack, p.off}] || s[spot{p.pack, 0}])
}

// Scrub reads all packs and returns what is damaged, as Verify does. pace is
// told how many bytes will be read next, and may let time pass. What is
// found damaged no later generation refers to: a page that is given to a draft
// is stored anew even if it is the same as before, so that a section that is
// written whole is whole. Scrub needs no Lock.
func (w *Workload) Scrub(ctx context.Context, pace func(bytes int64)) ([]Damage, error) {
	gens, err := w.list()
	if err != nil {
		return nil, fmt.Errorf("scrub: %w", err)
	}
	v := &verifier{ctx: ctx, w: w, bad: map[place][]*Damage{}, seen: map[place]bool{}, walked: map[PackID]*Damage{}, clean: map[PackID]bool{}, pace: pace}
	for _, g := range gens {
		if err := v.scrub(g); err != nil {
			return nil, fmt.Errorf("scrub %v: %w", g, err)
		}
	}
	if len(v.all) == 0 && len(v.unreferred()) == 0 {
		return nil, nil
	}
	found, err := w.Verify(ctx) // it knows what follows
	if err != nil {
		return nil, err
	}
	bad := spots{}
	for _, d := range found {
		if id, ok := packOfFile(d.Pack); ok {
			bad[spot{id, uint32(d.Offset)}] = true
		}
	}
	w.mu.Lock()
	w.bad = bad
	w.mu.Unlock()
	return found, nil
}

// scrub reads the packs of a generation that were not read yet.
func (v *verifier) scrub(g Generation) error {
	r, err := v.w.OpenGeneration(g)
	if errors.Is(err, ErrNotFound) {
		return nil // went away meanwhile
	}
	v.gen = g
	if err != nil {
		_, err := v.note(err, "")
		return err
	}
	defer r.Close()
	if _, err := v.w.firstManifest(g); err != nil {
		if _, err := v.note(err, ""); err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
	}
	packs := r.m.Packs
	for i := range r.m.Copies {
		packs = append(packs[:len(packs):len(packs)], packUse{Pack: packID(g, copiesIndex+i), Size: -1})
	}
	for _, p := range packs {
		if err := v.walk(r.packs, p); err != nil {
			return err
		}
	}
	return nil
}
