package redo

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"time"

	"github.com/wakepoint/wakepoint/internal/disk"
)

// Open opens the log of a directory, or makes one, and calls replay for each
// record from a position on, which was that of the log's end or of a record, in
// their order, with the position behind it. What was found at the end is
// durable when Open returns.
//
// Errors: a *DamageError when something is missing that had been durable,
// ErrNewer, those of replay and of the file system.
func Open(o Options, from Position, replay func(end Position, record []byte) error) (*Log, error) {
	if o.FS == nil {
		o.FS = disk.OS{}
	}
	if o.Room == 0 {
		o.Room = segmentRoom
	}
	files, err := list(o.FS, o.Dir, false)
	if err != nil {
		return nil, err
	}
	if o.Made && len(files.used) == 0 {
		return nil, noLog(from)
	}
	t, err := scan(o.FS, o.Dir, files.used, from, func(f frame) error {
		return f.records(func(end Position, record []byte) error {
			if end <= from {
				return nil
			}
			return replay(end, record)
		})
	})
	if err != nil {
		return nil, err
	}
	for _, name := range files.strays {
		if err := o.FS.Remove(filepath.Join(o.Dir, name)); err != nil {
			return nil, err
		}
	}
	l := &Log{o: o, durable: t.end, batch: newBatch(t.end, nil), suspect: map[uint64]bool{}, used: files.used, closing: len(t.frames) == 0, torn: t.torn}
	if n := len(files.used); n > 0 {
		l.seg = files.used[n-1]
	}
	l.pool = newPool(o, files.next, files.spare)
	if err := l.renew(t); err != nil {
		return nil, errors.Join(err, l.pool.close())
	}
	l.mu.Lock()
	l.armed = true
	l.idle = time.AfterFunc(idle, l.tick)
	l.mu.Unlock()
	return l, nil
}

// Torn says whether the log ended, when it was opened, with what had been begun
// and was not finished.
func (l *Log) Torn() bool { return l.torn }

// Read calls yield for the records of a log between two positions, with the
// position behind each, and changes nothing. Up to the second one it was durable,
// or else that is ^Position(0), and it is read to its end. The log may be open;
// what is read must not be trimmed meanwhile. It returns where it ended, and
// whether it is torn there. Errors: as for Open.
func Read(o Options, from, to Position, yield func(end Position, record []byte) error) (end Position, torn bool, err error) {
	if o.FS == nil {
		o.FS = disk.OS{}
	}
	files, err := list(o.FS, o.Dir, true)
	if err != nil {
		return from, false, err
	}
	if o.Made && len(files.used) == 0 {
		return from, false, noLog(from)
	}
	over := errors.New("all was read")
	end = from
	t, err := scan(o.FS, o.Dir, files.used, from, func(f frame) error {
		if end = f.at; f.at >= to {
			return over
		}
		end = f.end()
		return f.records(func(end Position, record []byte) error {
			if end <= from || end > to {
				return nil
			}
			return yield(end, record)
		})
	})
	switch {
	case to == ^Position(0):
		return t.end, t.torn, err
	case errors.Is(err, over) || err != nil && end >= to:
		return to, false, nil
	case err == nil && end < to:
		err = &DamageError{At: end, Why: fmt.Sprintf("the log ends here, and %d was durable", to)}
	}
	return end, false, err
}

// renew begins a segment with the tail that was found: of that nobody knows
// whether it is on the disk or only in the system's memory. It becomes a part of
// the log when it is durable itself, since what it stands for may be.
func (l *Log) renew(t tail) error {
	room := int64(0)
	for i := range t.frames {
		room += int64(aligned(len(t.frames[i].payload)))
	}
	sp, err := l.pool.take(room + frameHeader)
	if err != nil {
		return err
	}
	l.file = sp.file
	l.seg = segment{number: sp.number, start: t.durable, salt: rand.Uint64(), room: sp.room, turn: l.seg.turn + 1}
	w := sparePage(sp.number, sp.room)
	for i := range t.frames {
		f := &t.frames[i]
		b := append(make([]byte, frameHeader, aligned(len(f.payload))), f.payload...)
		w = append(w, seal(b, l.seg.salt, f.at, f.durable, f.kind)...)
	}
	full := len(w)
	w = append(w, make([]byte, -full&(pageSize-1))...)
	if _, err := l.file.WriteAt(w, 0); err != nil {
		return errors.Join(err, l.file.Close())
	}
	if err := l.file.Datasync(); err != nil {
		return errors.Join(err, l.file.Close())
	}
	if _, err := l.file.WriteAt(l.seg.page(), 0); err != nil {
		return errors.Join(err, l.file.Close())
	}
	if err := l.file.Datasync(); err != nil {
		return errors.Join(err, l.file.Close())
	}
	l.page = append([]byte(nil), w[full&^(pageSize-1):full]...)
	if full == pageSize {
		l.page = nil
	}
	l.used = append(l.used, l.seg)
	return nil
}
