package durable

import (
	"archive/tar"
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
// that is copied is checked.
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
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := s.archive(archive, g, n); err != nil {
			return err
		}
	}
	name, log := redo.Empty(g.position)
	if err := add(archive, g, name, log); err != nil {
		return err
	}
	line, err := disk.ReadFile(s.fs, filepath.Join(s.dir, identityName), 4096)
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

// archive adds a file of a generation.
func (s *saved) archive(w *tar.Writer, g generation, number uint64) error {
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
	if _, err := io.Copy(w, f); err != nil {
		return fmt.Errorf("%s: %w", filepath.Base(name), err)
	}
	return nil
}
