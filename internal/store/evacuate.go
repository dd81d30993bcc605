package store

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/klauspost/compress/zstd"
)

// A pack lives for as long as one of its frames does, so changes that are
// scattered leave many packs with little alive in each. A commit therefore
// moves what is alive out of the emptiest of them: when more than half of the
// bytes are dead, and when there are too many packs. One commit moves so little
// that it does not take long, so that it may take several.

// victims chooses the packs to move out of. Packs of generation own are those
// of the draft itself.
func victims(packs []packUse, own Generation, l limits) map[PackID]bool {
	var size, dead int64
	var old []packUse
	for _, p := range packs {
		size += p.Size
		dead += p.Size - p.Live
		if p.Pack.Generation() != own {
			old = append(old, p)
		}
	}
	sparse := dead > l.dead && dead > size/2
	many := 0 // packs to get rid of, whatever is alive in them
	if len(packs) > l.packs {
		many = len(packs) - l.packs/2
	}
	slices.SortFunc(old, func(a, b packUse) int {
		if many > 0 {
			return cmp.Compare(a.Live, b.Live)
		}
		return cmp.Compare(a.Live*(b.Size>>10+1), b.Live*(a.Size>>10+1))
	})
	chosen := map[PackID]bool{}
	var bytes int64
	for _, p := range old {
		if bytes += p.Live; bytes > l.moved {
			break
		}
		if len(chosen) < many || sparse && p.Live <= p.Size/2 {
			chosen[p.Pack] = true
		}
	}
	return chosen
}

// evacuate moves what is alive in some old packs into the draft's own, if the
// manifest shows that this is due. It reports whether it changed anything.
func (d *Draft) evacuate(m *manifest) (bool, error) {
	from := victims(m.Packs, d.gen, d.w.o.limits)
	if len(from) == 0 {
		return false, nil
	}
	z, err := newZstd()
	if err != nil {
		return false, err
	}
	mv := &mover{from: from, in: d.src.r, out: d.out, z: z}
	for _, name := range slices.Sorted(maps.Keys(d.sections)) {
		t := d.sections[name].tree
		if !t.liesIn(from) {
			continue
		}
		if err := t.move(mv); err != nil {
			return false, fmt.Errorf("section %q: %w", name, err)
		}
	}
	for _, b := range d.blobs {
		for i, p := range b.Pieces {
			e := p.entry()
			if !from[e.pack] {
				continue
			}
			if err := mv.move(kindBlob, blobPiece, &e); err != nil {
				return false, fmt.Errorf("blob %q: %w", b.Name, err)
			}
			b.Pieces[i] = refOf(e)
		}
	}
	return true, nil
}

// mover writes frames once more, where they will stay for long: what can be
// compressed better than in a hurry is.
type mover struct {
	from map[PackID]bool
	in   *packReader
	out  *packWriter
	z    *zstd.Encoder
	dec  decoder
}

// move writes a frame once more and makes e lead there. A frame that is
// damaged stays where it is, and whoever reads it learns of that.
func (m *mover) move(kind byte, limit int, e *entry) error {
	b := make([]byte, e.cost())
	s, err := m.in.readAt(b, e.pack, int64(e.off))
	var p payload
	if err == nil {
		p, err = s.openFrame(b[frameHead:frameHead], b, e.off, kind)
		err = e.damaged(err)
	}
	if err == nil && p.codec == codecS2 {
		if p.data, err = m.dec.append(nil, p, limit); err == nil {
			p = encodeZstd(m.z, p.data)
		}
		err = e.damaged(err)
	}
	if errors.Is(err, ErrDamaged) {
		return nil
	}
	if err != nil {
		return err
	}
	at, err := m.out.append(kind, p)
	if err == nil {
		e.place = at
	}
	return err
}

// liesIn reports whether the tree has frames in one of the packs.
func (t *tree) liesIn(packs map[PackID]bool) bool {
	for p, n := range t.live {
		if n > 0 && packs[p] {
			return true
		}
	}
	return false
}

// move writes all pages and nodes that lie in some packs once more. Before
// and after it the tree is flushed.
func (t *tree) move(m *mover) error {
	t.base = nil // what it would find lies where we move out of
	err := t.loadRoot()
	if errors.Is(err, ErrDamaged) {
		return nil // it stays, and whoever reads it learns of that
	}
	if err != nil || t.root == nil {
		return err
	}
	if _, err := t.moveNode(t.root, m); err != nil {
		return err
	}
	return t.flush()
}

func (t *tree) moveNode(n *node, m *mover) (changed bool, err error) {
	if m.from[n.orig.pack] {
		t.change(n)
		n.orig, n.was, changed = place{}, "", true // it must not be found again where it was
	}
	for i := range fan {
		if !n.has(i) {
			continue
		}
		below := false
		if n.level == 0 {
			below, err = t.movePage(&n.e[i], m)
		} else {
			below, err = t.moveChild(n, i, m)
		}
		if below {
			t.change(n)
			changed = true
		}
		if err != nil {
			return changed, err
		}
	}
	return changed, nil
}

func (t *tree) moveChild(n *node, i int, m *mover) (changed bool, err error) {
	k, err := t.load(n.e[i].place, n.level-1)
	if errors.Is(err, ErrDamaged) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if changed, err = t.moveNode(k, m); changed {
		n.setKid(i, k)
	} else {
		t.loaded--
	}
	return changed, err
}

func (t *tree) movePage(e *entry, m *mover) (moved bool, err error) {
	if !m.from[e.pack] {
		return false, nil
	}
	old := *e
	if err := m.move(kindPage, PageSize, e); err != nil || *e == old {
		return false, err
	}
	t.live[old.pack] -= old.cost()
	t.live[e.pack] += e.cost()
	return true, nil
}
