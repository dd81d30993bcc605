package store

import (
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/wakepoint/wakepoint/internal/disk"
)

// Reader reads one committed generation. Until it is closed nothing that the
// generation refers to is deleted. Everything that it returns was checked
// against its identity; what is not as it was written is a *DamageError.
// A Reader may be used from any goroutine, each of its sections from one at a
// time.
type Reader struct {
	w     *Workload
	m     *manifest
	lock  io.Closer
	packs *packReader
}

// OpenGeneration opens a generation for reading; ErrNotFound when there is
// none. It needs no Lock.
func (w *Workload) OpenGeneration(g Generation) (*Reader, error) {
	lock, err := w.manifests.Lock(g.String(), disk.Shared)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, disk.ErrLocked) {
		// The lock is exclusive only for as long as the manifest is being removed.
		return nil, fmt.Errorf("open generation %v: %w", g, ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("open generation %v: %w", g, err)
	}
	m, err := w.manifest(g)
	if err != nil {
		lock.Close()
		return nil, fmt.Errorf("open generation %v: %w", g, err)
	}
	return &Reader{w: w, m: m, lock: lock, packs: newPackReader(w.packs, w.keys)}, nil
}

// Info describes the generation.
func (r *Reader) Info() Info { return r.m.info() }

// Close ends the reading. No section may be in use.
func (r *Reader) Close() error {
	r.packs.close()
	return r.lock.Close()
}

// Blobs returns the names of the blobs, sorted.
func (r *Reader) Blobs() []string {
	var names []string
	for _, b := range r.m.Blobs {
		names = append(names, b.Name)
	}
	return names
}

// Sections returns the names of the sections, sorted.
func (r *Reader) Sections() []string {
	var names []string
	for _, s := range r.m.Sections {
		names = append(names, s.Name)
	}
	return names
}

// Blob returns a blob; fs.ErrNotExist when there is none.
func (r *Reader) Blob(name string) ([]byte, error) {
	b := r.m.blob(name)
	if b == nil {
		return nil, fmt.Errorf("blob %q: %w", name, fs.ErrNotExist)
	}
	data := append([]byte{}, b.Inline...)
	for _, p := range b.Pieces {
		piece, err := r.packs.blob(p.entry())
		if err != nil {
			return nil, fmt.Errorf("blob %q: %w", name, err)
		}
		data = append(data, piece...)
	}
	return data, nil
}

// Section opens a section; fs.ErrNotExist when there is none.
func (r *Reader) Section(name string) (*SectionReader, error) {
	s := r.m.section(name)
	if s == nil {
		return nil, fmt.Errorf("section %q: %w", name, fs.ErrNotExist)
	}
	return &SectionReader{r: r, s: s, c: newCursor(&nodes{r: r.packs}, s)}, nil
}

// SectionReader reads one section.
type SectionReader struct {
	r *Reader
	s *sectionRef
	c *cursor

	raw  []byte // frames as they lie in the pack
	data []byte // pages in a row
	dec  decoder
}

// Size returns the bytes that are present.
func (s *SectionReader) Size() int64 { return s.s.Pages * PageSize }

// Close ends the reading of the section.
func (s *SectionReader) Close() error {
	s.raw, s.data = nil, nil
	return nil
}

const (
	batchPages = 32 // pages that Each hands over at once, at most
	frameSize  = frameOverhead + PageSize
)

// Each calls f for the pages that are present in [from, to), in ascending
// order, several at a time where they lie side by side. from and to are
// multiples of PageSize. p is valid until f returns.
func (s *SectionReader) Each(from, to int64, f func(off int64, p []byte) error) error {
	if from%PageSize != 0 || to%PageSize != 0 || from < 0 {
		return fmt.Errorf("section %q: bad range %#x-%#x", s.s.Name, from, to)
	}
	b := batch{s: s, f: f}
	err := s.entries(from/PageSize, to/PageSize, b.add)
	if err == nil {
		err = b.flush()
	}
	return err
}

// entries calls f for the entry of each page present in [from, to).
func (s *SectionReader) entries(from, to int64, f func(page int64, e entry) error) error {
	for page := from; page < to; {
		leaf, next, err := s.c.node(0, page)
		if err != nil {
			return fmt.Errorf("section %q: %w", s.s.Name, err)
		}
		if leaf == nil {
			page = next
			continue
		}
		for end := min(to, page|(fan-1)+1); page < end; page++ {
			i := childOf(0, page)
			if !leaf.has(i) {
				continue
			}
			if err := f(page, leaf.e[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// batch gathers pages that lie side by side in the section.
type batch struct {
	s     *SectionReader
	f     func(off int64, p []byte) error
	first int64
	e     []entry
}

func (b *batch) add(page int64, e entry) error {
	if len(b.e) > 0 && (b.first+int64(len(b.e)) != page || len(b.e) == batchPages) {
		if err := b.flush(); err != nil {
			return err
		}
	}
	if len(b.e) == 0 {
		b.first = page
	}
	b.e = append(b.e, e)
	return nil
}

func (b *batch) flush() error {
	if len(b.e) == 0 {
		return nil
	}
	p, err := b.s.pages(b.e)
	if err != nil {
		return fmt.Errorf("section %q: %w", b.s.s.Name, err)
	}
	off := b.first * PageSize
	b.e = b.e[:0]
	return b.f(off, p)
}

// pages reads pages into a row, with one read for those that lie side by side
// in a pack too.
func (s *SectionReader) pages(e []entry) ([]byte, error) {
	if cap(s.data) < len(e)*PageSize {
		s.data = make([]byte, 0, max(len(e), batchPages)*PageSize)
	}
	s.data = s.data[:0]
	for len(e) > 0 {
		n := 1
		for n < len(e) && e[n].pack == e[0].pack && int64(e[n].off) == int64(e[n-1].off)+e[n-1].cost() {
			n++
		}
		if err := s.run(e[:n]); err != nil {
			return nil, err
		}
		e = e[n:]
	}
	return s.data, nil
}

// run appends to s.data pages whose frames lie side by side.
func (s *SectionReader) run(e []entry) error {
	last := e[len(e)-1]
	size := int64(last.off) + last.cost() - int64(e[0].off)
	if int64(cap(s.raw)) < size {
		s.raw = make([]byte, size, max(size, batchPages*frameSize))
	}
	raw := s.raw[:size]
	seal, err := s.r.packs.readAt(raw, e[0].pack, int64(e[0].off))
	if err != nil {
		return err
	}
	for i := range e {
		if err := s.page(seal, raw[:e[i].cost()], e[i].place); err != nil {
			return e[i].damaged(err)
		}
		raw = raw[e[i].cost():]
	}
	return nil
}

// page appends to s.data the page of a frame, which it uses up.
func (s *SectionReader) page(seal *packSeal, frame []byte, at place) error {
	n := len(s.data)
	if frame[1] == codecRaw {
		p, err := seal.openFrame(s.data, frame, at.off, kindPage)
		if err == nil && len(p.data) != PageSize {
			err = errors.New("page: wrong length")
		}
		if err == nil {
			s.data = s.data[:n+PageSize]
		}
		return err
	}
	p, err := seal.openFrame(frame[frameHead:frameHead], frame, at.off, kindPage)
	if err == nil {
		s.data, err = s.dec.append(s.data, p, PageSize)
	}
	if err == nil && len(s.data) != n+PageSize {
		s.data, err = s.data[:n], errors.New("page: wrong length")
	}
	return err
}

// ReadAt fills p from off; holes read as zero. It returns an error only for
// damage, or for a range that no section can have.
func (s *SectionReader) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off > sizeMax-int64(len(p)) {
		return 0, fmt.Errorf("section %q: bad range %#x+%#x", s.s.Name, off, len(p))
	}
	clear(p)
	end := off + int64(len(p))
	err := s.Each(off&^(PageSize-1), (end+PageSize-1)&^(PageSize-1), func(at int64, q []byte) error {
		if at < off {
			q, at = q[off-at:], off
		}
		copy(p[at-off:], q)
		return nil
	})
	if err != nil {
		return 0, err
	}
	return len(p), nil
}
