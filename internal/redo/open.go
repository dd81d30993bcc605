package redo

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"time"

	"github.com/wakepoint/wakepoint/internal/disk"
)

// Open opens the log of a directory, or makes one, and calls replay for each
// record from a position on, which was that of the log's end or of a record, in
// their order, with the position behind it. What was found at the end is
// durable when Open returns. On a full disk it opens all the same: ErrFull is
// what Append says then.
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
	err = l.renew(t)
	if errors.Is(err, ErrFull) && len(l.used) > 0 {
		err = l.stay(t)
	}
	if err != nil {
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
		w = append(w, t.frames[i].sealed(l.seg.salt)...)
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

// stay goes on in the last segment, where there is no room for another one: the
// tail is written anew where it is. A frame that was begun behind it and cut short
// may stay, since no whole one can follow it: that would say that it was durable.
func (l *Log) stay(t tail) error {
	list := live(l.used)
	for i, s := range list {
		frames := slices.DeleteFunc(slices.Clone(t.frames), func(f frame) bool {
			return f.at < s.start || i+1 < len(list) && f.at >= list[i+1].start
		})
		last := i+1 == len(list)
		if len(frames) == 0 && !last {
			continue
		}
		f, err := l.o.FS.Modify(segmentName(l.o.Dir, s.number))
		if err != nil {
			return err
		}
		err = s.anew(f, frames)
		if err == nil && last {
			err = l.goOn(f, s, int64(t.end-s.start))
		}
		if err != nil || !last {
			err = errors.Join(err, f.Close())
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// anew writes the header and some frames of a segment to their places.
func (s segment) anew(f disk.File, frames []frame) error {
	if _, err := f.WriteAt(s.page(), 0); err != nil {
		return err
	}
	for i := range frames {
		if _, err := f.WriteAt(frames[i].sealed(s.salt), pageSize+int64(frames[i].at-s.start)); err != nil {
			return err
		}
	}
	return f.Datasync()
}

// goOn makes a segment that has so many bytes of frames the one that is written to.
func (l *Log) goOn(f disk.File, s segment, bytes int64) error {
	l.page = make([]byte, bytes&(pageSize-1))
	if _, err := f.ReadAt(l.page, pageSize+bytes-int64(len(l.page))); err != nil {
		return err
	}
	l.file, l.seg = f, s
	l.closing = l.closing || s.room-bytes < frameHeader // there is no room for a frame that says what is durable
	return nil
}
