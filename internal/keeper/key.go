package keeper

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/wakepoint/wakepoint/internal/api"
	"github.com/wakepoint/wakepoint/internal/disk"
	"github.com/wakepoint/wakepoint/internal/seal"
	"github.com/wakepoint/wakepoint/internal/store"
)

// options is how a directory is opened with the site's key. Where fresh says
// that nothing was sealed yet, a missing key is made.
func (s Site) options(fresh bool) (store.Options, error) {
	if s.KeyFile == "" {
		return store.Options{Warn: s.warn}, nil
	}
	k, err := seal.Load(disk.OS{}, s.KeyFile)
	if errors.Is(err, fs.ErrNotExist) && fresh {
		k = seal.New()
		if err = seal.Create(disk.OS{}, s.KeyFile, k); errors.Is(err, fs.ErrExist) {
			k, err = seal.Load(disk.OS{}, s.KeyFile) // somebody else was faster
		}
	}
	if err != nil {
		return store.Options{}, explainKey(s.KeyFile, err)
	}
	return store.Options{Key: k, Warn: s.warn}, nil
}

// explainKey says what is the matter with a key file.
func explainKey(file string, err error) *api.Error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return api.Errorf(api.CodeIntegrity, "--key names the file with the key that the store was sealed with", "the key %s is missing", file)
	case errors.Is(err, seal.ErrExposed):
		return api.Errorf(api.CodeIntegrity, "it must belong to the user who runs wakepoint, with mode 0600", "%w", err)
	case errors.Is(err, seal.ErrKeyFile):
		return api.Errorf(api.CodeIntegrity, "--key names the file with the key that the store was sealed with", "%w", err)
	}
	return api.Errorf(api.CodeFailed, "", "key %s: %w", file, err)
}

// open opens the store.
func (s Site) open() (*store.Store, error) {
	st, err := s.openStore()
	if err != nil {
		return nil, explainStore(s.StoreDir, err)
	}
	return st, nil
}

// openStore is open with the store's own errors.
func (s Site) openStore() (*store.Store, error) {
	ours, err := store.Claimed(disk.OS{}, s.StoreDir)
	if err != nil {
		return nil, fmt.Errorf("open store %s: %w", s.StoreDir, err)
	}
	o, err := s.options(!ours)
	if err != nil {
		return nil, err
	}
	if s.KeyFile != "" {
		o.Heads = filepath.Join(filepath.Dir(s.KeyFile), "heads")
	}
	return store.Open(s.StoreDir, o)
}

// young says when a workload is older than it was: its store was put back from
// a copy, and what it did since is not in it. With Strict it is refused.
func (s Site) young(w *store.Workload, name string) (words string, err error) {
	err = w.Older()
	if errors.Is(err, store.ErrOlder) && !s.Strict {
		return "; " + err.Error(), nil
	}
	if errors.Is(err, store.ErrOlder) {
		return "", api.Errorf(api.CodeIntegrity, "without --strict it goes on from what there is", "%s: %w", name, err)
	}
	return "", err
}

// openDump opens a directory that DumpTo writes, or has written.
func (s Site) openDump(dir string) (*store.Workload, error) {
	_, err := os.Lstat(filepath.Join(dir, "workload"))
	o, err := s.options(errors.Is(err, fs.ErrNotExist))
	if err != nil {
		return nil, err
	}
	return store.OpenWorkload(dir, o)
}
