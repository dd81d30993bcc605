// Package object keeps named immutable objects in a local directory.
//
// An object has its name only when it is complete: it is written under a
// temporary name, fsynced and renamed. It never changes afterwards.
package object

import (
	"fmt"
	"io"
	"io/fs"
	"path/filepath"

	"github.com/wakepoint/wakepoint/internal/disk"
)

// Dir is a directory of objects. One process at a time may write to it; the
// caller's lock sees to that. Any number may read.
type Dir struct {
	fs   disk.FS
	path string
}

// Open returns the directory of objects at path. It touches no disk.
func Open(d disk.FS, path string) *Dir { return &Dir{fs: d, path: path} }

// Path returns where the objects lie.
func (d *Dir) Path() string { return d.path }

// Make makes the directory durably where it is missing.
func (d *Dir) Make() error {
	if err := disk.MkdirAll(d.fs, d.path); err != nil {
		return fmt.Errorf("make objects: %w", err)
	}
	return nil
}

// Open opens an object for reading; fs.ErrNotExist when there is none.
func (d *Dir) Open(name string) (disk.File, error) { return d.fs.Open(d.file(name)) }

// Get reads an object of at most limit bytes.
func (d *Dir) Get(name string, limit int64) ([]byte, error) {
	return disk.ReadFile(d.fs, d.file(name), limit)
}

// Put stores an object. When it returns nil the object survives a power cut;
// when it returns an error the object may or may not exist.
func (d *Dir) Put(name string, data []byte) error { return disk.WriteFile(d.fs, d.file(name), data) }

// List returns the names of the complete objects, sorted. A directory that
// does not exist holds none.
func (d *Dir) List() ([]string, error) { return d.list(false) }

// Leftovers returns the names of the objects that a writer began and never
// finished.
func (d *Dir) Leftovers() ([]string, error) { return d.list(true) }

func (d *Dir) list(temp bool) ([]string, error) {
	entries, err := d.fs.ReadDir(d.path)
	if err != nil {
		if isNotExist(err) {
			return nil, nil
		}
		return nil, err
	}
	var names []string
	for _, e := range entries {
		name := e.Name()
		if disk.IsTemp(name) != temp || e.IsDir() {
			continue
		}
		if temp {
			name = name[len(disk.TempPrefix):]
		}
		names = append(names, name)
	}
	return names, nil
}

// Sweep removes what unfinished writers left behind.
func (d *Dir) Sweep() error {
	names, err := d.Leftovers()
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := d.fs.Remove(disk.TempName(d.file(name))); err != nil {
			return err
		}
	}
	return nil
}

// Delete removes an object. The removal is durable after Sync.
func (d *Dir) Delete(name string) error { return d.fs.Remove(d.file(name)) }

// Sync makes the names of the objects durable.
func (d *Dir) Sync() error { return d.fs.SyncDir(d.path) }

// Lock locks an object, see disk.FS.
func (d *Dir) Lock(name string, mode disk.LockMode) (io.Closer, error) {
	return d.fs.Lock(d.file(name), mode)
}

// Stat describes an object.
func (d *Dir) Stat(name string) (fs.FileInfo, error) { return d.fs.Lstat(d.file(name)) }

func (d *Dir) file(name string) string { return filepath.Join(d.path, name) }
