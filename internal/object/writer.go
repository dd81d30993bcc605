package object

import (
	"errors"
	"io/fs"

	"github.com/wakepoint/wakepoint/internal/disk"
)

// Writer writes one object as a stream. The caller goes through Write, Sync,
// Publish and Dir.Sync in this order, or ends with Abort. It buffers nothing:
// give it large writes.
type Writer struct {
	dir  *Dir
	name string
	f    disk.File
	err  error // after the first failure the object is not used any more
}

// Create begins a new object.
func (d *Dir) Create(name string) (*Writer, error) {
	f, err := disk.CreateTemp(d.fs, d.file(name))
	if err != nil {
		return nil, err
	}
	return &Writer{dir: d, name: name, f: f}, nil
}

// Write appends to the object.
func (w *Writer) Write(p []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	n, err := w.f.Write(p)
	w.err = err
	return n, err
}

// ReadAt reads what was written so far.
func (w *Writer) ReadAt(p []byte, off int64) (int, error) { return w.f.ReadAt(p, off) }

// Sync makes the contents durable. After an error the object is lost: no
// later Sync or Publish of it returns nil.
func (w *Writer) Sync() error {
	if w.err == nil {
		w.err = w.f.Sync()
	}
	return w.err
}

// Publish gives the object its name, which is durable after Dir.Sync. Sync
// must have returned nil since the last Write.
func (w *Writer) Publish() error {
	if w.err != nil {
		return w.err
	}
	if w.err = w.f.Close(); w.err != nil {
		return w.err
	}
	name := w.dir.file(w.name)
	w.err = w.dir.fs.Rename(disk.TempName(name), name)
	return w.err
}

// Abort removes the object, whether it has its name already or not. Nothing
// may refer to it.
func (w *Writer) Abort() error {
	_ = w.f.Close()
	w.err = fs.ErrClosed
	name := w.dir.file(w.name)
	for _, n := range []string{disk.TempName(name), name} {
		if err := w.dir.fs.Remove(n); err != nil && !isNotExist(err) {
			return err
		}
	}
	return nil
}

// Close lets go of the object without removing it; where it has its name, or
// was removed, it does nothing.
func (w *Writer) Close() {
	_ = w.f.Close()
	if w.err == nil {
		w.err = fs.ErrClosed
	}
}

func isNotExist(err error) bool { return errors.Is(err, fs.ErrNotExist) }
