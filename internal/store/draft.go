package store

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"unicode/utf8"

	"github.com/restic/chunker"

	"github.com/wakepoint/wakepoint/internal/seal"
)

const (
	blobInline = 1 << 10   // bytes up to which a blob lies in the manifest
	blobWhole  = 128 << 10 // bytes up to which it is one piece
	blobPiece  = 1 << 20   // bytes of one piece of a longer one, at most
	labelMax   = 1 << 10   // bytes of the name of a blob or a section
)

var (
	errEnded   = errors.New("the draft has ended")
	errAborted = errors.New("the draft was aborted")
)

// Draft is a generation being written. Its methods, and those of its
// sections, must be called one at a time. What they are given is copied into
// a buffer and stored in the background; they block when the buffer is full.
// Every draft must end with Commit or Abort.
type Draft struct {
	w      *Workload
	gen    Generation
	epoch  uint64
	parent *Reader // nil: none
	ended  bool

	sections map[string]*SectionWriter
	named    map[string]bool // blobs that were given
	feed     *feed

	// What follows belongs to the feed's last goroutine until it has finished.
	src   *nodes
	out   *packWriter
	blobs []blobRef
	hash  *seal.Hash
	bad   spots // see Scrub
}

// Begin begins the next generation. parent is the one that the program's
// state comes from, whose sections may be inherited and whose pages are not
// written again; 0 is none. Only one draft can be open, and the workload must
// be locked (ErrNotLocked).
func (w *Workload) Begin(parent Generation) (*Draft, error) {
	return w.BeginBuffered(parent, w.o.Buffer)
}

// BeginBuffered is Begin with a buffer of so many bytes.
func (w *Workload) BeginBuffered(parent Generation, buffer int64) (*Draft, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.checkWriter(); err != nil {
		return nil, fmt.Errorf("begin generation: %w", err)
	}
	if w.draft != nil {
		return nil, fmt.Errorf("begin generation: %v is being written", w.draft.gen)
	}
	gen := Generation(w.state.Tried + 1)
	if gen > generationMax {
		return nil, errors.New("begin generation: no numbers left")
	}
	d := &Draft{
		w:        w,
		gen:      gen,
		epoch:    w.state.Epoch,
		sections: map[string]*SectionWriter{},
		named:    map[string]bool{},
		out:      newPackWriter(w, gen),
		src:      &nodes{},
	}
	if parent != 0 {
		r, err := w.OpenGeneration(parent)
		if err != nil {
			return nil, fmt.Errorf("begin generation: parent: %w", err)
		}
		d.parent = r
		d.src.r = r.packs
	}
	d.src.own = d.out
	d.bad = w.bad
	d.hash = w.keys.identities().Hash()
	d.feed = newFeed(buffer, w.expect, w.keys, d.apply)
	w.state.Tried++ // in memory: what a draft leaves on disk carries its number
	w.draft = d
	return d, nil
}

// Still says whether the program whose state this is stands still from now on.
// Meanwhile what is given is only copied, until half the buffer is full.
func (d *Draft) Still(yes bool) { d.feed.stand(yes) }

// Waits returns how often a Put has waited for room in the buffer while the
// program stood still.
func (d *Draft) Waits() int { return d.feed.waits }

// Generation returns the number that the draft will have when committed.
func (d *Draft) Generation() Generation { return d.gen }

// Blob stores a small value. Each name can be given once.
func (d *Draft) Blob(name string, data []byte) error {
	if err := d.name("blob", name, d.named[name]); err != nil {
		return err
	}
	d.named[name] = true
	d.feed.do(op{verb: opBlob, name: name, data: append([]byte{}, data...)})
	return nil
}

// Section begins a section, each name once. With inherit it starts out as the
// section of this name in the parent, and it is an error when there is none;
// without, it starts out as all holes. Pages that the parent has at the same
// place are not stored again either way. Sections that a draft does not begin
// are not in its generation.
func (d *Draft) Section(name string, inherit bool) (*SectionWriter, error) {
	if err := d.name("section", name, d.sections[name] != nil); err != nil {
		return nil, err
	}
	var old *sectionRef
	if d.parent != nil {
		old = d.parent.m.section(name)
	}
	if inherit && old == nil {
		return nil, fmt.Errorf("section %q: nothing to inherit: %w", name, ErrNotFound)
	}
	s := &SectionWriter{d: d, name: name, tree: newTree(d, old, inherit)}
	d.sections[name] = s
	return s, nil
}

func (d *Draft) name(what, name string, taken bool) error {
	switch {
	case d.ended:
		return fmt.Errorf("%s %q: %w", what, name, errEnded)
	case name == "" || len(name) > labelMax || !utf8.ValidString(name):
		return fmt.Errorf("%s %q: %w", what, name, ErrName)
	case taken:
		return fmt.Errorf("%s %q: %w", what, name, ErrExist)
	}
	return d.feed.failed()
}

// SectionWriter writes one section of a draft.
type SectionWriter struct {
	d      *Draft
	name   string
	closed bool
	tree   *tree // belongs to the feed's last goroutine
}

// Put stores p at off; the last call for a page wins. off and len(p) are
// multiples of PageSize, and off+len(p) is at most 1<<52. p may be reused when
// Put returns. Put returns errors of the background late; the first one is
// returned by Commit in any case.
func (s *SectionWriter) Put(off int64, p []byte) error {
	if err := s.check(off, int64(len(p))); err != nil {
		return fmt.Errorf("put %q: %w", s.name, err)
	}
	s.d.feed.put(s, off, p)
	return nil
}

// Zero makes [off, off+n) holes. It costs what is present there, not n.
func (s *SectionWriter) Zero(off, n int64) error {
	if err := s.check(off, n); err != nil {
		return fmt.Errorf("zero %q: %w", s.name, err)
	}
	if n > 0 {
		s.d.feed.do(op{verb: opZero, s: s, off: off, n: n})
	}
	return nil
}

func (s *SectionWriter) check(off, n int64) error {
	switch {
	case s.closed || s.d.ended:
		return errEnded
	case off < 0 || n < 0 || off > sizeMax-n || off%PageSize != 0 || n%PageSize != 0:
		return fmt.Errorf("bad range %#x+%#x", off, n)
	}
	return s.d.feed.failed()
}

// Close ends the section; without it the draft cannot be committed. It does
// not wait for the background.
func (s *SectionWriter) Close() error {
	if s.closed || s.d.ended {
		return fmt.Errorf("close %q: %w", s.name, errEnded)
	}
	s.closed = true
	s.d.feed.do(op{verb: opClose, s: s})
	return s.d.feed.failed()
}

// apply does the operations of a chunk.
func (d *Draft) apply(c *chunk) error {
	for i := range c.ops {
		o := &c.ops[i]
		var err error
		switch o.verb {
		case opPut:
			err = o.s.put(c, o)
		case opZero:
			err = o.s.tree.zero(o.off/PageSize, (o.off+o.n)/PageSize)
		case opClose:
			err = o.s.tree.flush() // so that only open sections take memory
		case opBlob:
			err = d.putBlob(o.name, o.data)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *SectionWriter) put(c *chunk, o *op) error {
	first := o.off / PageSize
	for i := range o.n / PageSize {
		at := o.at/PageSize + int(i)
		page := first + i
		var err error
		if c.zero[at] {
			err = s.tree.zero(page, page+1)
		} else {
			err = s.tree.put(page, c.ids[at], c.enc[at])
		}
		if err != nil {
			return fmt.Errorf("section %q: %w", s.name, err)
		}
	}
	return nil
}

func (d *Draft) putBlob(name string, data []byte) error {
	ref := blobRef{Name: name}
	if len(data) <= blobInline {
		ref.Inline = data
		d.blobs = append(d.blobs, ref)
		return nil
	}
	known := map[identity]entry{}
	if d.parent != nil {
		if old := d.parent.m.blob(name); old != nil {
			for _, p := range old.Pieces {
				known[p.entry().id] = p.entry()
			}
		}
	}
	for p := range pieces(data) {
		e := entry{}
		d.hash.Sum(e.id[:], p)
		if old, ok := known[e.id]; ok && !d.bad.has(old.place) {
			e = old
		}
		if e.none() {
			at, err := d.out.append(kindBlob, encodeS2(nil, p))
			if err != nil {
				return fmt.Errorf("blob %q: %w", name, err)
			}
			e.place = at
		}
		known[e.id] = e
		ref.Pieces = append(ref.Pieces, refOf(e))
	}
	d.blobs = append(d.blobs, ref)
	return nil
}

// pieces cuts a blob: a short one not at all, a longer one where its contents
// say so, so that what has changed in a list does not move all that follows.
func pieces(data []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		if len(data) <= blobWhole {
			yield(data)
			return
		}
		c := chunker.NewWithBoundaries(bytes.NewReader(data), chunker.Pol(0x3DA3358B4DC173), blobWhole/8, blobPiece)
		c.SetAverageBits(16)
		buf := make([]byte, blobPiece)
		for {
			next, err := c.Next(buf) // the end is its only error
			if err != nil || !yield(next.Data) {
				return
			}
		}
	}
}
