package store

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"

	"github.com/wakepoint/wakepoint/internal/object"
)

// packBuffer is the size of one write.
const packBuffer = 1 << 20

// packWriter appends frames to the packs of one generation. One goroutine at
// a time may use it. After an error nothing that it wrote may be referred to.
type packWriter struct {
	dir *object.Dir
	id  workloadID
	gen Generation
	max int64 // limits.packSize

	packs []*newPack
	buf   []byte // not yet written to the last pack
	bytes int64  // of all packs
}

type newPack struct {
	w      *object.Writer
	size   int64 // including what is in the buffer
	synced chan error
}

// append appends one frame and returns where it lies.
func (p *packWriter) append(kind byte, payload []byte) (place, error) {
	if len(p.packs) == 0 || p.last().size >= p.max {
		if err := p.roll(); err != nil {
			return place{}, err
		}
	}
	k := p.last()
	at := place{p.lastID(), uint32(k.size), uint32(len(payload))}
	p.buf = appendFrame(p.buf, kind, payload)
	k.size += at.cost()
	p.bytes += at.cost()
	if len(p.buf) >= packBuffer {
		return at, p.flush()
	}
	return at, nil
}

func (p *packWriter) last() *newPack { return p.packs[len(p.packs)-1] }
func (p *packWriter) lastID() PackID { return packID(p.gen, len(p.packs)-1) }

// roll ends the last pack, whose fsync goes on by the side, and begins
// another one.
func (p *packWriter) roll() error {
	if len(p.packs) > 0 {
		if err := p.flush(); err != nil {
			return err
		}
		k := p.last()
		k.synced = make(chan error, 1)
		go func() { k.synced <- k.w.Sync() }()
	}
	if len(p.packs) >= 1<<packIndexBits {
		return errors.New("generation has too many packs")
	}
	id := packID(p.gen, len(p.packs))
	w, err := p.dir.Create(id.String())
	if err != nil {
		return fmt.Errorf("begin pack: %w", err)
	}
	p.packs = append(p.packs, &newPack{w: w, size: packHeadSize})
	p.bytes += packHeadSize
	var salt [16]byte
	_, _ = rand.Read(salt[:]) // never fails
	if p.buf == nil {
		p.buf = make([]byte, 0, 256<<10)
	}
	p.buf = append(p.buf[:0], encodePackHead(p.id, id, salt)...)
	return nil
}

// flush writes the buffer to the last pack.
func (p *packWriter) flush() error {
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

// has reports whether this writer writes the pack.
func (p *packWriter) has(id PackID) bool { return p != nil && id.Generation() == p.gen }

// readAt reads back what was appended.
func (p *packWriter) readAt(b []byte, id PackID, off int64) error {
	i := int(id - packID(p.gen, 0))
	if i >= len(p.packs) {
		return fmt.Errorf("read pack %v: not written yet", id)
	}
	if i == len(p.packs)-1 {
		if err := p.flush(); err != nil {
			return err
		}
	}
	if n, err := p.packs[i].w.ReadAt(b, off); n < len(b) {
		if err == nil || errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("read pack %v: %w", id, err)
	}
	return nil
}

// sync makes the contents of all packs durable.
func (p *packWriter) sync() error {
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
			k.synced <- err // for abort, or for another sync
		} else if first == nil {
			err = k.w.Sync()
		}
		if err != nil && first == nil {
			first = fmt.Errorf("fsync pack %v: %w", packID(p.gen, i), err)
		}
	}
	return first
}

// publish gives the packs their names, durably. sync must have returned nil.
func (p *packWriter) publish() error {
	if len(p.packs) == 0 {
		return nil
	}
	for _, k := range p.packs {
		if err := k.w.Publish(); err != nil {
			return fmt.Errorf("publish pack: %w", err)
		}
	}
	if err := p.dir.Sync(); err != nil {
		return fmt.Errorf("fsync packs: %w", err)
	}
	return nil
}

// abort removes the packs, as far as that can be done.
func (p *packWriter) abort() error {
	var first error
	for _, k := range p.packs {
		if k.synced != nil {
			k.synced <- <-k.synced
		}
		if err := k.w.Abort(); err != nil && first == nil {
			first = err
		}
	}
	p.packs, p.buf = nil, nil
	return first
}
