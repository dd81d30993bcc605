package store

// cursor looks pages up in a committed tree. It keeps the last path, so that
// looking up in order reads every node once. One goroutine at a time may use
// it.
type cursor struct {
	src   *nodes
	root  entry // none: an empty tree
	level int   // of the root

	path [levelMax + 1]*node // by level
	at   [levelMax + 1]int64 // what path covers: page >> bits of the level
}

func newCursor(src *nodes, s *sectionRef) *cursor {
	c := &cursor{src: src}
	c.root, c.level = s.root()
	return c
}

// node returns the node of a level above a page. It returns nil where there
// is none, and then the first page after the hole.
func (c *cursor) node(level int, page int64) (*node, int64, error) {
	if c.root.none() || page >= span(c.level) || level > c.level {
		return nil, 1 << (fanBits * (levelMax + 1)), nil
	}
	e := c.root
	for l := c.level; ; l-- {
		n, err := c.load(l, page, e)
		if err != nil || l == level {
			return n, 0, err
		}
		i := childOf(l, page)
		if !n.has(i) {
			width := span(l - 1)
			return nil, page&^(width-1) + width, nil
		}
		e = n.e[i]
	}
}

// load returns the node e, which covers page on a level, from the path if it
// is there.
func (c *cursor) load(level int, page int64, e entry) (*node, error) {
	at := page >> (fanBits * (level + 1))
	if n := c.path[level]; n != nil && c.at[level] == at {
		return n, nil
	}
	n, err := c.src.read(e.place, level)
	if err != nil {
		return nil, err
	}
	c.path[level], c.at[level] = n, at
	return n, nil
}

// page returns the entry of a page; none for a hole.
func (c *cursor) page(page int64) (entry, error) {
	n, _, err := c.node(0, page)
	if err != nil || n == nil || !n.has(childOf(0, page)) {
		return entry{}, err
	}
	return n.e[childOf(0, page)], nil
}
