package files

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// pages is a section in memory.
type pages struct {
	m    map[int64][]byte
	puts int
}

func newPages() *pages { return &pages{m: map[int64][]byte{}} }

func (s *pages) Put(off int64, p []byte) error {
	if off%pageSize != 0 || len(p)%pageSize != 0 || off < 0 {
		return fmt.Errorf("put %#x+%#x", off, len(p))
	}
	for i := 0; i < len(p); i += pageSize {
		s.puts++
		s.m[off+int64(i)] = bytes.Clone(p[i : i+pageSize])
	}
	return nil
}

func (s *pages) Zero(off, n int64) error {
	if off%pageSize != 0 || n%pageSize != 0 || off < 0 || n < 0 {
		return fmt.Errorf("zero %#x+%#x", off, n)
	}
	maps.DeleteFunc(s.m, func(o int64, _ []byte) bool { return o >= off && o < off+n })
	return nil
}

func (s *pages) Each(from, to int64, f func(off int64, p []byte) error) error {
	for _, off := range slices.Sorted(maps.Keys(s.m)) {
		if off >= from && off < to {
			if err := f(off, s.m[off]); err != nil {
				return err
			}
		}
	}
	return nil
}

func capture(t *testing.T, o Options, s *pages) *Index {
	t.Helper()
	c, err := Take(o, s)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, p, err := c.Finish()
	if err != nil {
		t.Fatal(err)
	}
	x, err := Decode(p)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// describe gives everything below dir that a put-back promises.
func describe(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	inodes := map[uint64]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		e, _, err := stat(path)
		if err != nil {
			return err
		}
		if e.Kind != Symlink && e.Kind != FIFO && e.Kind != Other {
			f, err := os.Open(path)
			if err != nil {
				return err
			}
			defer f.Close()
			if e.Xattrs, err = xattrs(f); err != nil {
				return err
			}
		}
		text := fmt.Sprintf("kind %d mode %o owner %d:%d mtime %d xattrs %q target %q", e.Kind, e.Mode, e.UID, e.GID, e.Mtime, e.Xattrs, e.Target)
		if e.Kind == Regular {
			p, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			if len(p) > 100 {
				p = fmt.Appendf(nil, "%d bytes %x %x", len(p), p[:20], p[len(p)-20:])
			}
			text += fmt.Sprintf(" contents %q", p)
			if first, ok := inodes[e.Ino]; ok {
				text += " same as " + first
			} else {
				inodes[e.Ino] = path
			}
		}
		out[path] = text
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	must(t, os.WriteFile(path, []byte(text), mode), os.Chmod(path, mode))
}

// populate makes a tree with one of everything.
func populate(t *testing.T, dir string) {
	t.Helper()
	must(t, os.MkdirAll(dir+"/sub/deep", 0o750), os.Mkdir(dir+"/empty", 0o711))
	write(t, dir+"/sub/odd \xff\n\x80", "bytes", 0o600) // no text
	write(t, dir+"/a", "alpha", 0o644)
	write(t, dir+"/sub/b", "beta", 0o4755)
	write(t, dir+"/sub/deep/zero", "", 0o600)
	write(t, dir+"/big", strings.Repeat("0123456789abcdef", 100_000), 0o640)
	must(t, os.Link(dir+"/a", dir+"/sub/also-a"), os.Symlink("../a", dir+"/sub/link"), unix.Mkfifo(dir+"/fifo", 0o622))
	f, err := os.Create(dir + "/holes")
	must(t, err)
	_, err1 := f.WriteAt([]byte("in the middle"), 10<<20)
	must(t, err1, f.Truncate(30<<20+5), f.Close())
	if err := unix.Setxattr(dir+"/a", "user.colour", []byte("red"), 0); err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
		t.Fatal(err)
	}
	old := time.Now().Add(-time.Hour)
	must(t, os.Chtimes(dir+"/sub/b", old, old), os.Chtimes(dir+"/empty", old, old))
}

// spoil changes everything that populate made.
func spoil(t *testing.T, dir string) {
	t.Helper()
	write(t, dir+"/a", "changed and longer than it was", 0o666)
	unix.Setxattr(dir+"/a", "user.colour", []byte("blue"), 0)
	unix.Setxattr(dir+"/big", "user.more", []byte("yes"), 0)
	must(t, os.Truncate(dir+"/big", 7), os.RemoveAll(dir+"/sub/deep"), os.Remove(dir+"/fifo"), os.Chmod(dir+"/empty", 0o700))
	must(t, os.Remove(dir+"/sub/link"), os.Symlink("/etc", dir+"/sub/link"), os.Remove(dir+"/holes"), os.Mkdir(dir+"/holes", 0o700))
	must(t, os.MkdirAll(dir+"/new/dir/below", 0o700), os.Remove(dir+"/sub/also-a"))
	write(t, dir+"/sub/also-a", "apart", 0o600)
	write(t, dir+"/new/file", "x", 0o600)
	write(t, dir+"/empty/inside", "x", 0o600)
}

func TestTreeComesBack(t *testing.T) {
	dir := t.TempDir() + "/tree"
	populate(t, dir)
	want := describe(t, dir)
	s := newPages()
	x := capture(t, Options{Trees: []string{dir}}, s)
	for range 3 {
		spoil(t, dir)
		for range 2 { // a put-back may be repeated
			must(t, putBack(x, s, nil))
			if d := cmp.Diff(want, describe(t, dir)); d != "" {
				t.Fatal(d)
			}
		}
	}
	must(t, os.RemoveAll(dir))
	must(t, putBack(x, s, nil))
	if d := cmp.Diff(want, describe(t, dir)); d != "" {
		t.Fatal(d)
	}
}

// A file that nobody touched since is left alone, but not after a reboot.
func TestUnchangedFilesAreLeftAlone(t *testing.T) {
	dir := t.TempDir() + "/tree"
	populate(t, dir)
	time.Sleep(2 * settled)
	s := newPages()
	x := capture(t, Options{Trees: []string{dir}}, s)
	look := func() (Entry, int64) { e, _, err := stat(dir + "/big"); must(t, err); return e, e.Ctime }
	first, before := look()
	must(t, putBack(x, s, nil))
	if _, now := look(); now != before {
		t.Error("an unchanged file was written again")
	}
	x.BootID = "another"
	must(t, putBack(x, s, nil))
	e, now := look()
	if e.Ino != first.Ino {
		t.Error("a file lost its inode, by which its program knows it")
	}
	if now == before {
		t.Error("after a reboot the inode's times were believed")
	}
}

// The second capture reads only what may have changed, and both generations
// come back.
func TestIncrementalCapture(t *testing.T) {
	dir := t.TempDir() + "/tree"
	populate(t, dir)
	time.Sleep(2 * settled)
	s := newPages()
	x1 := capture(t, Options{Trees: []string{dir}}, s)
	s1 := &pages{m: maps.Clone(s.m)}
	want1 := describe(t, dir)

	s.puts = 0
	x1b := capture(t, Options{Trees: []string{dir}, Last: x1}, s)
	if s.puts != 0 {
		t.Errorf("%d pages were written though nothing changed", s.puts)
	}
	write(t, dir+"/big", strings.Repeat("grown", 1_000_000), 0o640)
	must(t, os.Remove(dir+"/holes"))
	write(t, dir+"/more", "more", 0o600)
	x2 := capture(t, Options{Trees: []string{dir}, Last: x1b}, s)
	want2 := describe(t, dir)
	if n := s.puts * pageSize; n > 6<<20 {
		t.Errorf("%d bytes were written for 5 MB of change", n)
	}

	must(t, putBack(x1, s1, nil))
	if d := cmp.Diff(want1, describe(t, dir)); d != "" {
		t.Fatal(d)
	}
	must(t, putBack(x2, s, nil))
	if d := cmp.Diff(want2, describe(t, dir)); d != "" {
		t.Fatal(d)
	}
	for off := range s.m {
		if slotOf(x2, off) == "" {
			t.Fatalf("page %#x belongs to no file", off)
		}
	}
}

func slotOf(x *Index, off int64) string {
	for _, e := range x.Entries {
		if e.Kind == Regular && off >= e.Slot && off < e.Slot+e.Room {
			return e.Path
		}
		for _, p := range e.Pieces {
			if off >= p.At && off < p.At+pageUp(p.Len) {
				return e.Path
			}
		}
	}
	return ""
}

func TestOpenFilesComeBackWithTheirDirectories(t *testing.T) {
	dir := t.TempDir()
	must(t, os.MkdirAll(dir+"/run/app", 0o750))
	write(t, dir+"/run/app/state", "one", 0o640)
	write(t, dir+"/run/app/other", "not ours", 0o600)
	f, err := os.Open(dir + "/run/app/state")
	must(t, err)
	defer f.Close()
	s := newPages()
	x := capture(t, Options{Open: []Open{{Path: dir + "/run/app/state", File: f, Writable: true}}}, s)
	write(t, dir+"/run/app/state", "two", 0o600)
	must(t, putBack(x, s, nil))
	p, _ := os.ReadFile(dir + "/run/app/state")
	if string(p) != "one" {
		t.Errorf("contents %q", p)
	}
	if _, err := os.Stat(dir + "/run/app/other"); err != nil {
		t.Error("a name that does not belong to the workload is gone")
	}
	must(t, os.RemoveAll(dir+"/run"))
	must(t, putBack(x, s, nil))
	st, err := os.Stat(dir + "/run/app")
	must(t, err)
	if st.Mode().Perm() != 0o750 {
		t.Errorf("mode of the directory: %v", st.Mode())
	}
}

// Where the tree stands, and what leads to a tree of files, is made where it is
// missing, and left alone where it is not.
func TestDirectoriesThatAreMissingAreMade(t *testing.T) {
	for _, keep := range []bool{false, true} {
		dir := t.TempDir()
		must(t, os.MkdirAll(dir+"/srv/app/here", 0o750))
		must(t, os.MkdirAll(dir+"/var/data", 0o710))
		write(t, dir+"/var/data/state", "one", 0o640)
		s := newPages()
		x := capture(t, Options{Trees: []string{dir + "/var/data"}, Keep: keep, Dirs: []string{dir + "/srv/app/here", "/", "/proc/self", dir + "/none"}}, s)
		must(t, os.Chmod(dir+"/srv/app", 0o700))
		must(t, putBack(x, s, nil))
		if st, err := os.Stat(dir + "/srv/app"); err != nil || st.Mode().Perm() != 0o700 {
			t.Errorf("what is there was touched: %v, %v", st, err)
		}
		must(t, os.RemoveAll(dir+"/srv"))
		must(t, os.RemoveAll(dir+"/var"))
		must(t, putBack(x, s, nil))
		if st, err := os.Stat(dir + "/srv/app/here"); err != nil || st.Mode().Perm() != 0o750 {
			t.Errorf("keep %v: %v, %v", keep, st, err)
		}
		if p, err := os.ReadFile(dir + "/var/data/state"); keep != (err != nil) || !keep && string(p) != "one" {
			t.Errorf("keep %v: %q, %v", keep, p, err)
		}
		if _, err := os.Stat(dir + "/none"); err == nil {
			t.Error("a directory was made that never was")
		}
	}
}

func TestKeepCapturesOnlyVolatileFiles(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/db", "one", 0o600)
	write(t, dir+"/shm", "one", 0o600)
	db, err1 := os.Open(dir + "/db")
	shm, err2 := os.Open(dir + "/shm")
	must(t, err1, err2)
	defer db.Close()
	defer shm.Close()
	s := newPages()
	x := capture(t, Options{Keep: true, Trees: []string{dir}, Open: []Open{
		{Path: dir + "/db", File: db, Writable: true}, {Path: dir + "/shm", File: shm, Volatile: true}}}, s)
	write(t, dir+"/db", "two", 0o600)
	write(t, dir+"/shm", "two", 0o600)
	must(t, putBack(x, s, nil))
	a, _ := os.ReadFile(dir + "/db")
	b, _ := os.ReadFile(dir + "/shm")
	if string(a) != "two" || string(b) != "one" {
		t.Errorf("db %q shm %q", a, b)
	}
}

func TestExceptionsAreNeverTouched(t *testing.T) {
	dir := t.TempDir()
	must(t, os.MkdirAll(dir+"/store/web", 0o700))
	write(t, dir+"/store/web/output.log", "printed", 0o600)
	write(t, dir+"/a", "a", 0o600)
	s := newPages()
	x := capture(t, Options{Trees: []string{dir}, Except: []string{dir + "/store/web"}}, s)
	write(t, dir+"/store/web/output.log", "printed more", 0o600)
	must(t, putBack(x, s, nil))
	if p, _ := os.ReadFile(dir + "/store/web/output.log"); string(p) != "printed more" {
		t.Errorf("output %q", p)
	}
}

// A directory that became a link elsewhere is not followed.
func TestLinksAreNotFollowed(t *testing.T) {
	dir := t.TempDir()
	must(t, os.MkdirAll(dir+"/tree/sub", 0o700), os.Mkdir(dir+"/elsewhere", 0o700))
	write(t, dir+"/tree/sub/f", "mine", 0o600)
	write(t, dir+"/elsewhere/f", "theirs", 0o600)
	s := newPages()
	x := capture(t, Options{Trees: []string{dir + "/tree"}}, s)
	must(t, os.RemoveAll(dir+"/tree/sub"), os.Symlink(dir+"/elsewhere", dir+"/tree/sub"))
	must(t, putBack(x, s, nil))
	if p, _ := os.ReadFile(dir + "/elsewhere/f"); string(p) != "theirs" {
		t.Errorf("a link was followed: %q", p)
	}
	if p, _ := os.ReadFile(dir + "/tree/sub/f"); string(p) != "mine" {
		t.Errorf("contents %q", p)
	}
	must(t, os.Rename(dir+"/tree", dir+"/moved"), os.Symlink(dir+"/elsewhere", dir+"/tree"))
	if err := putBack(x, s, nil); !errors.Is(err, unix.ELOOP) && !errors.Is(err, unix.ENOTDIR) && err != nil {
		t.Errorf("tree became a link: %v", err)
	}
	if p, _ := os.ReadFile(dir + "/elsewhere/f"); string(p) != "theirs" {
		t.Errorf("a link was followed: %q", p)
	}
}

// A put-back that is cut anywhere can be repeated.
func TestPutBackAfterAnError(t *testing.T) {
	dir := t.TempDir() + "/tree"
	populate(t, dir)
	want := describe(t, dir)
	s := newPages()
	x := capture(t, Options{Trees: []string{dir}}, s)
	for n := 0; n < 8; n++ {
		spoil(t, dir)
		if err := putBack(x, &failing{pages: s, left: n}, nil); err == nil && n < 3 {
			t.Fatal("no error")
		}
		must(t, putBack(x, s, nil))
		if d := cmp.Diff(want, describe(t, dir)); d != "" {
			t.Fatal(d)
		}
	}
}

type failing struct {
	*pages
	left int
}

func (f *failing) Each(from, to int64, g func(int64, []byte) error) error {
	if f.left--; f.left < 0 {
		return errors.New("out of order")
	}
	return f.pages.Each(from, to, g)
}

func FuzzDecode(f *testing.F) {
	x := &Index{Version: indexVersion, Trees: []string{"/srv"}, Entries: []Entry{{Path: "/srv", Kind: Directory}, {Path: "/srv/a", Kind: Regular, Size: 3, Room: slotMin}}}
	p, err := x.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(p)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, p []byte) {
		x, err := Decode(p)
		if err != nil {
			return
		}
		for _, e := range x.Entries {
			if !clean(e.Path) {
				t.Errorf("path %q", e.Path)
			}
		}
	})
}

// putBack puts back where it does not matter what was changed.
func putBack(x *Index, r Reader, who *Identity) error {
	_, err := PutBack(x, r, who)
	return err
}

// A put-back says what it has changed, by name as long as that is little.
func TestPutBackSaysWhat(t *testing.T) {
	dir := t.TempDir() + "/tree"
	must(t, os.Mkdir(dir, 0o700))
	for i := range 9 {
		write(t, fmt.Sprintf("%s/%d", dir, i), "as it was", 0o600)
	}
	time.Sleep(2 * settled)
	s := newPages()
	x := capture(t, Options{Trees: []string{dir}}, s)
	says := func(want Changed) {
		t.Helper()
		got, err := PutBack(x, s, nil)
		must(t, err)
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
	}
	says(Changed{})
	write(t, dir+"/1", "another", 0o600)
	must(t, os.Remove(dir+"/3"))
	write(t, dir+"/new", "x", 0o600)
	says(Changed{Written: 2, Deleted: 1, Names: []string{dir + "/1", dir + "/3", dir + "/new"}})
	for i := range 9 {
		must(t, os.Remove(fmt.Sprintf("%s/%d", dir, i)))
	}
	says(Changed{Written: 9, Names: []string{dir + "/0", dir + "/1", dir + "/2", dir + "/3", dir + "/4"}})
}
