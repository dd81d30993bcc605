package files

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/zeebo/blake3"
	"golang.org/x/sys/unix"
)

const readFlags = os.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK

// open opens a regular file for reading, without a trace in its times where
// that is allowed.
func open(path string) (*os.File, error) {
	f, err := os.OpenFile(path, readFlags|unix.O_NOATIME, 0)
	if errors.Is(err, unix.EPERM) {
		f, err = os.OpenFile(path, readFlags, 0)
	}
	return f, err
}

// regular captures a file's contents: not at all when they are those of the
// last generation, later when the file system can clone it, else now.
func (c *Capture) regular(i int) error {
	e := &c.index.Entries[i]
	old, had := c.last[e.Path]
	held := c.held[inode{e.Dev, e.Ino}]
	appended := held.Writable && held.Append && !held.Mapped
	if had && !c.fresh && !e.Hot && !old.young && same(e, &old.Entry) {
		e.Slot, e.Room, e.Pieces, e.Xattrs = old.Slot, old.Room, old.Pieces, old.Xattrs
		if appended {
			e.Tail = old.Tail
		}
		return nil
	}
	start := time.Now()
	defer func() { c.cost(Cost{Path: e.Path, Size: e.Size}, start) }()
	f, err := open(e.Path)
	if errors.Is(err, fs.ErrNotExist) {
		c.index.Entries = c.index.Entries[:i]
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if e.Xattrs, err = xattrs(f); err != nil {
		return err
	}
	c.stale = append(c.stale, old.Pieces...)
	whole := c.whole(e, f, held, old)
	if !whole {
		c.place(e, old.Entry)
	}
	if old.Room > 0 && (whole || e.Slot != old.Slot) {
		if err := c.w.Zero(old.Slot, old.Room); err != nil {
			return err
		}
	}
	from := int64(0)
	if appended {
		if from, err = c.grown(e, f, &old.Entry); err != nil {
			return err
		}
		if e.Tail, err = tail(f, e.Size); err != nil {
			return err
		}
	}
	if e.Size-from > slotMin && c.clonesLeft > 0 && c.room.take(f.Name()) {
		if k := cloned(f, filepath.Dir(e.Path)); k != nil {
			c.clonesLeft--
			c.clones = append(c.clones, clone{i, k, from, whole})
			return nil
		}
	}
	e.restless = from == 0 && (old.prepared || old.restless)
	return c.read(e, f, from, whole)
}

// whole says of a file that is to be read that it is replaced as a whole, as far
// as that can be told: it is closed, and was not written to in its place.
func (c *Capture) whole(e *Entry, f *os.File, held Open, old before) bool {
	if held.Writable || held.Mapped || e.Hot || e.Size == 0 {
		return false
	}
	if old.Size > 0 && old.Dev == e.Dev && old.Ino == e.Ino && (len(old.Pieces) == 0 || !c.fresh && !same(e, &old.Entry)) {
		return false
	}
	from, to, err := extent(f, 0, e.Size)
	return err == nil && from == 0 && to == pageUp(e.Size) // holes are not read through
}

// read stores a file's contents: piece by piece, or in its slot.
func (c *Capture) read(e *Entry, f *os.File, from int64, whole bool) error {
	if !whole {
		return c.contents(e, f, from)
	}
	list, bad, err := c.cut(io.NewSectionReader(f, 0, e.Size))
	if err != nil {
		return err
	}
	if size, perr := checkPieces(list, c.index.Next); bad == nil && perr == nil && size == e.Size {
		e.Pieces = list
		return nil
	}
	if err := c.drop(); err != nil { // it was cut short while it was read, as files may be while the tree runs
		return err
	}
	c.place(e, Entry{})
	return c.contents(e, f, 0)
}

// tailSize is how much of the end of a file to which is appended is compared.
const tailSize = 64 << 10

// grown returns from where a file must be read of which nothing that was there
// can have changed but by a cut: everybody who had it open for writing, then and
// now, could only append, and it is no shorter. That nothing was cut away
// (copytruncate of logrotate(8)) is known by its end of then. 0: from the start.
func (c *Capture) grown(e *Entry, f *os.File, old *Entry) (int64, error) {
	if len(old.Tail) == 0 || c.fresh || e.Slot != old.Slot || e.Dev != old.Dev || e.Ino != old.Ino || e.Size < old.Size {
		return 0, nil
	}
	sum, err := tail(f, old.Size)
	if err != nil || !bytes.Equal(sum, old.Tail) {
		return 0, err
	}
	return old.Size &^ (pageSize - 1), nil
}

// tail is a hash of the last bytes of a file's first size bytes, nil when it
// has not as many: somebody outside has cut it.
func tail(f *os.File, size int64) ([]byte, error) {
	p := make([]byte, min(size, tailSize))
	_, err := f.ReadAt(p, size-int64(len(p)))
	if err == io.EOF {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", f.Name(), err)
	}
	sum := blake3.Sum256(p)
	return sum[:], nil
}

// same says that a file is unchanged since it was captured as old, its
// attributes included: each change of either is a change of the inode's times.
func same(e, old *Entry) bool {
	return !old.Hot && e.Dev == old.Dev && e.Ino == old.Ino && e.Size == old.Size && e.Mtime == old.Mtime && e.Ctime == old.Ctime
}

// place gives a file its slot: the one it had if it still fits, so that
// unchanged pages are found where they were.
func (c *Capture) place(e *Entry, old Entry) {
	if old.Room > 0 && e.Size <= old.Room {
		e.Slot, e.Room = old.Slot, old.Room
		return
	}
	c.index.Next = (c.index.Next + slotMin - 1) &^ (slotMin - 1)
	room := int64(slotMin)
	for room < e.Size+e.Size/4 {
		room *= 2
	}
	e.Slot, e.Room = c.index.Next, room
	c.index.Next += room
}

// cloned returns an unnamed clone of f (ioctl_ficlonerange(2)) on the same
// file system, nil where there are none.
func cloned(f *os.File, dir string) *os.File {
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil
	}
	if unix.IoctlFileClone(fd, int(f.Fd())) != nil {
		unix.Close(fd)
		return nil
	}
	return os.NewFile(uintptr(fd), f.Name())
}

// room is what file systems have free, by device, less what the programs take of
// it when they write all over what is cloned: as long as a clone shares a block
// with a file, writing to it takes a new one. Without that room a program would
// be told that there is none where it has its blocks already.
type room map[uint64]int64

// take says whether there is room for a clone of a file, and that it is made.
func (r room) take(path string) bool {
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil {
		return false
	}
	if _, known := r[uint64(st.Dev)]; !known {
		var on unix.Statfs_t
		if unix.Statfs(path, &on) != nil {
			return false
		}
		r[uint64(st.Dev)] = int64(on.Bavail) * on.Frsize
	}
	if n := st.Blocks * 512; n <= r[uint64(st.Dev)] {
		r[uint64(st.Dev)] -= n
		return true
	}
	return false
}

// contents writes a file's data into its slot, and holes where it has holes:
// what lies at or after from, the beginning of a page.
func (c *Capture) contents(e *Entry, f *os.File, from int64) error {
	if c.buf == nil {
		c.buf = make([]byte, 1<<20)
	}
	end := pageUp(e.Size)
	for off := from; off < end; {
		from, to, err := extent(f, off, e.Size)
		if err != nil {
			return fmt.Errorf("read %s: %w", e.Path, err)
		}
		if from > off {
			if err := c.w.Zero(e.Slot+off, from-off); err != nil {
				return err
			}
		}
		if err := c.copy(e, f, from, to); err != nil {
			return err
		}
		off = to
	}
	if end < e.Room {
		return c.w.Zero(e.Slot+end, e.Room-end)
	}
	return nil
}

// extent finds the first data at or after off, widened to whole pages.
// Without any, from and to are both the end.
func extent(f *os.File, off, size int64) (from, to int64, err error) {
	end := pageUp(size)
	from, err = unix.Seek(int(f.Fd()), off, unix.SEEK_DATA)
	switch {
	case errors.Is(err, unix.ENXIO):
		return end, end, nil
	case errors.Is(err, unix.EINVAL):
		return off, end, nil // a file system that knows no holes
	case err != nil:
		return 0, 0, err
	}
	to, err = unix.Seek(int(f.Fd()), from, unix.SEEK_HOLE)
	if err != nil {
		return 0, 0, err
	}
	from = max(off, from&^(pageSize-1))
	return min(from, end), min(pageUp(to), end), nil
}

// copy writes [from, to) of a file into its slot. What lies beyond the end of
// the file is zero.
func (c *Capture) copy(e *Entry, f *os.File, from, to int64) error {
	for off := from; off < to; {
		p := c.buf[:min(int64(len(c.buf)), to-off)]
		n, err := f.ReadAt(p[:max(0, min(int64(len(p)), e.Size-off))], off)
		if err != nil && err != io.EOF {
			return err
		}
		clear(p[n:])
		if err := c.w.Put(e.Slot+off, p); err != nil {
			return err
		}
		off += int64(len(p))
	}
	return nil
}

func pageUp(n int64) int64 { return (n + pageSize - 1) &^ (pageSize - 1) }

// Space says how much of the disk under a path is free for all, and how large
// it is (statfs(2)).
func Space(path string) (free, total int64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return 0, 0, &os.PathError{Op: "statfs", Path: path, Err: err}
	}
	return int64(st.Bavail) * st.Bsize, int64(st.Blocks) * st.Bsize, nil
}
