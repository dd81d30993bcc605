package store

import "errors"

// tree is a section being changed. It holds the nodes that were touched; what
// was not stays where it is. One goroutine at a time may use it.
type tree struct {
	src *nodes
	out *packWriter
	max int   // limits.treeNodes
	bad spots // see Scrub

	root  *node // nil: ref says where it is
	ref   place // none: the tree is empty
	level int   // of the root

	// base is where pages and nodes are looked for that need not be written
	// again: the parent's section of the same name, when the tree did not
	// start out as it. Else nil.
	base *cursor

	pages  int64            // present
	live   map[PackID]int64 // bytes of frames that the tree refers to
	loaded int              // nodes in memory

	leaf   *node // the last one that put found, nil: look
	leafAt int64 // page >> fanBits
	path   [levelMax + 1]*node
}

// newTree begins a tree: as the section s when inherit is set, else empty.
// s may be nil.
func newTree(d *Draft, s *sectionRef, inherit bool) *tree {
	t := &tree{src: d.src, out: d.out, max: d.w.o.limits.treeNodes, bad: d.bad, live: map[PackID]int64{}}
	switch {
	case inherit:
		root, level := s.root()
		t.ref, t.level = root.place, level
		t.pages = s.Pages
		for _, l := range s.Live {
			t.live[l.Pack] = l.Live
		}
	case s != nil:
		t.base = newCursor(d.src, s)
	}
	return t
}

// section returns what the manifest says of the tree. It must be flushed.
func (t *tree) section(name string) sectionRef {
	s := sectionRef{Name: name, Level: t.level, Pages: t.pages}
	if t.ref.none() {
		s.Level = 0
		return s
	}
	s.Root = []frameRef{refOf(entry{place: t.ref})}
	for pack, n := range t.live {
		if n != 0 {
			s.Live = append(s.Live, packLive{Pack: pack, Live: n})
		}
	}
	sortLive(s.Live)
	return s
}

// load brings a node into memory.
func (t *tree) load(e place, level int) (*node, error) {
	n, err := t.src.read(e, level)
	if err == nil {
		t.loaded++
	}
	return n, err
}

// grow makes the root cover a page.
func (t *tree) grow(page int64) error {
	if err := t.loadRoot(); err != nil {
		return err
	}
	if t.root == nil {
		for t.level = 0; page >= span(t.level); {
			t.level++
		}
		t.root = t.newNode(t.level)
		return nil
	}
	for page >= span(t.level) {
		t.level++
		up := t.newNode(t.level)
		up.mask = 1
		up.e[0].place = t.root.orig
		up.setKid(0, t.root)
		t.root = up
	}
	return nil
}

func (t *tree) loadRoot() (err error) {
	if t.root == nil && !t.ref.none() {
		t.root, err = t.load(t.ref, t.level)
	}
	return err
}

func (t *tree) newNode(level int) *node {
	t.loaded++
	return &node{level: level, dirty: true}
}

// change notes that a node will not stay as it was written. Its parent must
// have been changed before.
func (t *tree) change(n *node) {
	if n.dirty {
		return
	}
	n.dirty = true
	t.live[n.orig.pack] -= n.orig.cost()
}

// find makes t.path lead to the leaf of a page, loading and making nodes as
// needed. A node that it makes is below nodes that are marked as changed.
func (t *tree) find(page int64) error {
	if t.leaf != nil && t.leafAt == page>>fanBits {
		return nil
	}
	t.leaf = nil
	if err := t.grow(page); err != nil {
		return err
	}
	n := t.root
	for l := t.level; l > 0; l-- {
		t.path[l] = n
		i := childOf(l, page)
		k := n.kid(i)
		if k == nil && n.has(i) {
			var err error
			if k, err = t.load(n.e[i].place, l-1); err != nil {
				return err
			}
			n.setKid(i, k)
		}
		if k == nil {
			for up := t.level; up >= l; up-- {
				t.change(t.path[up])
			}
			k = t.newNode(l - 1)
			n.mask |= 1 << i
			n.setKid(i, k)
		}
		n = k
	}
	t.path[0] = n
	t.leaf, t.leafAt = n, page>>fanBits
	return nil
}

// put makes p the contents of a page. What the page is already, or was in the
// base, is not written again.
func (t *tree) put(page int64, id identity, p payload) error {
	if t.loaded > t.max {
		if err := t.flush(); err != nil {
			return err
		}
	}
	if err := t.find(page); err != nil {
		return err
	}
	i := childOf(0, page)
	if t.leaf.has(i) && t.leaf.e[i].id == id && !t.bad.has(t.leaf.e[i].place) {
		return nil
	}
	e := entry{id: id}
	if t.base != nil {
		old, err := t.base.page(page)
		if err := t.forgive(err); err != nil {
			return err
		}
		if old.id == id && !old.none() && !t.bad.has(old.place) {
			e = old
		}
	}
	if e.none() {
		at, err := t.out.append(kindPage, p)
		if err != nil {
			return err
		}
		e.place = at
	}
	t.set(i, e)
	return nil
}

// set puts an entry into the leaf that was found.
func (t *tree) set(i int, e entry) {
	for l := t.level; l >= 0; l-- {
		t.change(t.path[l])
	}
	if t.leaf.has(i) {
		t.live[t.leaf.e[i].pack] -= t.leaf.e[i].cost()
	} else {
		t.pages++
		t.leaf.mask |= 1 << i
	}
	t.leaf.e[i] = e
	t.live[e.pack] += e.cost()
}

// zero makes the pages from..to-1 holes. It costs what is there, not how long
// the range is.
func (t *tree) zero(from, to int64) error {
	t.leaf = nil
	if err := t.loadRoot(); err != nil || t.root == nil {
		return err
	}
	_, err := t.clear(t.root, 0, from, to)
	return err
}

// clear is zero below a node whose first page is first. It reports whether
// anything changed.
func (t *tree) clear(n *node, first, from, to int64) (changed bool, err error) {
	width := span(n.level) / fan
	for i := range fan {
		lo := first + int64(i)*width
		if !n.has(i) || lo >= to || lo+width <= from {
			continue
		}
		if from <= lo && lo+width <= to {
			t.change(n)
			changed = true
			if err := t.drop(n, i); err != nil {
				return changed, err
			}
			continue
		}
		k, err := t.child(n, i)
		if err != nil {
			return changed, err
		}
		below, err := t.clear(k, lo, from, to)
		if below {
			t.change(n)
			changed = true
		}
		if err != nil {
			return changed, err
		}
		if k.mask == 0 {
			n.mask &^= 1 << i
			n.kids[i] = nil
			t.loaded--
		}
	}
	return changed, nil
}

// child returns a child of an inner node, loaded.
func (t *tree) child(n *node, i int) (*node, error) {
	if k := n.kid(i); k != nil {
		return k, nil
	}
	k, err := t.load(n.e[i].place, n.level-1)
	if err == nil {
		n.setKid(i, k)
	}
	return k, err
}

// drop takes a child away with all that is below it. n is changed already.
func (t *tree) drop(n *node, i int) error {
	if n.level == 0 {
		t.live[n.e[i].pack] -= n.e[i].cost()
		t.pages--
		n.mask &^= 1 << i
		return nil
	}
	k, err := t.child(n, i)
	if err != nil {
		return err
	}
	t.change(k)
	for j := range fan {
		if k.has(j) {
			if err := t.drop(k, j); err != nil {
				return err
			}
		}
	}
	n.mask &^= 1 << i
	n.kids[i] = nil
	t.loaded--
	return nil
}

// flush writes the nodes that were changed, children before their parents,
// and forgets all nodes.
func (t *tree) flush() error {
	if t.root == nil {
		return nil
	}
	ref, err := t.write(t.root, 0)
	if err != nil {
		return err
	}
	t.ref, t.root, t.leaf, t.loaded = ref, nil, nil, 0
	t.path = [levelMax + 1]*node{}
	return nil
}

// write returns the place of a node whose first page is first, after writing
// it if that is needed; none when nothing is left in it.
func (t *tree) write(n *node, first int64) (place, error) {
	if !n.dirty {
		return n.orig, nil
	}
	width := span(n.level) / fan
	for i := range fan {
		k := n.kid(i)
		if k == nil {
			continue
		}
		at, err := t.write(k, first+int64(i)*width)
		if err != nil {
			return place{}, err
		}
		n.e[i].place = at
		if at.none() {
			n.mask &^= 1 << i
		}
	}
	if n.mask == 0 {
		return place{}, nil
	}
	b := encodeNode(n)
	at, err := t.known(n, first, b)
	if err != nil {
		return place{}, err
	}
	if at.none() {
		if at, err = t.out.node(b); err != nil {
			return place{}, err
		}
	}
	t.live[at.pack] += at.cost()
	return at, nil
}

// known returns the place of a node that was read, or that lies at the same
// position in the base, if it is just like b; else none.
func (t *tree) known(n *node, first int64, b []byte) (place, error) {
	if n.was == string(b) && !t.bad.has(n.orig) {
		return n.orig, nil
	}
	if t.base != nil {
		old, _, err := t.base.node(n.level, first)
		if err := t.forgive(err); err != nil {
			return place{}, err
		}
		if old != nil && old.was == string(b) && !t.bad.has(old.orig) {
			return old.orig, nil
		}
	}
	return place{}, nil
}

// forgive goes on without the base when that is damaged: a section that is
// written whole needs no other one.
func (t *tree) forgive(err error) error {
	if errors.Is(err, ErrDamaged) {
		t.base = nil
		return nil
	}
	return err
}
