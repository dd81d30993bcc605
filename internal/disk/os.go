package disk

import (
	"fmt"
	"io"
	"io/fs"
	"os"
)

// OS is the operating system's file system.
type OS struct{}

var _ FS = OS{}

// Native says why OS does not keep what FS promises on this system; nil: it does.
func Native() error { return native() }

func (OS) Open(name string) (File, error) { return wrap(open(name, os.O_RDONLY)) }

func (OS) Create(name string) (File, error) {
	return wrap(open(name, os.O_RDWR|os.O_CREATE|os.O_EXCL))
}

func (OS) Append(name string) (File, error) {
	return wrap(os.OpenFile(name, os.O_RDWR|os.O_APPEND, 0))
}

func (OS) Modify(name string) (File, error) { return wrap(open(name, os.O_RDWR)) }

// wrap keeps a nil *os.File from becoming a File that is not nil.
func wrap(f *os.File, err error) (File, error) {
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

// osFile is a file of the operating system's.
type osFile struct{ *os.File }

func (f osFile) Datasync() error { return datasync(f.File) }

func (OS) Rename(from, to string) error               { return rename(from, to) }
func (OS) Remove(name string) error                   { return os.Remove(name) }
func (OS) Mkdir(name string) error                    { return os.Mkdir(name, 0o700) }
func (OS) ReadDir(name string) ([]fs.DirEntry, error) { return os.ReadDir(name) }
func (OS) Lstat(name string) (fs.FileInfo, error)     { return os.Lstat(name) }

func (OS) SyncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	err = syncDir(d)
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	return err
}

func (OS) Lock(name string, mode LockMode) (io.Closer, error) { return lock(name, mode) }

func (OS) Private(name string) error {
	link, err := os.Lstat(name)
	if err != nil {
		return err
	}
	if link.Mode()&fs.ModeSymlink != 0 && !trusted(link) {
		return fmt.Errorf("%s: a symbolic link of another user: %w", name, ErrNotPrivate)
	}
	dir, err := os.Stat(name)
	if err != nil {
		return err
	}
	switch {
	case !owned(dir):
		return fmt.Errorf("%s: owned by another user: %w", name, ErrNotPrivate)
	case shared(dir):
		return fmt.Errorf("%s: mode %04o lets others in: %w", name, dir.Mode().Perm(), ErrNotPrivate)
	}
	return nil
}

func (OS) Volatile(name string) (bool, error) { return volatile(name) }
