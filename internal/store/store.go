package store

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"syscall"
	"time"

	"github.com/wakepoint/wakepoint/internal/disk"
	"github.com/wakepoint/wakepoint/internal/seal"
)

// Options says how a store is used. The zero value is right outside tests.
type Options struct {
	// FS is what the store lies on; nil is the operating system's.
	FS disk.FS
	// Key is the root of trust; the zero key protects against accidents alone.
	Key seal.Key
	// Heads is the directory, outside the store, that says how far each
	// workload had come; empty: none.
	Heads string
	// Warn, when not nil, is told of what went wrong and harms nothing.
	Warn func(error)
	// Buffer bounds the bytes that a draft holds in memory between Put and the
	// disk; 0 is 64 MiB.
	Buffer int64
	// Now is the clock; nil is time.Now.
	Now func() time.Time

	limits limits // the zero value is defaultLimits
}

// limits are sizes that tests make small.
type limits struct {
	packSize  int64 // a pack that reaches this is followed by another one
	treeNodes int   // nodes (about 0.6 KB) that a tree holds in memory before it writes and forgets them

	// When a commit moves what is alive out of packs, see evacuate.go.
	dead  int64 // dead bytes that are never worth it
	moved int64 // live bytes moved by one commit, at most
	packs int   // packs of one generation that are too many
}

var defaultLimits = limits{packSize: 64 << 20, treeNodes: 8192, dead: 64 << 20, moved: 32 << 20, packs: 256}

func (o Options) filled() Options {
	if o.FS == nil {
		o.FS = disk.OS{}
	}
	if o.Buffer <= 0 {
		o.Buffer = 64 << 20
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.limits == (limits{}) {
		o.limits = defaultLimits
	}
	return o
}

const (
	storeFile    = "store" // record: "wakepoint store 1"
	storeText    = "wakepoint store 1"
	workloadsDir = "workloads"
)

// Store is a directory of workloads.
type Store struct {
	dir    string
	o      Options
	id     [16]byte
	damage *Damage // of the file that says what it is; nil when that is whole
}

// Open opens the store in dir and makes one where dir is missing or empty. It
// refuses a directory that holds something else (ErrForeign), a store of
// another version (ErrVersion), and one that another user owns or may enter
// (disk.ErrNotPrivate). A store on a read-only file system opens for reading.
// One whose own file is damaged or gone opens as long as a workload in it can
// be opened, see Damage.
func Open(dir string, o Options) (*Store, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	s := &Store{dir: dir, o: o.filled()}
	err = claim(s.o.FS, dir, storeFile, workloadsDir, func() error {
		_, _ = rand.Read(s.id[:]) // never fails
		return s.mark()
	})
	if err != nil {
		return nil, fmt.Errorf("open store %s: %w", dir, err)
	}
	text, k, err := openRecord(s.o.FS, s.o.Key, filepath.Join(dir, storeFile))
	s.id = k.store
	switch d := damageIn(storeFile, err); {
	case d != nil && s.evident():
		d.Follows = "it is written again with the next workload that is made; no workload is touched"
		s.damage = d
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("open store %s: holds %s: %w", dir, workloadsDir, ErrForeign)
	case err != nil:
		return nil, fmt.Errorf("open store %s: %w", dir, err)
	case string(text) != storeText:
		return nil, fmt.Errorf("open store %s: %q: %w", dir, text, ErrVersion)
	case k.workload != workloadID{}:
		return nil, fmt.Errorf("open store %s: of a workload: %w", dir, ErrForeign)
	}
	return s, nil
}

// mark writes the file that says what the directory is.
func (s *Store) mark() error {
	k := keyring{root: s.o.Key, store: s.id}
	return writeRecord(s.o.FS, k, filepath.Join(s.dir, storeFile), []byte(storeText))
}

// evident reports whether a workload in the store can be opened, so that the
// store is one of this version whatever its own file says, and takes its id
// from it.
func (s *Store) evident() bool {
	names, err := s.Names()
	if err != nil {
		return false
	}
	for _, name := range names {
		if w := workloadAt(s.path(name), s.o); w.identify() == nil {
			s.id = w.keys.store
			return true
		}
	}
	return false
}

// Damage returns what is damaged of the store's own file.
func (s *Store) Damage() []Damage {
	if s.damage == nil {
		return nil
	}
	return []Damage{*s.damage}
}

// claim sees to it that dir is a private directory with a record named mark
// in it, or, where the record was lost, one that holds the name inside. Where
// dir is missing or empty it makes them; a directory that holds anything else
// is foreign, and nothing is made in it.
func claim(d disk.FS, dir, mark, inside string, make func() error) error {
	if err := disk.MkdirAll(d, dir); err != nil {
		return err
	}
	if err := d.Private(dir); err != nil {
		// That it is somebody's own directory says more than who may enter it.
		if _, ferr := holds(d, dir, mark, inside); errors.Is(ferr, ErrForeign) {
			return ferr
		}
		return err
	}
	_, err := d.Lstat(filepath.Join(dir, mark))
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// Two may come here at once; the second finds what the first made.
	l, err := d.Lock(dir, disk.ExclusiveWait)
	if err != nil {
		return err
	}
	defer l.Close()
	if ours, err := holds(d, dir, mark, inside); ours || err != nil {
		return err
	}
	if err := syncAbove(d, dir); err != nil {
		return err
	}
	return make()
}

// syncAbove makes the name of a directory durable, and those of all above it:
// whoever made them may have died before he could. What this user may not
// open he has not made.
func syncAbove(d disk.FS, dir string) error {
	for up := filepath.Dir(dir); up != dir; dir, up = up, filepath.Dir(up) {
		if err := d.SyncDir(up); err != nil && !errors.Is(err, fs.ErrPermission) {
			return err
		}
	}
	return nil
}

// Claimed reports whether dir holds a store. It is ErrForeign when it holds
// something else, and no error when it is missing or empty.
func Claimed(d disk.FS, dir string) (bool, error) {
	ours, err := holds(d, dir, storeFile, workloadsDir)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return ours, err
}

// lostFound is in the top directory of every new ext4: a store may have a file
// system of its own.
const lostFound = "lost+found"

// holds reports whether a directory holds one of two names of ours. It is
// ErrForeign when it holds none of them, but something else.
func holds(d disk.FS, dir, mark, inside string) (bool, error) {
	entries, err := d.ReadDir(dir)
	if err != nil {
		return false, err
	}
	other := ""
	for _, e := range entries {
		switch {
		case e.Name() == mark || e.Name() == inside:
			return true, nil
		case !disk.IsTemp(e.Name()) && e.Name() != lostFound:
			other = e.Name()
		}
	}
	if other != "" {
		return false, fmt.Errorf("holds %s: %w", other, ErrForeign)
	}
	return false, nil
}

// Dir returns where the store lies.
func (s *Store) Dir() string { return s.dir }

// Volatile reports whether the store lies in memory (tmpfs), so that it will
// not outlive a boot. It is false when that cannot be found out.
func (s *Store) Volatile() bool {
	v, err := s.o.FS.Volatile(s.dir)
	return err == nil && v
}

// Names returns the names of the workloads, sorted.
func (s *Store) Names() ([]string, error) {
	entries, err := s.o.FS.ReadDir(filepath.Join(s.dir, workloadsDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list workloads: %w", err)
	}
	var names []string
	for _, e := range entries {
		if CheckName(e.Name()) != nil {
			continue
		}
		if s.has(e.Name()) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

func (s *Store) path(name string) string { return filepath.Join(s.dir, workloadsDir, name) }

// has reports whether there is a workload. One whose making or removal was
// cut short is none; one with a place for generations is, also when the file
// that says what it is was lost. Where it cannot be told there is one: what is
// not there is made anew.
func (s *Store) has(name string) bool {
	for _, inside := range []string{workloadFile, manifestsDir} {
		_, err := s.o.FS.Lstat(filepath.Join(s.path(name), inside))
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) {
			return true
		}
	}
	return false
}

// find returns an error that matches ErrName or ErrNotFound unless there is a
// workload of the name.
func (s *Store) find(name string) error {
	if err := CheckName(name); err != nil {
		return fmt.Errorf("workload: %w", err)
	}
	if !s.has(name) {
		return fmt.Errorf("workload %s: %w", name, ErrNotFound)
	}
	return nil
}

// Create makes a workload; ErrExist when the name is taken.
func (s *Store) Create(name string) (w *Workload, err error) {
	err = s.making(name, func() error {
		w, err = openWorkload(s.path(name), s.id, s.o)
		return err
	})
	return w, err
}

// making calls f, which makes a workload, where its name is free, while no
// other process makes or removes one.
func (s *Store) making(name string, f func() error) error {
	if err := CheckName(name); err != nil {
		return fmt.Errorf("create workload: %w", err)
	}
	if err := disk.MkdirAll(s.o.FS, filepath.Join(s.dir, workloadsDir)); err != nil {
		return fmt.Errorf("create workload %s: %w", name, err)
	}
	l, err := s.o.FS.Lock(s.dir, disk.ExclusiveWait)
	if err != nil {
		return fmt.Errorf("create workload %s: %w", name, err)
	}
	defer l.Close()
	if s.has(name) {
		return fmt.Errorf("create workload %s: %w", name, ErrExist)
	}
	if err := s.sweep(); err != nil {
		return fmt.Errorf("create workload %s: %w", name, err)
	}
	if s.damage != nil {
		if err := s.mark(); err != nil {
			return fmt.Errorf("create workload %s: %w", name, err)
		}
	}
	return f()
}

// Workload opens a workload; ErrNotFound when there is none of the name,
// ErrDamaged when it cannot be told what its directory is.
func (s *Store) Workload(name string) (*Workload, error) {
	if err := s.find(name); err != nil {
		return nil, err
	}
	return openWorkload(s.path(name), s.id, s.o)
}

// Salvage opens what there is of a workload, however damaged: its records can
// be read, each as far as it is whole, and its lock be taken, but not its
// generations. ErrNotFound when there is none of the name.
func (s *Store) Salvage(name string) (*Workload, error) {
	if err := s.find(name); err != nil {
		return nil, err
	}
	w := workloadAt(s.path(name), s.o)
	if w.identify() != nil {
		w.keys = w.keysOfRecords()
	}
	return w, nil
}

// Remove removes a workload with all its generations and everything else in
// its directory, whatever is damaged of it. It is ErrLocked while somebody
// writes to the workload or reads one of its generations. A removal that is cut short is finished by
// the next Create or Remove in the store.
func (s *Store) Remove(name string) error {
	w, err := s.Salvage(name)
	if err != nil {
		return fmt.Errorf("remove: %w", err)
	}
	l, err := s.o.FS.Lock(s.dir, disk.ExclusiveWait)
	if err != nil {
		return fmt.Errorf("remove workload %s: %w", name, err)
	}
	defer l.Close()
	own, err := w.acquire()
	if err != nil {
		return fmt.Errorf("remove workload %s: %w", name, err)
	}
	defer own.Close()
	if err := w.unread(); err != nil {
		return fmt.Errorf("remove workload %s: %w", name, err)
	}
	if err := s.remove(name); err != nil {
		return fmt.Errorf("remove workload %s: %w", name, err)
	}
	if err := w.dropHead(); err != nil {
		return fmt.Errorf("remove workload %s: %w", name, err)
	}
	return nil
}

// remove takes the name away first, durably, so that no cut leaves a workload
// with holes in it.
func (s *Store) remove(name string) error {
	if err := s.sweep(); err != nil {
		return err
	}
	if err := s.o.FS.Rename(s.path(name), disk.TempName(s.path(name))); err != nil {
		return err
	}
	return s.sweep()
}

// sweep finishes removals that were cut short, and removes what was coming in
// and was cut, and what of the store's own file a healing has left that was.
// That a workload has lost its name is made durable first: whoever took it may
// have died before he could. The caller holds the store's lock.
func (s *Store) sweep() error {
	if err := removeTemp(s.o.FS, filepath.Join(s.dir, storeFile)); err != nil {
		return err
	}
	dir := filepath.Join(s.dir, workloadsDir)
	entries, err := s.o.FS.ReadDir(dir)
	if err != nil {
		return err
	}
	synced := false
	for _, e := range entries {
		if !disk.IsTemp(e.Name()) || s.coming(e.Name()) {
			continue
		}
		if !synced {
			if err := s.o.FS.SyncDir(dir); err != nil {
				return err
			}
			synced = true
		}
		if err := disk.RemoveAll(s.o.FS, filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}
