package durable

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/wakepoint/wakepoint/internal/disk"
)

// identity tells a directory's files from those of others: it goes into the
// checksums of all generations.
type identity [16]byte

// The file that says whose a directory is: a line of text.
//
//	wakepoint durable 1 0123456789abcdef0123456789abcdef
const (
	identityName  = "DURABLE"
	identityWords = "wakepoint durable "
	formatVersion = 1
)

// openDir makes a directory if need be, locks it, and reads or makes its
// identity. Nothing is written into a directory of another program.
func openDir(d disk.FS, dir string) (id identity, lock io.Closer, err error) {
	if err := disk.MkdirAll(d, dir); err != nil {
		return id, nil, err
	}
	if lock, err = d.Lock(dir, disk.Exclusive); err != nil {
		return id, nil, err
	}
	if id, err = readIdentity(d, dir); errors.Is(err, fs.ErrNotExist) {
		id, err = makeIdentity(d, dir)
	}
	if err != nil {
		return id, nil, errors.Join(err, lock.Close())
	}
	return id, lock, nil
}

func makeIdentity(d disk.FS, dir string) (id identity, err error) {
	entries, err := d.ReadDir(dir)
	if err != nil {
		return id, err
	}
	for _, e := range entries {
		if e.Name() != filepath.Base(disk.TempName(identityName)) && e.Name() != "lost+found" {
			return id, fmt.Errorf("%s holds %s and no %s: %w", dir, e.Name(), identityName, ErrForeign)
		}
	}
	if err := syncAbove(d, dir); err != nil {
		return id, err
	}
	_, _ = rand.Read(id[:]) // never fails
	line := fmt.Sprintf("%s%d %x\n", identityWords, formatVersion, id[:])
	return id, disk.WriteFile(d, filepath.Join(dir, identityName), []byte(line))
}

// syncAbove makes the name of a directory durable, and the names of those above
// it: whoever has made them may have been cut off before. One that may not be read
// is none that we have made.
func syncAbove(d disk.FS, dir string) error {
	for up := filepath.Dir(dir); up != dir; dir, up = up, filepath.Dir(up) {
		if err := d.SyncDir(up); err != nil && !errors.Is(err, fs.ErrPermission) {
			return err
		}
	}
	return nil
}

func readIdentity(d disk.FS, dir string) (id identity, err error) {
	b, err := disk.ReadFile(d, filepath.Join(dir, identityName), 4096)
	if err != nil {
		return id, err
	}
	var version int
	var digits string
	if n, err := fmt.Sscanf(string(b), identityWords+"%d %s\n", &version, &digits); n == 0 {
		return id, fmt.Errorf("%s: %w: %w", filepath.Join(dir, identityName), ErrForeign, err)
	}
	if version != formatVersion {
		return id, fmt.Errorf("%s has format %d: %w", dir, version, ErrNewer)
	}
	got, err := hex.DecodeString(strings.TrimSpace(digits))
	if err != nil || len(got) != len(id) {
		return id, &DamageError{File: identityName, Why: fmt.Errorf("%q is no identity", digits)}
	}
	return identity(got), nil
}
