package files

import (
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// tempPrefix begins the names of files that are being put back. Captures
// leave them out; a put-back after one that was cut uses the same names.
const tempPrefix = ".wakepoint-put-"

// tempName is the temporary name beside path.
func tempName(path string) string {
	h := fnv.New64a()
	h.Write([]byte(path))
	return tempPrefix + strconv.FormatUint(h.Sum64(), 16)
}

// PutBack makes the files what they were when x was captured, with the rights of
// who; nil are those of this process. Contents come from r, which may be nil when
// x has no regular files. No symbolic link is followed. When it returns nil
// everything is on the disk; when it returns an error some files may be put back
// and others not: repeat it.
//
// The order: everything is read once, so that a damaged generation touches
// nothing; it is seen whether all may be written; directories; contents under temporary names; the disks flushed;
// renames, links and deletions; modes and times of directories; the disks
// flushed. After a cut in between the files may be of either time, or, where
// they are written in place, in pieces: the restore is then made again.
func PutBack(x *Index, r Reader, who *Identity) (Changed, error) {
	return PutBackBeside(x, r, who, nil)
}

// Changed is what a put-back has changed.
type Changed struct {
	Written int      // files that were given other contents, or may have been
	Deleted int      // names that had come since
	Names   []string // of the first few of both
}

// changedMax bounds the names in a Changed.
const changedMax = 5

func (c *Changed) add(n *int, path string) {
	if *n++; len(c.Names) < changedMax {
		c.Names = append(c.Names, path)
	}
}

func (p *put) all() error {
	defer p.close()
	defer p.discard()
	for _, step := range []func() error{p.read, p.decide, p.directories, p.files, p.flush, p.name, p.remove, p.prune, p.finish, p.flush} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// put is one put-back under way.
type put struct {
	x       *Index
	r       Reader
	dir     int    // cached descriptor of dirPath
	dirPath string // "" when none is cached
	temps   []temp
	disks   map[uint64]string // device to a directory on it
	same    bool              // still the boot of the capture: stat(2) tells what is unchanged

	who    *Identity           // nil: this process
	rights [2]unix.CapUserData // of this process
	raised bool                // these are in force, not those of who
	ways   map[*Entry]way
	known  map[*Entry]bool // their contents can be had: they were read before

	changed Changed
}

// temp is a file under a temporary name.
type temp struct {
	entry *Entry
	name  string
	root  bool // it was made as root
}

// beneath opens a directory, as a place only, by a path in which no element may
// be a link.
func beneath(path string) (int, error) {
	root, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: "/", Err: err}
	}
	if path == "/" {
		return root, nil
	}
	defer unix.Close(root)
	fd, err := openIn(root, path[1:], unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return fd, nil
}

// openIn opens what lies in or below an open directory, and is no link.
func openIn(dir int, name string, flags, mode uint64) (int, error) {
	how := unix.OpenHow{
		Flags:   flags | unix.O_CLOEXEC,
		Mode:    mode,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	}
	for {
		fd, err := unix.Openat2(dir, name, &how)
		if err != unix.EINTR && err != unix.EAGAIN { // a rename somewhere, meanwhile
			return fd, err
		}
	}
}

// parent returns the open directory of path, and path's last element.
func (p *put) parent(path string) (int, string, error) {
	dir, base := filepath.Split(path)
	if dir != "/" {
		dir = strings.TrimSuffix(dir, "/")
	}
	if p.dirPath == dir {
		return p.dir, base, nil
	}
	p.close()
	fd, err := beneath(dir)
	if err != nil {
		return -1, "", err
	}
	p.dir, p.dirPath = fd, dir
	return fd, base, nil
}

func (p *put) close() {
	if p.dirPath != "" {
		unix.Close(p.dir)
		p.dirPath = ""
	}
}

// discard deletes what was written and not renamed.
func (p *put) discard() {
	for _, t := range p.temps {
		_ = p.rightly(t.root, func() error {
			dir, _, err := p.parent(t.entry.Path)
			if err == nil {
				err = unix.Unlinkat(dir, t.name, 0)
			}
			return err
		})
	}
}

// read checks that all contents that will be wanted can be had.
func (p *put) read() error {
	for i := range p.x.Entries {
		e := &p.x.Entries[i]
		if e.Kind != Regular || e.Size == 0 || p.known[e] {
			continue
		}
		if p.r == nil {
			return fmt.Errorf("put back %s: its contents are missing", e.Path)
		}
		if err := p.contents(e, func(int64, []byte) error { return nil }); err != nil {
			return fmt.Errorf("put back %s: %w", e.Path, err)
		}
	}
	return nil
}

// directories makes those that are missing.
func (p *put) directories() error {
	for i := range p.x.Entries {
		e := &p.x.Entries[i]
		if e.Kind != Directory {
			continue
		}
		if err := p.act(e.Path, func() error { return p.directory(e) }); err != nil {
			return &os.PathError{Op: "make directory", Path: e.Path, Err: err}
		}
	}
	return nil
}

func (p *put) directory(e *Entry) error {
	if p.isDirectory(e.Path) {
		return nil
	}
	dir, base, err := p.parent(e.Path)
	if err != nil {
		return err
	}
	var st unix.Stat_t
	err = unix.Fstatat(dir, base, &st, unix.AT_SYMLINK_NOFOLLOW)
	switch {
	case err == nil && e.Loose:
		return unix.ENOTDIR
	case err == nil:
		if err := unix.Unlinkat(dir, base, 0); err != nil {
			return err
		}
	case !errors.Is(err, unix.ENOENT):
		return err
	}
	if err := unix.Mkdirat(dir, base, 0o700); err != nil {
		return err
	}
	if e.Loose || p.raised { // nobody else sets its owner and mode
		return p.attributes(dir, base, e)
	}
	return nil
}

// isDirectory says that a directory is there.
func (p *put) isDirectory(path string) bool {
	return nil == p.root(func() error {
		fd, err := beneath(path)
		if err == nil {
			unix.Close(fd)
		}
		return err
	})
}

// files writes the contents of every regular file that differs under a
// temporary name.
func (p *put) files() error {
	for i := range p.x.Entries {
		e := &p.x.Entries[i]
		if e.Kind != Regular {
			continue
		}
		if p.ways[e] == asItIs {
			continue
		}
		err := p.rightly(p.ways[e] != asItself, func() error { return p.file(e) })
		if err != nil {
			return fmt.Errorf("put back %s: %w", e.Path, err)
		}
	}
	return nil
}

// rightly does f as root or as the workload.
func (p *put) rightly(root bool, f func() error) error {
	if root {
		return p.root(f)
	}
	return f()
}

// file writes one file.
func (p *put) file(e *Entry) error {
	dir, base, err := p.parent(e.Path)
	if err == nil {
		err = p.device(dir)
	}
	if err != nil || p.unchanged(dir, base, e) {
		return err
	}
	p.changed.add(&p.changed.Written, e.Path)
	if done, err := p.inPlace(dir, base, e); done || err != nil {
		return err
	}
	if p.ways[e] == asHeld {
		return unix.EACCES // it has gone since
	}
	name, err := p.write(e)
	if err == nil {
		p.temps = append(p.temps, temp{e, name, p.raised})
	}
	return err
}

// unchanged says that the file is the very one that was captured, untouched
// since. After a reboot stat cannot tell: data may have been lost that the
// inode's times do not show.
func (p *put) unchanged(dir int, base string, e *Entry) bool {
	var st unix.Stat_t
	if !p.same || e.Hot || unsettled(e, p.x.Taken) {
		return false
	}
	if unix.Fstatat(dir, base, &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
		return false
	}
	now := entryOf(e.Path, &st)
	return now.Kind == Regular && same(&now, e)
}

// device remembers the file system of dir, to be flushed.
func (p *put) device(dir int) error {
	var st unix.Stat_t
	if err := unix.Fstat(dir, &st); err != nil {
		return err
	}
	if _, ok := p.disks[uint64(st.Dev)]; !ok {
		p.disks[uint64(st.Dev)] = p.dirPath
	}
	return nil
}

// flush writes every touched file system to its disk (syncfs(2)): one call
// instead of an fsync for each of perhaps thousands of files.
func (p *put) flush() error {
	return p.root(func() error {
		for _, path := range p.disks {
			if err := syncAt(path); err != nil {
				return &os.PathError{Op: "syncfs", Path: path, Err: err}
			}
		}
		return nil
	})
}

// syncAt flushes the file system of a directory.
func syncAt(path string) error {
	at, err := beneath(path)
	if err != nil {
		return err
	}
	defer unix.Close(at)
	fd, err := openIn(at, ".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Syncfs(fd)
}

// name gives everything its name: files are renamed into place, links and
// FIFOs are made.
func (p *put) name() error {
	for _, t := range p.temps {
		err := p.rightly(t.root, func() error {
			dir, base, err := p.parent(t.entry.Path)
			if err != nil {
				return err
			}
			return p.rename(dir, t.name, base)
		})
		if err != nil {
			return fmt.Errorf("put back %s: %w", t.entry.Path, err)
		}
	}
	p.temps = nil
	for i := range p.x.Entries {
		e := &p.x.Entries[i]
		if e.Kind != Symlink && e.Kind != Link && e.Kind != FIFO {
			continue
		}
		if err := p.act(e.Path, func() error { return p.special(e) }); err != nil {
			return fmt.Errorf("put back %s: %w", e.Path, err)
		}
	}
	return nil
}

// rename moves a temporary name over whatever has the final one.
func (p *put) rename(dir int, from, to string) error {
	err := unix.Renameat(dir, from, dir, to)
	if errors.Is(err, unix.EISDIR) || errors.Is(err, unix.EEXIST) || errors.Is(err, unix.ENOTEMPTY) {
		if err := removeAll(dir, to); err != nil {
			return err
		}
		err = unix.Renameat(dir, from, dir, to)
	}
	return err
}

// prune deletes the names in the trees that the generation does not have.
func (p *put) prune() error {
	known := map[string]bool{}
	for i := range p.x.Entries {
		known[p.x.Entries[i].Path] = p.x.Entries[i].Kind != Gone
	}
	for _, t := range p.x.Trees {
		if err := p.pruneTree(t, known); err != nil {
			return err
		}
	}
	return nil
}

func (p *put) pruneTree(path string, known map[string]bool) error {
	var list []fs.DirEntry
	err := p.root(func() (err error) { list, err = listOf(path); return err })
	if err != nil {
		return err
	}
	for _, e := range list {
		name := path + "/" + e.Name()
		switch {
		case underAny(name, p.x.Except) || holdsAny(name, p.x.Except) && !known[name]:
		case !known[name]:
			dir, base, err := p.parent(name)
			if err == nil {
				p.changed.add(&p.changed.Deleted, name)
				err = removeAll(dir, base)
			}
			if err != nil {
				return fmt.Errorf("delete %s: %w", name, err)
			}
		case e.IsDir():
			if err := p.pruneTree(name, known); err != nil {
				return err
			}
		}
	}
	return nil
}

// listOf lists a directory.
func listOf(path string) ([]fs.DirEntry, error) {
	at, err := beneath(path)
	if err != nil {
		return nil, err
	}
	defer unix.Close(at)
	fd, err := openIn(at, ".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	d := os.NewFile(uintptr(fd), path)
	defer d.Close()
	return d.ReadDir(-1)
}

// holdsAny says that one of paths lies below dir.
func holdsAny(dir string, paths []string) bool {
	for _, x := range paths {
		if under(x, dir) {
			return true
		}
	}
	return false
}

// removeAll deletes a name in an open directory, with all below it, without
// following links.
func removeAll(dir int, base string) error {
	err := unix.Unlinkat(dir, base, 0)
	if err == nil || errors.Is(err, unix.ENOENT) {
		return nil
	}
	if !errors.Is(err, unix.EISDIR) && !errors.Is(err, unix.EPERM) {
		return err
	}
	fd, err := openIn(dir, base, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	d := os.NewFile(uintptr(fd), base)
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, n := range names {
		if err := removeAll(fd, n); err != nil {
			return err
		}
	}
	return unix.Unlinkat(dir, base, unix.AT_REMOVEDIR)
}
