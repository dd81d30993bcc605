package files

import (
	"errors"
	"io/fs"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// follow adds to what is open outside the trees the files that were written and
// closed: since the last generation, and those that it has for that reason. One
// that was renamed is followed to its new name.
func (c *Capture) follow(o Options, open map[string]Open) {
	find := newFinder()
	outside := func(p string) bool {
		return clean(p) && !underAny(p, o.Except) && !underAny(p, o.Trees)
	}
	add := func(p string) {
		f := open[p]
		if f.Written {
			return
		}
		if f.Path == "" && c.followed >= writtenMax {
			c.beyond.beyond(p)
			return
		}
		c.followed++
		f.Path, f.Written = p, true
		open[p] = f
	}
	one := func(f Written) {
		if find.is(f) {
			add(f.Path)
			return
		}
		if p := find.other(f); p != "" && outside(p) {
			add(p)
		}
		if regularAt(f.Path) && find.reached(filepath.Dir(f.Path)) { // another file's name now
			add(f.Path)
		} else {
			c.gone = append(c.gone, f.Path)
		}
	}
	last := o.Last
	if o.Follow != nil {
		last = o.Follow
	}
	if last != nil {
		for i := range last.Entries {
			switch e := &last.Entries[i]; {
			case !outside(e.Path):
			case e.Kind == Gone:
				c.gone = append(c.gone, e.Path)
			case e.Written:
				one(Written{Path: e.Path, Dev: e.Dev, Ino: e.Ino, Handle: e.Handle})
			}
		}
	}
	for _, p := range o.Gone {
		if outside(p) {
			c.gone = append(c.gone, p)
			if regularAt(p) && find.reached(filepath.Dir(p)) {
				add(p)
			}
		}
	}
	for _, f := range o.Written {
		if outside(f.Path) {
			one(f)
		}
	}
}

// regularAt says that path is the name of a file.
func regularAt(path string) bool {
	var st unix.Stat_t
	return unix.Lstat(path, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFREG
}

// absent adds the names that are not there: of those that came last as many as
// are kept.
func (c *Capture) absent() {
	seen := map[string]bool{}
	var out []Entry
	for _, p := range slices.Backward(c.gone) {
		if len(out) == goneMax {
			break
		}
		if seen[p] {
			continue
		}
		seen[p] = true
		if err := unix.Lstat(p, new(unix.Stat_t)); errors.Is(err, fs.ErrNotExist) {
			out = append(out, Entry{Path: p, Kind: Gone})
		}
	}
	slices.Reverse(out)
	c.index.Entries = append(c.index.Entries, out...)
}

// homeless drops the names whose directory is not there any more: nothing can
// have come there. It is called after the thaw: a name too many does no harm.
func (c *Capture) homeless() {
	there := map[string]bool{}
	c.index.Entries = slices.DeleteFunc(c.index.Entries, func(e Entry) bool {
		if e.Kind != Gone {
			return false
		}
		dir := filepath.Dir(e.Path)
		is, known := there[dir]
		if !known {
			is = unix.Lstat(dir, new(unix.Stat_t)) == nil
			there[dir] = is
		}
		return !is
	})
}

// find makes an entry one of a file that is followed, and remembers how to
// find that again after a rename.
func (c *Capture) find(e *Entry) {
	if e.Kind != Regular && e.Kind != Link {
		return
	}
	e.Written = true
	if old, ok := c.last[e.Path]; ok && old.Handle != nil && old.Dev == e.Dev && old.Ino == e.Ino && old.Ctime == e.Ctime {
		e.Handle = old.Handle
		return
	}
	e.Handle = handleOf(unix.AT_FDCWD, e.Path)
}

// Beyond is a sentence about the files that were written and closed and are
// too many to be followed; "" when there are none.
func (c *Capture) Beyond() string {
	if dir := most(c.beyond.most); dir != "" {
		return tooMany(dir)
	}
	return ""
}

// remove deletes the files that have come under names that were not there.
// What is no file is left alone, and so is what lies behind a link.
func (p *put) remove() error {
	for i := range p.x.Entries {
		e := &p.x.Entries[i]
		if e.Kind != Gone {
			continue
		}
		came := false
		err := p.root(func() (err error) { came, err = p.hasCome(e.Path); return err })
		if err != nil {
			return err
		}
		if !came {
			continue
		}
		dir, base, err := p.parent(e.Path)
		if err != nil {
			return err
		}
		p.changed.add(&p.changed.Deleted, e.Path)
		if err := unix.Unlinkat(dir, base, 0); err != nil && !errors.Is(err, unix.ENOENT) {
			return &fs.PathError{Op: "delete", Path: e.Path, Err: err}
		}
	}
	return nil
}

// hasCome says that there is a file under a name, and that no link leads to it.
func (p *put) hasCome(path string) (bool, error) {
	dir, base, err := p.parent(path)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	var st unix.Stat_t
	if unix.Fstatat(dir, base, &st, unix.AT_SYMLINK_NOFOLLOW) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return false, nil
	}
	return true, p.device(dir)
}
