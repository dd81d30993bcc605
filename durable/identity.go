package durable

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/wakepoint/wakepoint/internal/disk"
)

// identity tells a directory's files from those of others: it goes into the
// checksums of all generations.
type identity [16]byte

// The file that says whose a directory is: a line of text, twice. Its last word
// is the CRC-32C of what stands before that; of the lines one may be damaged.
//
//	wakepoint durable 1 0123456789abcdef0123456789abcdef 1df1bd97
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
	if lock, err = lockDir(d, dir, disk.Exclusive); err != nil {
		return id, nil, err
	}
	switch id, err = readIdentity(d, dir); {
	case err == nil:
		_ = id.check(d, dir) // one line was enough, and the other is written anew if that can be
		err = d.SyncDir(dir) // whoever made it may have been killed before: nothing else gets a name earlier
	case errors.Is(err, fs.ErrNotExist):
		id, err = makeIdentity(d, dir)
	}
	if err != nil {
		return id, nil, errors.Join(err, lock.Close())
	}
	return id, lock, nil
}

// lockDir locks a directory, or says that it is open.
func lockDir(d disk.FS, dir string, mode disk.LockMode) (io.Closer, error) {
	lock, err := d.Lock(dir, mode)
	if errors.Is(err, ErrInUse) {
		err = fmt.Errorf("durable: %s is open, in this process or in another one: %w", dir, err)
	}
	return lock, err
}

func makeIdentity(d disk.FS, dir string) (id identity, err error) {
	entries, err := d.ReadDir(dir)
	if err != nil {
		return id, err
	}
	for _, e := range entries {
		if e.Name() != filepath.Base(disk.TempName(identityName)) && e.Name() != "lost+found" {
			return id, fmt.Errorf("%w: %s holds %s and no %s", ErrForeign, dir, e.Name(), identityName)
		}
	}
	if err := syncAbove(d, dir); err != nil {
		return id, err
	}
	_, _ = rand.Read(id[:]) // never fails
	return id, disk.WriteFile(d, filepath.Join(dir, identityName), id.text())
}

// check says whether the file is damaged, and writes it anew then.
func (id identity) check(d disk.FS, dir string) error {
	name := filepath.Join(dir, identityName)
	b, err := disk.ReadFile(d, name, 4096)
	if err == nil && bytes.Equal(b, id.text()) {
		return nil
	}
	if err == nil {
		err = errSum
	}
	return &DamageError{File: identityName, Why: errors.Join(err, disk.WriteFile(d, name, id.text()))}
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
	if id, err = parseIdentity(b); err != nil {
		err = fmt.Errorf("%w (%s)", err, filepath.Join(dir, identityName))
	}
	return id, err
}

// text is the contents of the file.
func (id identity) text() []byte {
	line := fmt.Sprintf("%s%d %x ", identityWords, formatVersion, id[:])
	line += fmt.Sprintf("%08x\n", crc32.Checksum([]byte(line), castagnoli))
	return []byte(line + line)
}

// parseIdentity reads what text returned.
func parseIdentity(b []byte) (id identity, err error) {
	for _, line := range [][]byte{b[:len(b)/2], b[len(b)/2:]} {
		line = line[:max(0, len(line)-1)]
		end := max(0, len(line)-8)
		if !equal(fmt.Sprintf("%08x", crc32.Checksum(line[:end], castagnoli)), string(line[end:])) {
			continue
		}
		var version int
		var digits []byte
		if _, err := fmt.Sscanf(string(line), identityWords+"%d %x", &version, &digits); err != nil {
			continue
		}
		if version != formatVersion {
			return id, fmt.Errorf("%w: format %d", ErrNewer, version)
		}
		if len(digits) == len(id) {
			return identity(digits), nil
		}
	}
	for word := range strings.FieldsSeq(identityWords) {
		if bytes.Contains(b, []byte(word)) {
			return id, &DamageError{File: identityName, Why: errSum}
		}
	}
	return id, ErrForeign
}
