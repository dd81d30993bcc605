package durable

import (
	"bytes"
	"context"
	"errors"
	"io"
	"path/filepath"
	"slices"
	"time"

	"github.com/wakepoint/wakepoint/internal/redo"
)

// Verify reads all generations that are kept, and the log behind the oldest, and
// returns what is damaged, each a *DamageError (errors.Join), and other errors of
// the file system; also one of two copies, which does not matter yet. What can be
// made anew of memory or of an older generation is, by the next checkpoint; a copy
// of a header or of an index is not, and goes with its file.
func (db *DB) Verify(ctx context.Context) error {
	if err := db.enter(ctx); err != nil {
		return err
	}
	defer db.gate.leave()
	db.saved.keep.RLock()
	defer db.saved.keep.RUnlock()
	list := db.saved.generations()
	err := errors.Join(db.saved.verify(ctx, list), db.saved.others(list))
	_, _, lerr := redo.Read(db.logOptions(), oldestPosition(list), db.log.Durable(), checkRecord)
	return errors.Join(err, logDamage(lerr), db.spoiled(), db.scrub(ctx, 0), db.owner.mend(db.o.FS, db.o.Dir))
}

// oldestPosition is where the log begins that generations need.
func oldestPosition(list []generation) redo.Position {
	if len(list) == 0 {
		return 0
	}
	return list[len(list)-1].position
}

func checkRecord(_ redo.Position, record []byte) error {
	return parseRecord(record, func(change) {})
}

// logDamage is an error of the log as others see it.
func logDamage(err error) error {
	if damage := (*redo.DamageError)(nil); errors.As(err, &damage) {
		out := &DamageError{Why: err}
		if damage.File != "" {
			out.File = filepath.Base(damage.File)
		}
		return out
	}
	return err
}

// spoiled says which files of the log have damage that does not matter yet.
func (db *DB) spoiled() error {
	var errs []error
	for _, err := range apart(redo.Spoiled(db.logOptions())) {
		errs = append(errs, logDamage(err))
	}
	return errors.Join(errs...)
}

// copies checks both copies of a generation's header and index, of which one is
// whole.
func (s *saved) copies(g generation) error {
	f, err := s.fs.Open(generationName(s.dir, g.number))
	if err != nil {
		return err
	}
	defer f.Close()
	b := make([]byte, max(generationPage, g.size))
	if _, err := f.ReadAt(b[:generationPage], 0); err != nil || !bytes.Equal(b[:generationPage], g.page(s.id)) {
		return s.damaged(extent{file: g.number}, errors.Join(errors.New("one of two headers is damaged"), err))
	}
	for _, at := range []int64{g.at, g.at + g.size} {
		if _, err := f.ReadAt(b[:g.size], at); err != nil && !errors.Is(err, io.EOF) || !equal(s.id.sum(b[:g.size]), g.sum) {
			return s.damaged(extent{file: g.number}, errors.Join(errors.New("one of two indexes is damaged"), err))
		}
	}
	return nil
}

// verify reads all that generations need. The caller holds keep.
func (s *saved) verify(ctx context.Context, list []generation) error {
	var errs []error
	read := map[extent]bool{}
	check := func(e extent) {
		if e.size > 0 && !read[e] && ctx.Err() == nil {
			read[e] = true
			if _, err := s.block(e); err != nil {
				errs = append(errs, err)
			}
		}
	}
	for _, known := range list {
		g, leaves, err := readGeneration(s.fs, s.dir, s.id, known.number)
		if err != nil {
			errs = append(errs, s.damaged(extent{file: known.number}, err))
			continue
		}
		if err := s.copies(g); err != nil {
			errs = append(errs, err)
		}
		for i := range leaves {
			check(leaves[i].base)
			for _, e := range leaves[i].runs {
				check(e)
			}
		}
	}
	return errors.Join(append(errs, ctx.Err())...)
}

// others says which files cannot be read as generations, beside those of a list:
// one that Open has passed over, or that only holds what later ones need.
func (s *saved) others(list []generation) error {
	entries, err := s.fs.ReadDir(s.dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		n, ok := generationNumber(e.Name())
		if !ok || slices.ContainsFunc(list, func(g generation) bool { return g.number == n }) {
			continue
		}
		if g, _, err := readGeneration(s.fs, s.dir, s.id, n); err != nil {
			errs = append(errs, s.damaged(extent{file: n}, err))
		} else if err := s.copies(g); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

const (
	scrubEvery = time.Hour // from the end of one to the next
	scrubRate  = 8 << 20   // bytes of a second
)

// keepScrubbing reads what is on the disk now and then, so that damage is found
// as long as memory has what is damaged.
func (db *DB) keepScrubbing(ctx context.Context) {
	timer := time.NewTimer(scrubEvery)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		_ = db.scrub(ctx, scrubRate) // it was logged
		timer.Reset(scrubEvery)
	}
}

// scrub reads all leaves on the disk, so many bytes a second (0: as fast as it
// goes), and has those that are damaged written anew.
func (db *DB) scrub(ctx context.Context, rate int64) error {
	t := &db.tree
	t.mu.RLock()
	leaves := append([]*leaf(nil), t.leaves...)
	t.mu.RUnlock()
	for _, l := range leaves {
		if err := ctx.Err(); err != nil {
			return err
		}
		read := db.scrubLeaf(l)
		if rate > 0 && read > 0 {
			select {
			case <-ctx.Done():
			case <-time.After(time.Duration(read * int64(time.Second) / rate)):
			}
		}
	}
	return nil
}

// scrubLeaf reads one, and returns how many bytes that were.
func (db *DB) scrubLeaf(l *leaf) (read int64) {
	t := &db.tree
	t.mu.RLock()
	at := l.disk
	t.mu.RUnlock()
	if at == nil {
		return 0
	}
	read = int64(at.base.size)
	for _, e := range at.runs {
		read += int64(e.size)
	}
	_, _, err := db.saved.leaf(at)
	if err == nil {
		return read
	}
	t.mu.Lock()
	anew := l.disk == at && l.loaded
	if anew {
		l.disk = nil
		l.splits++
		t.touch(l)
	}
	moved := l.disk != at
	t.mu.Unlock()
	switch {
	case anew:
		db.o.Logger.Warn("a range is damaged on the disk, and will be written anew", "err", err)
	case !moved:
		_ = db.load(l) // it is made anew, or it is known from now on; it was logged
	}
	return read
}
