package disk

import (
	"errors"
	"io"
	"io/fs"
	"path/filepath"
	"strings"
)

// TempPrefix begins the name of every file that is not complete. Such a file
// belongs to whoever holds the lock of its directory's owner, who may remove it.
const TempPrefix = ".tmp-"

// IsTemp reports whether a base name is that of an incomplete file.
func IsTemp(base string) bool { return strings.HasPrefix(base, TempPrefix) }

// TempName returns the name under which a file is written before it gets its
// own. One name is written by one writer at a time.
func TempName(name string) string {
	return filepath.Join(filepath.Dir(name), TempPrefix+filepath.Base(name))
}

// CreateTemp makes the file TempName(name), in place of one that an earlier
// writer left behind.
func CreateTemp(d FS, name string) (File, error) {
	temp := TempName(name)
	f, err := d.Create(temp)
	if errors.Is(err, fs.ErrExist) {
		if err := d.Remove(temp); err != nil {
			return nil, err
		}
		f, err = d.Create(temp)
	}
	if err != nil {
		_ = d.Remove(temp) // it may have been made all the same
		return nil, err
	}
	return f, nil
}

// WriteFile replaces a file as a whole. When it returns nil the new contents
// survive a power cut. When it returns an error the file has its old contents
// or its new ones. One name may have only one writer at a time.
func WriteFile(d FS, name string, data []byte) error {
	// The order is the promise: the contents are durable before they get the
	// name, and the name is durable before anybody is told.
	f, err := CreateTemp(d, name)
	if err != nil {
		return err
	}
	if err := fill(f, data); err != nil {
		_ = d.Remove(TempName(name))
		return err
	}
	if err := d.Rename(TempName(name), name); err != nil {
		_ = d.Remove(TempName(name))
		return err
	}
	return d.SyncDir(filepath.Dir(name))
}

// fill writes, fsyncs and closes a new file.
func fill(f File, data []byte) error {
	_, err := f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// ReadFile reads a file of at most limit bytes; a longer one is an error.
func ReadFile(d FS, name string, limit int64) ([]byte, error) {
	f, err := d.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, &fs.PathError{Op: "read", Path: name, Err: errors.New("file too large")}
	}
	return data, nil
}

// MkdirAll makes a directory and those above it that are missing. Each one
// made is fsynced in its parent.
func MkdirAll(d FS, name string) error {
	if fi, err := d.Lstat(name); err == nil && (fi.IsDir() || fi.Mode()&fs.ModeSymlink != 0) {
		return nil
	}
	parent := filepath.Dir(name)
	if parent != name {
		if err := MkdirAll(d, parent); err != nil {
			return err
		}
	}
	if err := d.Mkdir(name); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return d.SyncDir(parent)
}

// RemoveAll removes a file, or a directory with all that is below it. It
// follows no symbolic link. What is missing already is no error.
func RemoveAll(d FS, name string) error {
	fi, err := d.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if fi.IsDir() {
		entries, err := d.ReadDir(name)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if err := RemoveAll(d, filepath.Join(name, e.Name())); err != nil {
				return err
			}
		}
	}
	if err := d.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
