package durable

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"github.com/wakepoint/wakepoint/internal/disk"
	"github.com/wakepoint/wakepoint/internal/redo"
)

// Backup writes a database as it is at one instant, at the earliest now, while
// others go on: a tar archive of a directory that Open opens. The file that makes it
// one is the last, so that what was cut short is not taken for a database. All
// that is copied is checked. Once the context has ended nothing more is given to
// the writer; a Write that blocks is not cut off. In a closure of View it may wait
// for that view, as Checkpoint does.
func (db *DB) Backup(ctx context.Context, w io.Writer) error {
	if err := db.enter(ctx); err != nil {
		return err
	}
	defer db.gate.leave()
	if err := db.checkpoint(ctx); err != nil {
		return err
	}
	s := &db.saved
	s.keep.RLock()
	defer s.keep.RUnlock()
	g := s.generations()[0]
	if err := s.verify(ctx, []generation{g}); err != nil {
		return err
	}
	archive := tar.NewWriter(w)
	for _, n := range g.needs {
		if err := s.archive(ctx, archive, g, n); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	name, log := redo.Empty(g.position)
	if err := add(archive, g, name, log); err != nil {
		return err
	}
	line, err := disk.ReadFile(s.fs, filepath.Join(s.dir, identityName), identityMost)
	if err != nil {
		return err
	}
	return errors.Join(add(archive, g, identityName, line), archive.Close())
}

// add adds a file of some bytes.
func add(w *tar.Writer, g generation, name string, data []byte) error {
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: int64(len(data)), ModTime: g.made}); err != nil {
		return err
	}
	_, err := w.Write(data)
	return err
}

// archive adds a file that a generation needs. Of its own the first page says
// that no other one can be gone on from: there is no log for that.
func (s *saved) archive(ctx context.Context, w *tar.Writer, g generation, number uint64) error {
	name := generationName(s.dir, number)
	f, err := s.fs.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	if err := w.WriteHeader(&tar.Header{Name: filepath.Base(name), Mode: 0o600, Size: fi.Size(), ModTime: g.made}); err != nil {
		return err
	}
	var from io.Reader = f
	if number == g.number {
		g.since = number
		from = io.MultiReader(bytes.NewReader(g.page(s.id)), io.NewSectionReader(f, generationPage, fi.Size()-generationPage))
	}
	if _, err := io.Copy(w, until{ctx, from}); err != nil {
		return fmt.Errorf("%s: %w", filepath.Base(name), err)
	}
	return nil
}

// until reads until a context ends.
type until struct {
	ctx context.Context
	r   io.Reader
}

func (u until) Read(p []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.r.Read(p)
}
