package durable

import (
	"slices"
	"time"

	"github.com/wakepoint/wakepoint/internal/disk"
)

// draft is the file of a generation that is being written.
type draft struct {
	db      *DB
	file    disk.File
	number  uint64
	at      int64
	buf     []byte
	catalog *block
}

// draftBuffer is how much is written before the disk is waited for, in bytes.
const draftBuffer = 256 << 10

func newDraft(db *DB, number uint64) (*draft, error) {
	f, err := disk.CreateTemp(db.saved.fs, generationName(db.saved.dir, number))
	if err != nil {
		return nil, err
	}
	d := &draft{db: db, file: f, number: number, at: generationPage, buf: make([]byte, generationPage, draftBuffer+leafMax)}
	return d, nil
}

// put adds an extent.
func (d *draft) put(b *block) (extent, error) {
	if b == nil {
		return extent{}, nil
	}
	n := len(d.buf)
	d.buf = d.db.owner.id.seal(d.buf, d.number, d.at, b)
	e := extent{file: d.number, at: d.at, size: uint32(len(d.buf) - n)}
	d.at += int64(e.size)
	if len(d.buf) >= draftBuffer {
		return e, d.flush()
	}
	return e, nil
}

// flush writes what was gathered, and waits for the disk, so that no long queue of
// writes stands before the log's. Then it rests for as long as that took, unless
// the log becomes too long meanwhile.
func (d *draft) flush() error {
	began := time.Now()
	if err := d.write(); err != nil {
		return err
	}
	if err := d.file.Datasync(); err != nil {
		return err
	}
	if !d.db.pacer.hurry() {
		time.Sleep(time.Since(began))
	}
	return nil
}

func (d *draft) write() error {
	_, err := d.file.Write(d.buf)
	d.buf = d.buf[:0]
	return err
}

// finish writes the index, twice, and the header, and makes all durable.
func (d *draft) finish(g *generation, parts []part) error {
	leaves := make([]indexed, 0, len(parts))
	needs := map[uint64]bool{g.number: true}
	for i := range parts[1:] {
		p := &parts[i+1]
		if p.saved == nil && i > 0 {
			continue
		}
		l := indexed{low: p.leaf.low}
		if p.saved != nil {
			l.stored = *p.saved
		}
		for _, e := range append(slices.Clone(l.runs), l.base) {
			if e.size > 0 {
				needs[e.file] = true
				g.live += int64(e.size)
			}
		}
		leaves = append(leaves, l)
	}
	for n := range needs {
		g.needs = append(g.needs, n)
	}
	slices.Sort(g.needs)
	index := g.appendIndex(nil, d.catalog, leaves)
	g.at, g.size, g.count, g.sum = d.at, int64(len(index)), uint64(len(leaves)), d.db.owner.id.sum(index)
	g.total = g.at + 2*g.size
	d.buf = append(append(d.buf, index...), index...)
	if err := d.write(); err != nil {
		return err
	}
	if _, err := d.file.WriteAt(g.page(d.db.owner.id), 0); err != nil {
		return err
	}
	return d.file.Sync()
}

// name gives the file its name, and makes that durable.
func (d *draft) name() error {
	s := &d.db.saved
	if err := d.file.Close(); err != nil {
		return err
	}
	d.file = nil
	name := generationName(s.dir, d.number)
	if err := s.fs.Rename(disk.TempName(name), name); err != nil {
		return err
	}
	return s.fs.SyncDir(s.dir)
}

// abandon takes back what was written, under either name.
func (d *draft) abandon() {
	if d.file != nil {
		_ = d.file.Close()
	}
	name := generationName(d.db.saved.dir, d.number)
	_ = d.db.saved.fs.Remove(disk.TempName(name))
	_ = d.db.saved.fs.Remove(name)
}
