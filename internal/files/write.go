package files

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// inPlace writes e's contents into the file that has its name, when that is
// still the inode that was captured: programs remember inodes (SQLite refuses
// to write to a database that was "moved"). Cut off in the middle it leaves a
// file that the next try, which a restore makes before it starts anything,
// writes again.
func (p *put) inPlace(dir int, base string, e *Entry) (bool, error) {
	var st unix.Stat_t
	if unix.Fstatat(dir, base, &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
		return false, nil
	}
	if now := entryOf(e.Path, &st); now.Kind != Regular || now.Ino != e.Ino || now.Dev != e.Dev {
		return false, nil
	}
	fd, err := unix.Openat(dir, base, unix.O_RDWR|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return false, nil // a new file takes its place
	}
	f := os.NewFile(uintptr(fd), e.Path)
	defer f.Close()
	if err := unix.Ftruncate(fd, 0); err != nil {
		return false, err
	}
	if err := p.fill(f, e); err != nil {
		return false, err
	}
	return true, errors.Join(dress(f, e), f.Sync())
}

// write makes a new file with e's contents and attributes in dir.
func (p *put) write(dir int, e *Entry) (name string, err error) {
	name = tempName(e.Path)
	fd, err := unix.Openat(dir, name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if errors.Is(err, unix.EEXIST) {
		if err = unix.Unlinkat(dir, name, 0); err == nil {
			fd, err = unix.Openat(dir, name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		}
	}
	if err != nil {
		return "", err
	}
	f := os.NewFile(uintptr(fd), e.Path)
	defer f.Close()
	defer func() {
		if err != nil {
			unix.Unlinkat(dir, name, 0)
		}
	}()
	if err := p.fill(f, e); err != nil {
		return "", err
	}
	return name, dress(f, e)
}

// fill gives an empty file e's size and contents.
func (p *put) fill(f *os.File, e *Entry) error {
	if err := f.Truncate(e.Size); err != nil || e.Size == 0 {
		return err
	}
	if p.r == nil {
		return errors.New("its contents are missing")
	}
	return e.each(p.r, func(off int64, b []byte) error {
		_, err := f.WriteAt(b, off)
		return err
	})
}

// dress gives an open file its owner, mode, attributes and times, in the
// order in which they do not undo one another.
func dress(f *os.File, e *Entry) error {
	fd := int(f.Fd())
	if err := unix.Fchown(fd, int(e.UID), int(e.GID)); err != nil {
		return fmt.Errorf("owner: %w", err)
	}
	if err := unix.Fchmod(fd, e.Mode); err != nil {
		return fmt.Errorf("mode: %w", err)
	}
	if err := setXattrs(f, e.Xattrs); err != nil {
		return err
	}
	ts := []unix.Timespec{unix.NsecToTimespec(e.Mtime), unix.NsecToTimespec(e.Mtime)}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(fd), ts, 0); err != nil {
		return fmt.Errorf("times: %w", err)
	}
	return nil
}
