package files

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Shelf gives out what a generation keeps, to a restore that finds other files
// on the host, or none.
type Shelf struct {
	dir   string   // where files are laid out
	own   []string // below them no file is believed without a look at its contents
	r     Reader
	files map[string]*KeptFile
	out   map[string]bool // what was laid out, by name in dir
}

// NewShelf returns the shelf of a generation. Files are laid out in dir, which
// is made when it is needed. own are the directories of the workload in its
// store, now and when the generation was made: others may have written there.
func NewShelf(k *Kept, r Reader, dir string, own ...string) *Shelf {
	s := &Shelf{dir: dir, own: own, r: r, files: map[string]*KeptFile{}, out: map[string]bool{}}
	for i := range k.Files {
		s.files[k.Files[i].Path] = &k.Files[i]
	}
	return s
}

// File returns f, when it is the file that the generation keeps under path,
// else the kept one, open for reading. f is what the host has under that name:
// nil with err when it cannot be opened, or with an err that says how it looks
// changed. For files that are not kept it returns f and err.
func (s *Shelf) File(path string, f *os.File, err error) (*os.File, error) {
	k := s.files[path]
	if k == nil {
		return f, err
	}
	if f != nil {
		var st unix.Stat_t
		if unix.Fstat(int(f.Fd()), &st) == nil && !underAny(path, s.own) {
			now := keptOf(path, &st)
			if now.Size == k.Size && now.Mtime == k.Mtime && now.Ino == k.Ino && now.Ctime == k.Ctime {
				return f, nil
			}
		}
		if k.is(f) {
			s.out[filepath.Base(filepath.Dir(path))] = true // it may be one that an earlier restore laid out
			return f, nil
		}
	}
	kept, kerr := s.layOut(k)
	if kerr != nil {
		return nil, errors.Join(err, fmt.Errorf("lay out %s as it was: %w", path, kerr))
	}
	return kept, nil
}

// layOut makes a kept file on the disk. One that is there is used when its
// contents are right. They are never flushed: after a power cut they are made
// anew.
func (s *Shelf) layOut(k *KeptFile) (*os.File, error) {
	sum := hex.EncodeToString(k.Sum[:16])
	dir := filepath.Join(s.dir, sum)
	name := filepath.Join(dir, filepath.Base(k.Path))
	s.out[sum] = true
	if f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW, 0); err == nil {
		if k.is(f) {
			return f, nil
		}
		_ = f.Close()
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := s.write(name, k); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	if !k.is(f) {
		_ = f.Close()
		return nil, errors.New("its contents are not what was kept")
	}
	return f, nil
}

// write writes a kept file. Nobody can write to it afterwards: what is open for
// writing cannot be executed.
func (s *Shelf) write(name string, k *KeptFile) error {
	temp := filepath.Join(filepath.Dir(name), tempName(name))
	_ = os.Remove(temp)
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer os.Remove(temp)
	defer f.Close()
	if err := f.Truncate(k.Size); err != nil {
		return err
	}
	err = eachPiece(s.r, k.Pieces, func(off int64, b []byte) error {
		_, err := f.WriteAt(b, off)
		return err
	})
	if err != nil {
		return err
	}
	if err := errors.Join(f.Chmod(0o555), f.Close()); err != nil {
		return err
	}
	return os.Rename(temp, name)
}

// Tidy removes what earlier restores laid out and this one did not need.
func (s *Shelf) Tidy() error {
	list, err := os.ReadDir(s.dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	for _, e := range list {
		if !s.out[e.Name()] {
			err = errors.Join(err, os.RemoveAll(filepath.Join(s.dir, e.Name())))
		}
	}
	return err
}
