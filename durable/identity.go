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
//
// Until the log has its first segment the identity is followed by the word new:
// only then may the directory have no log.
const (
	identityName  = "DURABLE"
	identityWords = "wakepoint durable "
	identityNew   = "new"
	identityMost  = 4096 // bytes of the file, of any version
	formatVersion = 1
)

// owner is what the file says.
type owner struct {
	id   identity
	made bool // the log, too
}

// openDir makes a directory if need be, locks it, and reads or makes its
// identity. Nothing is written into a directory of another program.
func openDir(d disk.FS, dir string) (o owner, lock io.Closer, err error) {
	if err := disk.MkdirAll(d, dir); err != nil {
		return o, nil, err
	}
	if lock, err = lockDir(d, dir, disk.Exclusive); err != nil {
		return o, nil, err
	}
	switch o, err = readIdentity(d, dir); {
	case err == nil:
		_ = o.mend(d, dir)   // one line was enough, and the other is written anew if that can be
		err = d.SyncDir(dir) // whoever made it may have been killed before: nothing else gets a name earlier
	case errors.Is(err, fs.ErrNotExist):
		o, err = makeIdentity(d, dir)
	}
	if err != nil {
		return o, nil, errors.Join(err, lock.Close())
	}
	return o, lock, nil
}

// lockDir locks a directory, or says that it is open.
func lockDir(d disk.FS, dir string, mode disk.LockMode) (io.Closer, error) {
	lock, err := d.Lock(dir, mode)
	if errors.Is(err, ErrInUse) {
		err = fmt.Errorf("durable: %s is open, in this process or in another one: %w", dir, err)
	}
	return lock, err
}

func makeIdentity(d disk.FS, dir string) (o owner, err error) {
	entries, err := d.ReadDir(dir)
	if err != nil {
		return o, err
	}
	for _, e := range entries {
		if e.Name() != filepath.Base(disk.TempName(identityName)) && e.Name() != "lost+found" {
			return o, fmt.Errorf("%w: %s holds %s and no %s", ErrForeign, dir, e.Name(), identityName)
		}
	}
	if err := syncAbove(d, dir); err != nil {
		return o, err
	}
	_, _ = rand.Read(o.id[:]) // never fails
	return o, o.write(d, dir)
}

func (o owner) write(d disk.FS, dir string) error {
	return disk.WriteFile(d, filepath.Join(dir, identityName), o.text())
}

// check says whether the file is damaged, in one line or both.
func (o owner) check(d disk.FS, dir string) error {
	b, err := disk.ReadFile(d, filepath.Join(dir, identityName), identityMost)
	if err == nil && bytes.Equal(b, o.text()) {
		return nil
	}
	if err == nil {
		err = errSum
	}
	return &DamageError{File: identityName, Why: err}
}

// mend does as well, and writes the file anew then.
func (o owner) mend(d disk.FS, dir string) error {
	err := o.check(d, dir)
	if err != nil {
		err = &DamageError{File: identityName, Why: errors.Join(errors.Unwrap(err), o.write(d, dir))}
	}
	return err
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

func readIdentity(d disk.FS, dir string) (o owner, err error) {
	name := filepath.Join(dir, identityName)
	if fi, err := d.Lstat(name); err != nil {
		return o, err
	} else if fi.IsDir() || fi.Size() > identityMost {
		return o, fmt.Errorf("%w: %s is none of ours", ErrForeign, name)
	}
	b, err := disk.ReadFile(d, name, identityMost)
	if err != nil {
		return o, err
	}
	if o, err = parseIdentity(b); err != nil {
		err = fmt.Errorf("%w (%s)", err, name)
	}
	return o, err
}

// text is the contents of the file.
func (o owner) text() []byte {
	line := fmt.Sprintf("%s%d %x ", identityWords, formatVersion, o.id[:])
	if !o.made {
		line += identityNew + " "
	}
	line += fmt.Sprintf("%08x\n", crc32.Checksum([]byte(line), castagnoli))
	return []byte(line + line)
}

// parseIdentity reads what text returned.
func parseIdentity(b []byte) (o owner, err error) {
	for _, line := range [][]byte{b[:len(b)/2], b[len(b)/2:]} {
		line = line[:max(0, len(line)-1)]
		end := max(0, len(line)-8)
		if !equal(fmt.Sprintf("%08x", crc32.Checksum(line[:end], castagnoli)), string(line[end:])) {
			continue
		}
		var version int
		var digits []byte
		var next string
		if _, err := fmt.Sscanf(string(line), identityWords+"%d %x %s", &version, &digits, &next); err != nil {
			continue
		}
		if version != formatVersion {
			return o, fmt.Errorf("%w: format %d", ErrNewer, version)
		}
		if len(digits) == len(o.id) {
			return owner{identity(digits), next != identityNew}, nil
		}
	}
	version := 0
	if _, err := fmt.Sscanf(string(b), identityWords+"%d", &version); err == nil && version > formatVersion &&
		!bytes.Contains(b, fmt.Appendf(nil, "%s%d ", identityWords, formatVersion)) { // whatever else a newer one says
		return o, fmt.Errorf("%w: format %d", ErrNewer, version)
	}
	for word := range strings.FieldsSeq(identityWords) {
		if bytes.Contains(b, []byte(word)) {
			return o, &DamageError{File: identityName, Why: errSum}
		}
	}
	return o, ErrForeign
}
