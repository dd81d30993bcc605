package crashfs

import (
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"syscall"

	"github.com/wakepoint/wakepoint/internal/disk"
)

// slot is a place for a name.
type slot struct {
	dir  *inode
	name string
}

// change is a change of names that is not durable yet.
type change struct {
	number int
	from   slot   // the name that goes; none: zero
	to     slot   // the name that comes; none: zero
	what   *inode // what has it
	before []*change
	waits  map[*inode]bool // directories that must be fsynced
}

func (c *change) rename() bool { return c.from.dir != nil && c.to.dir != nil }

func (c *change) touches(d *inode) bool { return c.from.dir == d || c.to.dir == d }

// follows reports whether no disk has c without b, which came earlier: both
// are about one name, both are renames in one directory, or c removes the
// directory that b has changed.
func (c *change) follows(b *change) bool {
	for _, x := range []slot{c.from, c.to} {
		if x.dir != nil && (x == b.from || x == b.to) {
			return true
		}
	}
	if c.rename() && b.rename() && (b.touches(c.from.dir) || b.touches(c.to.dir)) {
		return true
	}
	return c.to.dir == nil && c.what.dir && b.touches(c.what)
}

// apply makes the change in the names that names returns for a directory.
func (c *change) apply(names func(*inode) map[string]*inode) {
	if c.from.dir != nil {
		delete(names(c.from.dir), c.from.name)
	}
	if c.to.dir != nil {
		names(c.to.dir)[c.to.name] = c.what
	}
}

// change changes names, for processes at once, and durably some time.
func (f *FS) change(c *change) {
	f.changes++
	c.number, c.waits = f.changes, map[*inode]bool{}
	for _, s := range []slot{c.from, c.to} {
		if s.dir != nil {
			c.waits[s.dir] = true
		}
	}
	for _, b := range f.pending {
		if c.follows(b) {
			c.before = append(c.before, b)
		}
	}
	f.pending = append(f.pending, c)
	c.apply(func(d *inode) map[string]*inode { return d.names })
}

// Create makes a new file, see disk.FS.
func (f *FS) Create(name string) (disk.File, error) {
	var h *file
	err := f.call(disk.Op{Verb: "create", Name: name}, func() error {
		in, err := f.make(name, newFile())
		h = &file{fs: f, in: in, name: name, write: true}
		return err
	}, nil)
	if err != nil {
		return nil, err
	}
	return h, nil
}

// Mkdir makes a directory.
func (f *FS) Mkdir(name string) error {
	return f.call(disk.Op{Verb: "mkdir", Name: name}, func() error {
		_, err := f.make(name, newDir())
		return err
	}, nil)
}

func (f *FS) make(name string, in *inode) (*inode, error) {
	at, err := f.place(name)
	if err != nil {
		return nil, err
	}
	if at.dir.names[at.name] != nil || at.name == "" {
		return nil, syscall.EEXIST
	}
	if err := f.take(Sector); err != nil {
		return nil, err
	}
	f.change(&change{to: at, what: in})
	return in, nil
}

// Rename gives a file another name.
func (f *FS) Rename(from, to string) error {
	return f.call(disk.Op{Verb: "rename", Name: from, To: to}, func() error { return f.rename(from, to) }, nil)
}

func (f *FS) rename(from, to string) error {
	a, err := f.place(from)
	if err != nil {
		return err
	}
	b, err := f.place(to)
	if err != nil {
		return err
	}
	what, old := a.dir.names[a.name], b.dir.names[b.name]
	switch {
	case what == nil:
		return syscall.ENOENT
	case old != nil && old.dir || b.name == "":
		return syscall.EEXIST // as os.Rename does
	case a == b:
		return nil
	case what.dir && strings.HasPrefix(path.Clean("/"+to), path.Clean("/"+from)+"/"):
		return syscall.EINVAL
	case what.dir && old != nil:
		return syscall.ENOTDIR
	}
	if old != nil {
		f.free(old)
	}
	f.change(&change{from: a, to: b, what: what})
	return nil
}

// Remove removes a file or an empty directory.
func (f *FS) Remove(name string) error {
	return f.call(disk.Op{Verb: "remove", Name: name}, func() error {
		at, err := f.place(name)
		if err != nil {
			return err
		}
		what := at.dir.names[at.name]
		switch {
		case what == nil:
			return syscall.ENOENT
		case len(what.names) > 0:
			return syscall.ENOTEMPTY
		}
		f.free(what)
		f.change(&change{from: at, what: what})
		return nil
	}, nil)
}

// SyncDir makes the names in a directory durable that were there when it began,
// with all that no disk has them without. A rename between directories waits for
// both.
func (f *FS) SyncDir(name string) error {
	f.mu.Lock()
	last := f.changes
	f.mu.Unlock()
	return f.call(disk.Op{Verb: "syncdir", Name: name}, func() error {
		d, err := f.find(name)
		if err != nil {
			return err
		}
		if !d.dir {
			return syscall.ENOTDIR
		}
		durable := map[*change]bool{}
		for _, c := range slices.Backward(f.pending) {
			if c.number > last {
				continue
			}
			delete(c.waits, d)
			if durable[c] = durable[c] || len(c.waits) == 0; durable[c] {
				for _, b := range c.before {
					durable[b] = true
				}
			}
		}
		f.settle(durable)
		return nil
	}, nil)
}

// settle makes changes durable.
func (f *FS) settle(durable map[*change]bool) {
	var rest []*change
	for _, c := range f.pending {
		if durable[c] {
			c.apply(func(d *inode) map[string]*inode { return d.kept })
		} else {
			c.before = slices.DeleteFunc(c.before, func(b *change) bool { return durable[b] })
			rest = append(rest, c)
		}
	}
	f.pending = rest
}

// ReadDir lists a directory.
func (f *FS) ReadDir(name string) (list []fs.DirEntry, err error) {
	err = f.call(disk.Op{Verb: "readdir", Name: name}, func() error {
		d, err := f.find(name)
		if err != nil {
			return err
		}
		if !d.dir {
			return syscall.ENOTDIR
		}
		for _, base := range slices.Sorted(maps.Keys(d.names)) {
			list = append(list, d.names[base].info(base))
		}
		return nil
	}, nil)
	if err != nil {
		return nil, err
	}
	return list, nil
}

// Lstat describes a name.
func (f *FS) Lstat(name string) (fi fs.FileInfo, err error) {
	err = f.call(disk.Op{Verb: "lstat", Name: name}, func() error {
		in, err := f.find(name)
		if err == nil {
			fi = in.info(name)
		}
		return err
	}, nil)
	if err != nil {
		return nil, err
	}
	return fi, nil
}

// Private returns nil for whatever there is: this disk has one user.
func (f *FS) Private(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, err := f.find(name); err != nil {
		return fail("private", name, err)
	}
	return nil
}

// Volatile returns false: what is synced stays.
func (f *FS) Volatile(name string) (bool, error) { return false, f.Private(name) }
