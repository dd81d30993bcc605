package session

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// KeyFile reads a key for Options.Keys, or makes it, readable for its owner only. It
// belongs where the store's backups do not go: who has both has all secrets.
func KeyFile(name string) ([]byte, error) {
	key, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		if err = makeKey(name); err == nil || errors.Is(err, fs.ErrExist) {
			key, err = os.ReadFile(name)
		}
	}
	if err != nil {
		return nil, err
	}
	if len(key) != KeySize {
		return nil, fmt.Errorf("session: %s has %d bytes, a key %d", name, len(key), KeySize)
	}
	return key, nil
}

// makeKey makes a key that is whole and durable when it has its name, which is
// nobody else's.
func makeKey(name string) error {
	key := make([]byte, KeySize)
	_, _ = rand.Read(key) // never fails
	f, err := os.CreateTemp(filepath.Dir(name), ".key-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(key)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Link(f.Name(), name); err != nil {
		return err
	}
	if runtime.GOOS == "windows" {
		return nil // a name is durable there when it is
	}
	d, err := os.Open(filepath.Dir(name))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
