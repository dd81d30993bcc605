package keeper

import (
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/wakepoint/wakepoint/internal/api"
	"github.com/wakepoint/wakepoint/internal/disk"
	"github.com/wakepoint/wakepoint/internal/hint"
	"github.com/wakepoint/wakepoint/internal/seal"
	"github.com/wakepoint/wakepoint/internal/store"
)

// options is how a directory is opened with the site's key. Where fresh says
// that nothing was sealed yet, a missing key is made, unless it is one that is
// lent.
func (s Site) options(fresh bool) (store.Options, error) {
	if s.KeyFile == "" {
		return store.Options{Warn: s.warn}, nil
	}
	k, err := seal.Load(disk.OS{}, s.KeyFile)
	if errors.Is(err, fs.ErrNotExist) && fresh && s.Beside == "" {
		k = seal.New()
		if err = seal.Create(disk.OS{}, s.KeyFile, k); errors.Is(err, fs.ErrExist) {
			k, err = seal.Load(disk.OS{}, s.KeyFile) // somebody else was faster
		}
	}
	if err != nil {
		return store.Options{}, hint.Key(s.KeyFile, err)
	}
	return store.Options{Key: k, Warn: s.warn}, nil
}

// open opens the store.
func (s Site) open() (*store.Store, error) {
	st, err := s.openStore()
	if err != nil {
		return nil, hint.Store(s.StoreDir, err)
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
	o.Heads = s.beside("heads")
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
	o, err := s.options(!isDump(dir))
	if err != nil {
		return nil, err
	}
	return store.OpenWorkload(dir, o)
}

// ExportKey writes a recovery copy of the site's key for an age recipient, or
// where that is empty for a passphrase.
func (s Site) ExportKey(w io.Writer, recipient, passphrase string) error {
	k, err := seal.Load(disk.OS{}, s.KeyFile)
	if err != nil {
		return hint.Key(s.KeyFile, err)
	}
	to, err := seal.Passphrase(passphrase)
	if recipient != "" {
		to, err = seal.ParseRecipient(recipient)
	}
	if err != nil {
		return api.Errorf(api.CodeUsage, "a recipient begins with age1; `age-keygen` makes one", "%w", err)
	}
	return seal.Export(w, k, to)
}

// ImportKey makes the key of a recovery copy the site's, with the text of an
// age identity file, or where that is nil with a passphrase. It does not
// replace another key.
func (s Site) ImportKey(r, identities io.Reader, passphrase string) error {
	by, err := seal.PassphraseIdentity(passphrase)
	if identities != nil {
		by, err = seal.ParseIdentities(identities)
	}
	if err != nil {
		return api.Errorf(api.CodeUsage, "--identity names a file that `age-keygen` made", "%w", err)
	}
	k, err := seal.Import(r, by)
	if err != nil {
		return api.Errorf(api.CodeIntegrity, "it must be read with what it was exported to", "%w", err)
	}
	if s.Beside != "" {
		return api.Errorf(api.CodeUsage, "name a file with --key", "%s is lent to this service", s.KeyFile)
	}
	err = seal.Create(disk.OS{}, s.KeyFile, k)
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	old, err := seal.Load(disk.OS{}, s.KeyFile)
	if err != nil {
		return hint.Key(s.KeyFile, err)
	}
	if old != k {
		return api.Errorf(api.CodeFailed, "name another file with --key, or move that one away; what it sealed needs it", "%s holds another key", s.KeyFile)
	}
	return nil
}
