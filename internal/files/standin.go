package files

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/wakepoint/wakepoint/internal/sys"
)

// StandIns are what a rehearsal has of a generation's large files instead of
// copies: unnamed clones of the present ones, made to contain what they did, and
// files that are still what they were, which nobody need write. Nothing of it is
// left when the process ends, however that comes.
type StandIns struct {
	put    *put
	clones []*standIn
	as     []*standIn      // files shown as they are
	by     map[string]bool // the paths of both; true: all of it was read
	size   int64
	spare  map[uint64]int64 // by device: what clones may still take of it
	disks  map[uint64]*disk
	buf    []byte
}

// standIn is one of them.
type standIn struct {
	entry *Entry
	file  *os.File
	was   unix.Stat_t
}

// disk is a file system with clones.
type disk struct {
	clones []*standIn
	spare  int64 // bytes that there were to take
}

// spareShare is the part of a file system that is never taken from the programs
// that run: a twentieth.
const spareShare = 20

// What stands in is held open, and clones are mounted.
const (
	shownMax  = 4096
	mountsMax = 256
)

// errUnfit says that a file cannot stand in: it is put back like any other.
var errUnfit = errors.New("no clone")

// Stand makes stand-ins of files: of those of at least least bytes, where their
// file system has reflinks and the room; and of others that are no trifle, when
// the tree had them not open for writing and they have not changed since. Files
// with several names are left out: a name cannot be linked to a mount. An error
// says that the contents cannot be had.
func Stand(x *Index, r Reader, least int64) (*StandIns, error) {
	s := &StandIns{
		put: &put{x: x, r: r, disks: map[uint64]string{}, same: BootID() == x.BootID},
		by:  map[string]bool{}, disks: map[uint64]*disk{}, spare: map[uint64]int64{},
	}
	defer s.put.close()
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		return nil, err
	}
	most := int(min(shownMax, files.Cur/4))
	linked := map[string]bool{}
	for i := range x.Entries {
		if e := &x.Entries[i]; e.Kind == Link {
			linked[e.Target] = true
		}
	}
	for i := range x.Entries {
		e := &x.Entries[i]
		if e.Kind != Regular || e.Size <= slotMin || linked[e.Path] {
			continue
		}
		if err := s.stand(e, least, most); err != nil {
			s.Close()
			return nil, fmt.Errorf("put back %s: %w", e.Path, err)
		}
		if _, ok := s.of(e); ok {
			s.size += pageUp(e.Size)
		}
	}
	s.buf = nil
	return s, nil
}

// stand lets something stand in for one file, if there is anything.
func (s *StandIns) stand(e *Entry, least int64, most int) error {
	dir, base, err := s.put.parent(e.Path)
	if err != nil {
		return nil
	}
	fd, err := openIn(dir, base, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOATIME, 0)
	if err != nil {
		return nil
	}
	k := &standIn{entry: e, file: os.NewFile(uintptr(fd), e.Path)}
	if unix.Fstat(fd, &k.was) != nil || k.was.Mode&unix.S_IFMT != unix.S_IFREG {
		return k.file.Close()
	}
	unchanged := s.put.unchanged(dir, base, e)
	if unchanged && !e.Held && len(s.as) < most {
		s.as, s.by[e.Path] = append(s.as, k), false
		return nil
	}
	defer k.file.Close()
	if e.Size < least || len(s.clones) >= min(mountsMax, most) {
		return nil
	}
	if err := s.clone(dir, base, k, unchanged); !errors.Is(err, errUnfit) {
		return err
	}
	return nil
}

// clone clones the file of k, and makes the clone what it was.
func (s *StandIns) clone(dir int, base string, k *standIn, unchanged bool) error {
	id := k.was.Dev
	if err := s.take(k.file, uint64(id), k.was.Blocks*512); err != nil {
		return err
	}
	c, err := unnamed(dir, k.file)
	if err != nil {
		return err
	}
	fit := !unchanged || !s.put.unchanged(dir, base, k.entry)
	if fit {
		err = s.fit(c, k.entry)
	}
	if err == nil {
		if derr := s.put.dress(c, k.entry); derr != nil {
			err = errUnfit
		}
	}
	n := &standIn{entry: k.entry, file: c}
	if err == nil && unix.Fstat(int(c.Fd()), &n.was) != nil {
		err = errUnfit
	}
	if err != nil {
		_ = c.Close()
		return err
	}
	s.disks[uint64(id)].clones = append(s.disks[uint64(id)].clones, n)
	s.clones, s.by[k.entry.Path] = append(s.clones, n), fit
	return nil
}

// take says whether there is room on a file's device for n bytes more, and that
// they are taken: as long as a clone shares a block, to write to it, or to the
// file, takes a new one.
func (s *StandIns) take(f *os.File, id uint64, n int64) error {
	if _, known := s.spare[id]; !known {
		free, err := spareOf(f)
		if err != nil {
			return errUnfit
		}
		s.spare[id], s.disks[id] = free, &disk{spare: free}
	}
	if n > s.spare[id] {
		return errUnfit
	}
	s.spare[id] -= n
	return nil
}

// spareOf is what may be taken of the file system of a file.
func spareOf(f *os.File) (int64, error) {
	var on unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &on); err != nil {
		return 0, err
	}
	return (int64(on.Bavail) - int64(on.Blocks/spareShare)) * on.Frsize, nil
}

// unnamed returns a clone of a file which has no name, and can be mounted. A file
// of O_TMPFILE cannot: it is known by a place in a directory at which it is not
// to be found any more (d_set_mounted in fs/dcache.c). So the kernel has to
// forget all but the inode, and find it by its number.
func unnamed(dir int, f *os.File) (*os.File, error) {
	fd, err := openIn(dir, ".", unix.O_TMPFILE|unix.O_RDWR, 0o600)
	if err != nil {
		return nil, errUnfit
	}
	held := -1
	handle, _, err := unix.NameToHandleAt(fd, "", unix.AT_EMPTY_PATH)
	if err == nil {
		err = unix.IoctlFileClone(fd, int(f.Fd()))
	}
	if err == nil {
		held, err = sys.HoldInode(fd)
	}
	unix.Close(fd)
	if err != nil {
		return nil, errUnfit
	}
	fd, err = unix.OpenByHandleAt(int(f.Fd()), handle, unix.O_RDWR|unix.O_CLOEXEC)
	unix.Close(held)
	if err != nil {
		return nil, errUnfit
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

// fit makes a clone contain what e did. Only what differs is written, and where
// the clone has a hole it is not read.
func (s *StandIns) fit(c *os.File, e *Entry) error {
	if err := c.Truncate(e.Size); err != nil {
		return errUnfit
	}
	if s.buf == nil {
		s.buf = make([]byte, 1<<20)
	}
	at, dropped := int64(0), int64(0)
	err := e.each(s.put.r, func(off int64, b []byte) error {
		if err := hollow(c, at, off); err != nil {
			return err
		}
		for at = off; len(b) > 0; {
			n := min(len(b), len(s.buf))
			if err := s.renew(c, at, b[:n]); err != nil {
				return err
			}
			at, b = at+int64(n), b[n:]
		}
		if at-dropped >= 8<<20 { // a clone shares no memory with its file
			_ = unix.Fadvise(int(c.Fd()), dropped, at-dropped, unix.FADV_DONTNEED)
			dropped = at
		}
		return nil
	})
	if err != nil {
		return err
	}
	return hollow(c, at, e.Size)
}

// hollow makes a hole of what a clone has between two places.
func hollow(c *os.File, from, to int64) error {
	if from >= to {
		return nil
	}
	data, err := unix.Seek(int(c.Fd()), from, unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) || err == nil && data >= to {
		return nil
	}
	if unix.Fallocate(int(c.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, from, to-from) != nil {
		return errUnfit
	}
	return nil
}

// renew writes those pages of want that a clone has otherwise.
func (s *StandIns) renew(c *os.File, at int64, want []byte) error {
	have := s.buf[:len(want)]
	data, err := unix.Seek(int(c.Fd()), at, unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) || err == nil && data >= at+int64(len(want)) {
		clear(have)
	} else if n, err := c.ReadAt(have, at); n < len(have) {
		return errors.Join(errUnfit, err)
	}
	for len(want) > 0 {
		same, other := pagesAlike(have, want, true), 0
		if other = pagesAlike(have[same:], want[same:], false); other > 0 {
			var st unix.Stat_t
			if unix.Fstat(int(c.Fd()), &st) != nil || s.take(c, uint64(st.Dev), int64(other)) != nil {
				return errUnfit
			}
			if _, err := c.WriteAt(want[same:same+other], at+int64(same)); err != nil {
				return errors.Join(errUnfit, err)
			}
		}
		n := same + other
		have, want, at = have[n:], want[n:], at+int64(n)
	}
	return nil
}

// pagesAlike is how many bytes lie, from the beginning, in pages that are alike,
// or that are not.
func pagesAlike(a, b []byte, alike bool) int {
	for n := 0; n < len(a); n += pageSize {
		end := min(n+pageSize, len(a))
		if (string(a[n:end]) == string(b[n:end])) != alike {
			return n
		}
	}
	return len(a)
}

// Size is how many bytes the files have that have stand-ins, holes included.
func (s *StandIns) Size() int64 { return s.size }

// Clones are the clones, by the paths at which they are to be seen.
func (s *StandIns) Clones() map[string]*os.File {
	list := map[string]*os.File{}
	for _, k := range s.clones {
		list[k.entry.Path] = k.file
	}
	return list
}

// Only keeps those clones that are shown. Of the others nothing stands in.
func (s *StandIns) Only(shown map[string]bool) {
	s.clones = slices.DeleteFunc(s.clones, func(k *standIn) bool {
		if shown[k.entry.Path] {
			return false
		}
		delete(s.by, k.entry.Path)
		_ = k.file.Close()
		return true
	})
	for _, d := range s.disks {
		d.clones = slices.DeleteFunc(d.clones, func(k *standIn) bool { return !shown[k.entry.Path] })
	}
}

// Disturbed says that a file that is shown as it is has been changed meanwhile,
// by those to whom it belongs. To one that died, that one was deleted counts too.
func (s *StandIns) Disturbed(died bool) error {
	for _, k := range s.as {
		var now unix.Stat_t
		if err := unix.Fstat(int(k.file.Fd()), &now); err != nil {
			return err
		}
		if now.Size != k.was.Size || now.Mtim != k.was.Mtim || died && now.Ctim != k.was.Ctim {
			return fmt.Errorf("%s, which it was shown, has been changed meanwhile", k.entry.Path)
		}
	}
	return nil
}

// Short says that what is written to clones would take the last room of a file
// system from the programs that run.
func (s *StandIns) Short() error {
	for _, d := range s.disks {
		grown := int64(0)
		for _, k := range d.clones {
			var now unix.Stat_t
			if err := unix.Fstat(int(k.file.Fd()), &now); err != nil {
				return err
			}
			grown += max(0, now.Blocks-k.was.Blocks) * 512
		}
		if len(d.clones) == 0 {
			continue
		}
		k := d.clones[0]
		left, err := spareOf(k.file)
		if err != nil {
			return err
		}
		if left < 0 || grown > d.spare {
			return fmt.Errorf("what it writes takes more than the file system of %s can spare: 1/%d stays free", filepath.Dir(k.entry.Path), spareShare)
		}
	}
	return nil
}

// Close lets go of them. What is mounted stays.
func (s *StandIns) Close() {
	for _, k := range append(s.clones, s.as...) {
		_ = k.file.Close()
	}
}

// PutBackBeside is PutBack, but for the files that have stand-ins.
func PutBackBeside(x *Index, r Reader, who *Identity, s *StandIns) (Changed, error) {
	p := &put{x: x, r: r, disks: map[uint64]string{}, same: BootID() == x.BootID, ways: map[*Entry]way{}, known: map[*Entry]bool{}}
	for i := range x.Entries {
		e := &x.Entries[i]
		if read, ok := s.of(e); ok {
			p.ways[e], p.known[e] = asItIs, read
		}
	}
	err := p.as(who, p.all)
	return p.changed, err
}

// of says whether something stands in for a file, and whether all of its contents
// were read.
func (s *StandIns) of(e *Entry) (read, ok bool) {
	if s == nil || e.Kind != Regular {
		return false, false
	}
	read, ok = s.by[e.Path]
	return read, ok
}
