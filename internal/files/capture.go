package files

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	slotMin   = 128 << 10 // a leaf of the store's trees
	slotEnd   = 1 << 52   // offsets of a section end here
	slotLast  = 1 << 51   // past this a section is begun anew
	clonesMax = 256       // clones held open at once; what is beyond is read in the freeze
	// settled is how much older than a capture a change must be, so that a
	// later change shows: two ticks of the slowest clock of files, and some.
	// settledCoarse is that of file systems whose times are whole seconds, or
	// two (ext3, vfat).
	settled       = 50 * time.Millisecond
	settledCoarse = 2*time.Second + settled
)

// Options says what is captured.
type Options struct {
	Open   []Open
	Trees  []string // directories captured whole; absolute, without symbolic links
	Dirs   []string // where the tree stands; made when they are missing, else left alone
	Except []string // never captured nor put back: the keeper's own files
	// Files that were written and closed since Last, and names that such had
	// and that were deleted. Those of Last, or Follow, are remembered by it.
	Written []Written
	Gone    []string
	// Keep leaves out what survives a boot by itself: only volatile files
	// are captured, and Finish flushes the others to the disk.
	Keep bool
	// Last is the index of the generation from which the section inherits;
	// nil when it starts empty.
	Last *Index
	// Prepared is what Prepare has made of Last; nil: nothing.
	Prepared *Index
	// Follow names the files that were written before, when that is not Last.
	Follow *Index
}

// Capture is the first half of a capture.
type Capture struct {
	cutter
	index  *Index
	last   map[string]before
	held   map[inode]Open // what the tree holds open, by whichever name
	fresh  bool           // nothing of the last index may be trusted
	clones []clone
	// clonesLeft is how many more may be held.
	clonesLeft int
	room       room
	flush      []int    // descriptors of files to be flushed
	gone       []string // names that may not be there, oldest first
	followed   int      // files outside the trees that were written
	beyond     missed   // those that are too many
	costs      []Cost
	spent      time.Duration // by Take
	reading    time.Duration // of it, on files
	stale      []piece       // is cleared where no file has it in the end
	buf        []byte
	w          Section
}

// clone is a file whose contents are read after the thaw.
type clone struct {
	entry int
	file  *os.File
	from  int64 // what lies before is kept already
	whole bool  // it is stored piece by piece
}

// before is what the last generation has of a file.
type before struct {
	Entry
	young bool // it may have changed since without another ctime
}

// Inherits says whether a section can go on from last: nil, or one whose
// slots are used up, begins empty.
func Inherits(last *Index) bool { return last != nil && last.Next < slotLast }

// Take fixes what the files contain, while nothing of the tree runs. On an
// error nothing is held. The section w must inherit exactly when
// Inherits(o.Last), and be what Prepare was given; it is used again by Finish.
func Take(o Options, w Section) (*Capture, error) {
	start := time.Now()
	c := newCapture(o, w)
	if err := c.take(o); err != nil {
		c.Close()
		return nil, err
	}
	c.spent = time.Since(start)
	return c, nil
}

func newCapture(o Options, w Section) *Capture {
	c := &Capture{
		index:      &Index{Version: indexVersion, BootID: BootID(), Taken: time.Now().UnixNano(), Except: o.Except},
		last:       map[string]before{},
		held:       map[inode]Open{},
		clonesLeft: clonesMax,
		room:       room{},
		beyond:     missed{most: map[string]int{}},
		w:          w,
	}
	last := o.Last
	if o.Prepared != nil {
		last = o.Prepared
	}
	if Inherits(last) {
		c.index.Next = last.Next
		c.fresh = last.BootID != c.index.BootID
		c.stale = slices.Clone(last.stale)
		for _, e := range last.Entries {
			if e.Kind == Regular {
				c.last[e.Path] = before{e, unsettled(&e, last.Taken)}
			}
		}
	}
	c.cutter = cutter{w: w, next: &c.index.Next, stored: func(add func([]piece)) {
		if !Inherits(last) {
			return
		}
		add(last.stale)
		for i := range last.Entries {
			add(last.Entries[i].Pieces)
		}
	}}
	return c
}

func (c *Capture) take(o Options) error {
	open := map[string]Open{}
	for _, f := range o.Open {
		if !clean(f.Path) || underAny(f.Path, o.Except) {
			continue
		}
		if o.Keep && !f.Volatile {
			if err := c.keep(f); err != nil {
				return err
			}
			continue
		}
		if g, ok := open[f.Path]; ok {
			f = f.with(g)
		}
		open[f.Path] = f
		if err := c.hold(f); err != nil {
			return err
		}
	}
	first := map[inode]string{} // inode to the name that holds its contents
	seen := map[string]bool{}   // directories that are known as loose ones
	if !o.Keep {
		c.follow(o, open)
		for _, t := range o.Trees {
			if err := c.parents(filepath.Dir(t), seen); err != nil {
				return err
			}
			c.index.Trees = append(c.index.Trees, t)
			start, reading, n := time.Now(), c.reading, len(c.index.Entries)
			if err := c.tree(t, open, first); err != nil {
				return err
			}
			c.cost(Cost{Path: t, Files: len(c.index.Entries) - n, Spent: reading - c.reading}, start)
		}
	}
	if err := c.stands(o, seen); err != nil {
		return err
	}
	if err := c.loose(open, first, seen); err != nil {
		return err
	}
	c.absent()
	return c.forget()
}

// with is what holds of a file that is held open in two ways.
func (f Open) with(g Open) Open {
	f.Append = (f.Append || !f.Writable) && (g.Append || !g.Writable)
	f.Writable, f.Mapped = f.Writable || g.Writable, f.Mapped || g.Mapped
	f.Volatile, f.Written = f.Volatile || g.Volatile, f.Written || g.Written
	return f
}

// hold remembers an open file by its inode: a tree may know it by another name.
func (c *Capture) hold(f Open) error {
	if f.File == nil {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.File.Fd()), &st); err != nil {
		return fmt.Errorf("stat %s: %w", f.Path, err)
	}
	id := inode{uint64(st.Dev), st.Ino}
	if g, ok := c.held[id]; ok {
		f = f.with(g)
	}
	c.held[id] = f
	return nil
}

// hot says of a file that it may change from now on, and its times not show
// it. A page that was written through a mapping is written again without a
// trace, until it reaches the disk; on tmpfs even the first time. A new mapping
// of a file on a disk does show, and so does write(2) in all its forms.
func (f Open) hot() bool { return f.Mapped || f.Writable && f.Volatile }

// unsettled says that a file may have changed after a capture that began at
// taken, within the same tick of its times as a change before it.
func unsettled(e *Entry, taken int64) bool {
	if e.Ctime%int64(time.Second) == 0 {
		return taken-e.Ctime < int64(settledCoarse)
	}
	return taken-e.Ctime < int64(settled)
}

// forget clears the slots of files that are not there any more.
func (c *Capture) forget() error {
	for i := range c.index.Entries {
		if e := &c.index.Entries[i]; e.Kind == Regular {
			delete(c.last, e.Path)
		}
	}
	for _, e := range c.last {
		c.stale = append(c.stale, e.Pieces...)
		if err := c.w.Zero(e.Slot, e.Room); err != nil {
			return err
		}
	}
	return nil
}

// forgetPieces clears the pieces that no file has any more.
func (c *Capture) forgetPieces() error {
	used := map[int64]bool{}
	for i := range c.index.Entries {
		for _, p := range c.index.Entries[i].Pieces {
			used[p.At] = true
		}
	}
	return clearUnused(c.w, c.stale, used)
}

// keep remembers a file that is to be flushed after the thaw.
func (c *Capture) keep(f Open) error {
	if !f.Writable || f.File == nil {
		return nil
	}
	fd, err := unix.FcntlInt(f.File.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("hold %s: %w", f.Path, err)
	}
	c.flush = append(c.flush, fd)
	return nil
}

// tree captures a directory with all that is below it.
func (c *Capture) tree(root string, open map[string]Open, first map[inode]string) error {
	return c.walk(root, func(path string) error {
		delete(open, path)
		return c.entry(path, first)
	})
}

// walk calls f for all that belongs to the checkpoint of a tree.
func (c *Capture) walk(root string, f func(path string) error) error {
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && path != root {
			return nil // another program's doing: nothing of ours runs
		}
		if err != nil {
			return err
		}
		if underAny(path, c.index.Except) {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if strings.HasPrefix(d.Name(), tempPrefix) {
			return nil
		}
		return f(path)
	})
}

// loose captures open files outside the trees, with the directories that
// lead to them.
func (c *Capture) loose(open map[string]Open, first map[inode]string, seen map[string]bool) error {
	paths := make([]string, 0, len(open))
	for p := range open {
		paths = append(paths, p)
	}
	sort.Strings(paths)
	for _, p := range paths {
		f := open[p]
		if !f.Writable && !f.Volatile && !f.Written {
			continue
		}
		if !ours(p) {
			continue
		}
		if err := c.parents(filepath.Dir(p), seen); err != nil {
			return err
		}
		n := len(c.index.Entries)
		if err := c.entry(p, first); err != nil {
			return err
		}
		if n < len(c.index.Entries) && (f.Writable || f.Written) {
			c.find(&c.index.Entries[n])
		}
	}
	return nil
}

// stands captures the directories in which the tree stands, and those that
// lead to them: where they are missing a restore makes them.
func (c *Capture) stands(o Options, seen map[string]bool) error {
	for _, d := range o.Dirs {
		if !ours(d) || underAny(d, o.Except) || under(d, "/dev") {
			continue
		}
		if err := c.parents(d, seen); err != nil {
			return err
		}
	}
	return nil
}

// device says that path names a device, which is the kernel's.
func device(path string) bool {
	var st unix.Stat_t
	err := unix.Lstat(path, &st)
	k := st.Mode & unix.S_IFMT
	return err == nil && (k == unix.S_IFCHR || k == unix.S_IFBLK)
}

// parents adds the directories that lead to dir and dir itself.
func (c *Capture) parents(dir string, seen map[string]bool) error {
	if dir == "/" || seen[dir] || underAny(dir, c.index.Trees) {
		return nil
	}
	seen[dir] = true
	if err := c.parents(filepath.Dir(dir), seen); err != nil {
		return err
	}
	e, _, err := stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil || e.Kind != Directory {
		return err
	}
	e.Loose = true
	c.index.Entries = append(c.index.Entries, e)
	return nil
}

// entry captures one name.
func (c *Capture) entry(path string, first map[inode]string) error {
	e, nlink, err := stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if e.Kind == Regular {
		id := inode{e.Dev, e.Ino}
		e.Hot, e.Held = c.held[id].hot(), c.held[id].Writable
		if e.Held {
			e.Handle = handleOf(unix.AT_FDCWD, path)
		}
		if name, ok := first[id]; ok && nlink > 1 {
			e.Kind, e.Target = Link, name
		} else {
			first[id] = path
		}
	}
	if e.Kind != Regular {
		if e.Xattrs, err = xattrsAt(path, e.Kind); err != nil {
			return err
		}
		c.index.Entries = append(c.index.Entries, e)
		return nil
	}
	c.index.Entries = append(c.index.Entries, e)
	return c.regular(len(c.index.Entries) - 1)
}

// Finish reads what Take cloned, flushes what stays in place, and returns
// the encoded index. The caller commits it under IndexName. Close follows.
func (c *Capture) Finish() (*Index, []byte, error) {
	for _, fd := range c.flush {
		if err := unix.Fdatasync(fd); err != nil && !errors.Is(err, unix.EINVAL) {
			return nil, nil, fmt.Errorf("flush a file: %w", err)
		}
	}
	for _, k := range c.clones {
		if err := c.read(&c.index.Entries[k.entry], k.file, k.from, k.whole); err != nil {
			return nil, nil, err
		}
	}
	if err := c.forgetPieces(); err != nil {
		return nil, nil, err
	}
	c.homeless()
	p, err := c.index.Encode()
	return c.index, p, err
}

// Close lets go of what the capture holds.
func (c *Capture) Close() {
	for _, fd := range c.flush {
		unix.Close(fd)
	}
	for _, k := range c.clones {
		k.file.Close()
	}
	c.flush, c.clones, c.buf = nil, nil, nil
}

// stat describes a name without following it.
func stat(path string) (e Entry, nlink uint64, err error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return e, 0, &os.PathError{Op: "lstat", Path: path, Err: err}
	}
	e = entryOf(path, &st)
	if e.Kind == Symlink {
		if e.Target, err = os.Readlink(path); err != nil {
			return e, 0, err
		}
	}
	return e, uint64(st.Nlink), nil
}

func entryOf(path string, st *unix.Stat_t) Entry {
	e := Entry{
		Path: path, Kind: Other, Mode: st.Mode & 0o7777, UID: st.Uid, GID: st.Gid, Mtime: st.Mtim.Nano(),
		Dev: uint64(st.Dev), Ino: st.Ino, Ctime: st.Ctim.Nano(),
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		e.Kind = Directory
	case unix.S_IFREG:
		e.Kind, e.Size = Regular, st.Size
	case unix.S_IFLNK:
		e.Kind = Symlink
	case unix.S_IFIFO:
		e.Kind = FIFO
	}
	return e
}
