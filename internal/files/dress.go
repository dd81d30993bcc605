package files

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// special makes a symbolic link, a further name or a FIFO.
func (p *put) special(e *Entry) error {
	there := false
	err := p.root(func() (err error) { there, err = p.isThere(e); return err })
	if there || err != nil {
		return err
	}
	dir, base, err := p.parent(e.Path)
	if err != nil {
		return err
	}
	name := tempName(e.Path)
	unix.Unlinkat(dir, name, 0)
	switch e.Kind {
	case Link:
		to, first := filepath.Split(e.Target)
		from, err := beneath(filepath.Clean(to))
		if err != nil {
			return err
		}
		defer unix.Close(from)
		if err := unix.Linkat(from, first, dir, name, 0); err != nil {
			return err
		}
		return p.rename(dir, name, base)
	case Symlink:
		err = unix.Symlinkat(e.Target, dir, name)
	case FIFO:
		err = unix.Mknodat(dir, name, unix.S_IFIFO|e.Mode&0o777, 0)
	}
	if err != nil {
		return err
	}
	if err := p.dressPlace(dir, name, e); err != nil {
		return err
	}
	return p.rename(dir, name, base)
}

// isThere says that what has the name is what it was.
func (p *put) isThere(e *Entry) (bool, error) {
	dir, base, err := p.parent(e.Path)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err == nil {
		err = p.device(dir)
	}
	var st unix.Stat_t
	if err != nil || unix.Fstatat(dir, base, &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
		return false, err
	}
	now := entryOf(e.Path, &st)
	switch e.Kind {
	case Link:
		to, first := filepath.Split(e.Target)
		from, err := beneath(filepath.Clean(to))
		if err != nil {
			return false, err
		}
		defer unix.Close(from)
		var a unix.Stat_t
		return unix.Fstatat(from, first, &a, unix.AT_SYMLINK_NOFOLLOW) == nil && a.Dev == st.Dev && a.Ino == st.Ino, nil
	case FIFO:
		return now.Kind == FIFO, nil // others may hold it open
	}
	target := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(dir, base, target)
	return err == nil && string(target[:n]) == e.Target && now.UID == e.UID && now.GID == e.GID && now.Mtime == e.Mtime, nil
}

// dressPlace dresses what is no file and no directory: it is held as a place.
func (p *put) dressPlace(dir int, name string, e *Entry) error {
	fd, err := openIn(dir, name, unix.O_PATH|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Uid != e.UID || st.Gid != e.GID {
		if err := unix.Fchownat(fd, "", int(e.UID), int(e.GID), unix.AT_EMPTY_PATH); err != nil {
			return fmt.Errorf("owner: %w", err)
		}
	}
	if e.Kind == FIFO && st.Mode&0o7777 != e.Mode {
		if err := unix.Chmod("/proc/self/fd/"+strconv.Itoa(fd), e.Mode); err != nil {
			return fmt.Errorf("mode: %w", err)
		}
	}
	return p.times(fd, &st, e)
}

// finish gives the directories of the trees their owners, modes and times,
// children before parents.
func (p *put) finish() error {
	for i := len(p.x.Entries) - 1; i >= 0; i-- {
		e := &p.x.Entries[i]
		if e.Kind != Directory || e.Loose {
			continue
		}
		as := false
		err := p.root(func() (err error) { as, err = p.isDressed(e); return err })
		if err == nil && !as {
			var dir int
			var base string
			if dir, base, err = p.parent(e.Path); err == nil {
				err = p.attributes(dir, base, e)
			}
		}
		if err != nil {
			return &fs.PathError{Op: "put back", Path: e.Path, Err: err}
		}
	}
	return nil
}

// isDressed says that a directory has its owner, mode, attributes and times.
func (p *put) isDressed(e *Entry) (bool, error) {
	dir, base, err := p.parent(e.Path)
	if err == nil {
		err = p.device(dir)
	}
	if err != nil {
		return false, err
	}
	fd, err := openIn(dir, base, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return false, err
	}
	d := os.NewFile(uintptr(fd), e.Path)
	defer d.Close()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return false, err
	}
	now := entryOf(e.Path, &st)
	return now.Mtime == e.Mtime && p.dressed(d, &now, e), nil
}

// attributes dresses a directory.
func (p *put) attributes(dir int, base string, e *Entry) error {
	fd, err := openIn(dir, base, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	d := os.NewFile(uintptr(fd), e.Path)
	defer d.Close()
	return p.dress(d, e)
}

// dress gives an open file its owner, mode, attributes and times, as far as it
// has others, in the order in which they do not undo one another.
func (p *put) dress(f *os.File, e *Entry) error {
	fd := int(f.Fd())
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Uid != e.UID || st.Gid != e.GID {
		if err := unix.Fchown(fd, int(e.UID), int(e.GID)); err != nil {
			return fmt.Errorf("owner: %w", err)
		}
		st.Mode = ^uint32(0) // it may have lost bits
	}
	if st.Mode&0o7777 != e.Mode {
		if err := unix.Fchmod(fd, e.Mode); err != nil {
			return fmt.Errorf("mode: %w", err)
		}
	}
	var have map[string][]byte
	err := p.root(func() (err error) { have, err = xattrs(f); return err })
	if err == nil {
		err = setXattrs(f, have, e.Xattrs)
	}
	if err != nil {
		return err
	}
	return p.times(fd, &st, e)
}

// times sets the time of the last change. Of what belongs to somebody else the
// workload cannot: it keeps that of the put-back.
func (p *put) times(fd int, st *unix.Stat_t, e *Entry) error {
	ts := []unix.Timespec{unix.NsecToTimespec(e.Mtime), unix.NsecToTimespec(e.Mtime)}
	err := unix.UtimesNanoAt(fd, "", ts, unix.AT_EMPTY_PATH)
	if errors.Is(err, unix.EPERM) && p.who != nil && st.Uid != p.who.UID {
		return nil
	}
	if err != nil {
		return fmt.Errorf("times: %w", err)
	}
	return nil
}
