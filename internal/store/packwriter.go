package store

import (
	"errors"
	"fmt"
	"io"

	"github.com/wakepoint/wakepoint/internal/object"
	"github.com/wakepoint/wakepoint/internal/seal"
)

// packBuffer is the size of one write.
const packBuffer = 1 << 20

// packWriter writes the packs of one generation: those with its frames, and
// those with the second copies of its nodes. One goroutine at a time may use
// it. After an error nothing that it wrote may be referred to.
type packWriter struct {
	gen    Generation
	frames packStream
	copies copyWriter
}

func newPackWriter(w *Workload, gen Generation) *packWriter {
	stream := func(first int) packStream {
		return packStream{dir: w.packs, keys: w.keys, gen: gen, first: first, max: w.o.limits.packSize}
	}
	return &packWriter{gen: gen, frames: stream(0), copies: copyWriter{packStream: stream(copiesIndex)}}
}

// append appends one frame and returns where it lies.
func (p *packWriter) append(kind byte, data payload) (place, error) {
	return p.frames.append(kind, data)
}

// node appends a node, and its copy.
func (p *packWriter) node(b []byte) (place, error) {
	at, err := p.frames.append(kindNode, payload{codecRaw, b})
	if err == nil {
		err = p.copies.add(at, b)
	}
	return at, err
}

// bytes is what all packs take.
func (p *packWriter) bytes() int64 { return p.frames.bytes + p.copies.bytes }

// has reports whether this writer writes the pack.
func (p *packWriter) has(id PackID) bool { return p != nil && id.Generation() == p.gen }

// readAt reads back what was appended, and returns what breaks its seals.
func (p *packWriter) readAt(b []byte, id PackID, off int64) (*packSeal, error) {
	return p.frames.readAt(b, id, off)
}

// streams are the packs in the order in which they are made durable.
func (p *packWriter) streams() []*packStream {
	return []*packStream{&p.frames, &p.copies.packStream}
}

// sync makes the contents of all packs durable.
func (p *packWriter) sync() error {
	var first error
	for _, s := range p.streams() {
		if err := s.sync(); err != nil && first == nil {
			first = err
		}
	}
	return first
}

// publish gives the packs their names, durably. sync must have returned nil.
func (p *packWriter) publish() error {
	some := false
	for _, s := range p.streams() {
		for _, k := range s.packs {
			some = true
			if err := k.w.Publish(); err != nil {
				return fmt.Errorf("publish pack: %w", err)
			}
		}
	}
	if !some {
		return nil
	}
	if err := p.frames.dir.Sync(); err != nil {
		return fmt.Errorf("fsync packs: %w", err)
	}
	return nil
}

// settle waits for the fsyncs that go on by the side.
func (p *packWriter) settle() {
	for _, s := range p.streams() {
		for _, k := range s.packs {
			if k.synced != nil {
				k.synced <- <-k.synced
			}
		}
	}
}

// close lets go of the packs and leaves them where they are. Nothing may be
// done with them any more.
func (p *packWriter) close() {
	for _, s := range p.streams() {
		for _, k := range s.packs {
			k.w.Close()
		}
	}
}

// abort removes the packs, as far as that can be done. They must be settled.
func (p *packWriter) abort() error {
	var first error
	for _, s := range p.streams() {
		for _, k := range s.packs {
			if err := k.w.Abort(); err != nil && first == nil {
				first = err
			}
		}
		s.packs, s.buf = nil, nil
	}
	return first
}

// packStream appends frames to packs of one kind, one pack after the other.
type packStream struct {
	dir   *object.Dir
	keys  keyring
	gen   Generation
	first int   // index of the first pack
	max   int64 // limits.packSize

	packs []*newPack
	buf   []byte // not yet written to the last pack
	bytes int64  // of all packs
}

type newPack struct {
	w      *object.Writer
	seal   *packSeal
	frames uint32 // how many there are
	size   int64  // including what is in the buffer
	synced chan error
}

func (p *packStream) append(kind byte, data payload) (place, error) {
	if p.next() > len(p.packs) {
		if err := p.roll(); err != nil {
			return place{}, err
		}
	}
	k := p.last()
	k.frames++
	at := place{p.id(len(p.packs) - 1), uint32(k.size), uint32(len(data.data))}
	p.buf = k.seal.appendFrame(p.buf, at.off, k.frames, kind, data)
	k.size += at.cost()
	p.bytes += at.cost()
	if len(p.buf) >= packBuffer {
		return at, p.flush()
	}
	return at, nil
}

// next is how many packs there will be with the next frame.
func (p *packStream) next() int {
	if len(p.packs) == 0 || p.last().size >= p.max {
		return len(p.packs) + 1
	}
	return len(p.packs)
}

func (p *packStream) last() *newPack { return p.packs[len(p.packs)-1] }

func (p *packStream) id(i int) PackID { return packID(p.gen, p.first+i) }

// roll ends the last pack, whose fsync goes on by the side, and begins
// another one.
func (p *packStream) roll() error {
	if len(p.packs) > 0 {
		if err := p.flush(); err != nil {
			return err
		}
		k := p.last()
		k.synced = make(chan error, 1)
		go func() { k.synced <- k.w.Sync() }()
	}
	if len(p.packs) >= copiesIndex {
		return errors.New("generation has too many packs")
	}
	id := p.id(len(p.packs))
	w, err := p.dir.Create(id.String())
	if err != nil {
		return fmt.Errorf("begin pack: %w", err)
	}
	if p.buf == nil {
		p.buf = make([]byte, 0, 256<<10)
	}
	head, s := encodePackHead(p.keys, id, seal.Salt())
	p.buf = append(p.buf[:0], head...)
	p.packs = append(p.packs, &newPack{w: w, seal: s, size: packHeadSize})
	p.bytes += packHeadSize
	return nil
}

// flush writes the buffer to the last pack.
func (p *packStream) flush() error {
	if len(p.buf) == 0 {
		return nil
	}
	_, err := p.last().w.Write(p.buf)
	p.buf = p.buf[:0]
	if err != nil {
		return fmt.Errorf("write pack: %w", err)
	}
	return nil
}

func (p *packStream) readAt(b []byte, id PackID, off int64) (*packSeal, error) {
	i := int(id - p.id(0))
	if i >= len(p.packs) {
		return nil, fmt.Errorf("read pack %v: not written yet", id)
	}
	if i == len(p.packs)-1 {
		if err := p.flush(); err != nil {
			return nil, err
		}
	}
	if n, err := p.packs[i].w.ReadAt(b, off); n < len(b) {
		if err == nil || errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("read pack %v: %w", id, err)
	}
	return p.packs[i].seal, nil
}

func (p *packStream) sync() error {
	if len(p.packs) == 0 {
		return nil
	}
	if err := p.flush(); err != nil {
		return err
	}
	var first error
	for i, k := range p.packs {
		var err error
		if k.synced != nil {
			err = <-k.synced
			k.synced <- err // for settle, or for another sync
		} else if first == nil {
			err = k.w.Sync()
		}
		if err != nil && first == nil {
			first = fmt.Errorf("fsync pack %v: %w", p.id(i), err)
		}
	}
	return first
}
