package seal

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/wakepoint/wakepoint/internal/disk"
)

var (
	// ErrKeyFile says that a file is not a key: 32 bytes and no more.
	ErrKeyFile = errors.New("not a key file")
	// ErrExposed says that others than its owner may read or replace a key.
	ErrExposed = errors.New("others may read or replace it")
)

// Load reads the key in a file: fs.ErrNotExist when there is none. It refuses
// one that another user owns, or that others may read or write (ErrExposed).
func Load(d disk.FS, file string) (Key, error) {
	if err := d.Private(file); errors.Is(err, disk.ErrNotPrivate) {
		return Key{}, fmt.Errorf("key: %w: %w", err, ErrExposed)
	} else if err != nil {
		return Key{}, err
	}
	const limit = 1 << 10 // more than any key, so that a wrong file is named as such
	b, err := disk.ReadFile(d, file, limit)
	if err != nil {
		return Key{}, err
	}
	if len(b) != KeySize {
		return Key{}, fmt.Errorf("key %s: %d bytes: %w", file, len(b), ErrKeyFile)
	}
	return Key(b), nil
}

// Create stores a key in a new file, durably; fs.ErrExist when there is one.
func Create(d disk.FS, file string, k Key) error {
	dir := filepath.Dir(file)
	if err := disk.MkdirAll(d, dir); err != nil {
		return err
	}
	l, err := d.Lock(dir, disk.ExclusiveWait)
	if err != nil {
		return err
	}
	defer l.Close()
	if _, err := d.Lstat(file); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("key %s: %w", file, errors.Join(err, fs.ErrExist))
	}
	return disk.WriteFile(d, file, k[:])
}
