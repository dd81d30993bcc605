package files

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// inPlace writes e's contents into the file that has its name, when that is
// still the inode that was captured: programs remember inodes (SQLite refuses
// to write to a database that was "moved"). Cut off in the middle it leaves a
// file that the next try, which a restore makes before it starts anything,
// writes again.
func (p *put) inPlace(dir int, base string, e *Entry) (bool, error) {
	var st unix.Stat_t
	if unix.Fstatat(dir, base, &st, unix.AT_SYMLINK_NOFOLLOW) != nil || !isFile(&st, e) {
		return false, nil
	}
	fd, err := openIn(dir, base, unix.O_RDWR, 0)
	if err != nil {
		return false, nil // a new file takes its place
	}
	f := os.NewFile(uintptr(fd), e.Path)
	defer f.Close()
	if err := unix.Fstat(fd, &st); err != nil || !isFile(&st, e) {
		return false, err // exchanged meanwhile
	}
	if err := unix.Ftruncate(fd, 0); err != nil {
		return false, err
	}
	if err := p.fill(f, e); err != nil {
		return false, err
	}
	if p.ways[e] == asHeld { // its owner and mode were never the workload's to choose
		return true, errors.Join(p.times(fd, &st, e), f.Sync())
	}
	return true, errors.Join(p.dress(f, e), f.Sync())
}

// write makes a new file with e's contents and attributes.
func (p *put) write(e *Entry) (name string, err error) {
	dir, _, err := p.parent(e.Path)
	if err != nil {
		return "", err
	}
	name = tempName(e.Path)
	fd, err := openIn(dir, name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL, 0o600)
	if errors.Is(err, unix.EEXIST) {
		if err = unix.Unlinkat(dir, name, 0); err == nil {
			fd, err = openIn(dir, name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL, 0o600)
		}
	}
	if err != nil {
		return "", err
	}
	f := os.NewFile(uintptr(fd), e.Path)
	defer f.Close()
	if err = p.fill(f, e); err == nil {
		err = p.dress(f, e)
	}
	if err != nil {
		if dir, _, derr := p.parent(e.Path); derr == nil {
			unix.Unlinkat(dir, name, 0)
		}
		return "", err
	}
	return name, nil
}

// fill gives an empty file e's size and contents.
func (p *put) fill(f *os.File, e *Entry) error {
	if err := f.Truncate(e.Size); err != nil || e.Size == 0 {
		return err
	}
	return p.contents(e, func(at int64, b []byte) error {
		_, err := f.WriteAt(b, at)
		return err
	})
}

// contents gives f what a file contained, without its holes. The store is this
// process's, not the workload's; so is what f does, to files that are open.
func (p *put) contents(e *Entry, f func(at int64, b []byte) error) error {
	if p.r == nil {
		return errors.New("its contents are missing")
	}
	return p.root(func() error { return e.each(p.r, f) })
}
