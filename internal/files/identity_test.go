package files

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// somebody is a user who owns nothing yet, and is in one group more.
var somebody = &Identity{UID: 61234, GID: 61234, Groups: []uint32{61235}}

// open ground is a directory that somebody can reach, of which he owns "his".
func ground(t *testing.T, in string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("skip: needs root: it acts as another user")
	}
	dir, err := os.MkdirTemp(in, "wakepoint-test-")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	must(t, os.Chmod(dir, 0o755), os.Mkdir(dir+"/his", 0o755), os.Mkdir(dir+"/roots", 0o755))
	must(t, os.Chown(dir+"/his", int(somebody.UID), int(somebody.GID)))
	return dir
}

// his gives somebody all that lies below a directory.
func his(t *testing.T, dir string) {
	t.Helper()
	must(t, filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(path, int(somebody.UID), int(somebody.GID)))
	}))
}

func wantContents(t *testing.T, path, want string) {
	t.Helper()
	if p, err := os.ReadFile(path); err != nil || string(p) != want {
		t.Errorf("%s: %q, %v, want %q", path, p, err, want)
	}
}

func TestPutBackAsAUser(t *testing.T) {
	dir := ground(t, "") + "/his/tree"
	populate(t, dir)
	his(t, dir)
	must(t, os.Chmod(dir+"/sub/b", 0o4755), os.Chmod(dir+"/fifo", 0o622)) // chown took that away
	must(t, os.Chown(dir+"/a", int(somebody.UID), int(somebody.Groups[0])))
	want := describe(t, dir)
	s := newPages()
	x := capture(t, Options{Trees: []string{dir}}, s)
	for range 2 {
		spoil(t, dir)
		his(t, dir)
		for range 2 {
			must(t, putBack(x, s, somebody))
			if d := cmp.Diff(want, describe(t, dir)); d != "" {
				t.Fatal(d)
			}
		}
	}
	must(t, os.RemoveAll(dir))
	must(t, putBack(x, s, somebody))
	if d := cmp.Diff(want, describe(t, dir)); d != "" {
		t.Fatal(d)
	}
	for range 100 { // nobody else has become somebody
		if uid, _ := unix.SetfsuidRetUid(-1); uid != 0 {
			t.Fatalf("a thread acts as user %d", uid)
		}
	}
}

// One file that he may not write, and none is.
func TestPutBackWhereAUserMayNotWrite(t *testing.T) {
	dir := ground(t, "")
	write(t, dir+"/his/a", "first", 0o644)
	write(t, dir+"/roots/b", "first", 0o644)
	his(t, dir+"/his")
	s := newPages()
	x := capture(t, Options{Trees: []string{dir + "/his", dir + "/roots"}}, s)
	write(t, dir+"/his/a", "again", 0o644)
	write(t, dir+"/his/more", "more", 0o644)
	write(t, dir+"/roots/b", "again", 0o644)
	before := describe(t, dir)
	err := putBack(x, s, somebody)
	if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), dir+"/roots/b as user 61234") {
		t.Errorf("%v", err)
	}
	if d := cmp.Diff(before, describe(t, dir)); d != "" {
		t.Error(d)
	}
	write(t, dir+"/roots/b", "first", 0o644) // whoever did that
	must(t, putBack(x, s, somebody))
	wantContents(t, dir+"/his/a", "first")
}

// What has come under a name that was his is not his for that.
func TestPutBackOverWhatIsNotHis(t *testing.T) {
	for name, exchange := range map[string]func(t *testing.T, dir string){
		"a hard link": func(t *testing.T, dir string) {
			must(t, os.Remove(dir+"/his/sub/f"), os.Link(dir+"/roots/f", dir+"/his/sub/f"))
		},
		"a directory": func(t *testing.T, dir string) {
			must(t, os.RemoveAll(dir+"/his/sub"), os.Rename(dir+"/roots", dir+"/his/sub"), os.Symlink("his/sub", dir+"/roots"))
		},
		"a link": func(t *testing.T, dir string) {
			must(t, os.RemoveAll(dir+"/his/sub"), os.Symlink(dir+"/roots", dir+"/his/sub"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := ground(t, "")
			must(t, os.Mkdir(dir+"/his/sub", 0o755))
			write(t, dir+"/his/sub/f", "his", 0o644)
			his(t, dir+"/his")
			write(t, dir+"/roots/f", "root's", 0o644)
			s := newPages()
			f := writer(t, dir+"/his/sub/f", 0)
			x := capture(t, Options{Open: []Open{{Path: dir + "/his/sub/f", File: f, Writable: true}}}, s)
			exchange(t, dir)
			err := putBack(x, s, somebody)
			wantContents(t, dir+"/roots/f", "root's")
			if name == "a hard link" { // only the name is his
				must(t, err)
				wantContents(t, dir+"/his/sub/f", "his")
			} else if err == nil {
				t.Error("no error")
			}
		})
	}
}

// A file that he had open for writing he could write, whoever may open it: it
// is put back, but nothing that has taken its name.
func TestPutBackIntoWhatWasHeld(t *testing.T) {
	dir := ground(t, "")
	path := dir + "/roots/log"
	write(t, path, "first", 0o600)
	f := writer(t, path, 0)
	s := newPages()
	x := capture(t, Options{Open: []Open{{Path: path, File: f, Writable: true}}}, s)
	write(t, path, "again and more", 0o640)
	first, _, err := stat(path)
	must(t, err)
	must(t, putBack(x, s, somebody))
	wantContents(t, path, "first")
	if e, _, err := stat(path); err != nil || e.Ino != first.Ino || e.Mode != 0o640 {
		t.Errorf("%+v %v: another file, or another mode", e, err)
	}
	must(t, os.Rename(path, path+".1"))
	write(t, path, "another", 0o600)
	if err := putBack(x, s, somebody); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("%v", err)
	}
	wantContents(t, path, "another")
	must(t, os.Remove(path))
	if err := putBack(x, s, somebody); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("%v", err)
	}
}

// After a boot nobody knows by its times what a file contains: what is not his
// to write is looked at.
func TestPutBackAsAUserAfterABoot(t *testing.T) {
	dir := ground(t, "")
	large := strings.Repeat("0123456789abcdef", 200_000)
	write(t, dir+"/roots/large", large, 0o600)
	must(t, os.Truncate(dir+"/roots/large", 5<<20)) // with a hole at its end
	write(t, dir+"/his/a", "first", 0o644)
	his(t, dir+"/his")
	s := newPages()
	x := capture(t, Options{Trees: []string{dir + "/his", dir + "/roots"}}, s)
	x.BootID = "another"
	write(t, dir+"/his/a", "again", 0o644)
	before, _, err := stat(dir + "/roots/large")
	must(t, err, putBack(x, s, somebody))
	wantContents(t, dir+"/his/a", "first")
	after, _, err := stat(dir + "/roots/large")
	must(t, err)
	if d := cmp.Diff(before.Ctime, after.Ctime); d != "" {
		t.Error("what is not his was written")
	}
	must(t, os.Chmod(dir+"/roots/large", 0o644))
	if err := putBack(x, s, somebody); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("another mode: %v", err)
	}
	must(t, os.Chmod(dir+"/roots/large", 0o600))
	for _, at := range []int64{7, 3 << 20, 5<<20 - 1} {
		f, err := os.OpenFile(dir+"/roots/large", os.O_RDWR, 0)
		must(t, err)
		old := make([]byte, 1)
		_, err = f.ReadAt(old, at)
		must(t, err)
		_, err = f.WriteAt([]byte("x"), at)
		must(t, err)
		if err := putBack(x, s, somebody); !errors.Is(err, fs.ErrPermission) {
			t.Errorf("a change at %d: %v", at, err)
		}
		_, err = f.WriteAt(old, at)
		must(t, err, f.Close(), putBack(x, s, somebody))
	}
}

// What a boot has emptied was made by root for him, and is again; on the same
// boot it was deleted.
func TestPutBackWhatABootHasEmptied(t *testing.T) {
	dir := ground(t, "/dev/shm")
	must(t, os.Mkdir(dir+"/roots/run", 0o750), os.Chown(dir+"/roots/run", int(somebody.UID), int(somebody.GID)))
	write(t, dir+"/roots/run/state", "first", 0o600)
	his(t, dir+"/roots/run")
	write(t, dir+"/roots/lock", "4711", 0o644)
	f, g := writer(t, dir+"/roots/run/state", 0), writer(t, dir+"/roots/lock", 0)
	s := newPages()
	x := capture(t, Options{Open: []Open{
		{Path: dir + "/roots/run/state", File: f, Writable: true, Volatile: true},
		{Path: dir + "/roots/lock", File: g, Writable: true, Volatile: true},
		{Path: dir + "/roots/run/socket", Volatile: true},
	}}, s)
	want := describe(t, dir+"/roots")
	delete(want, dir+"/roots") // its time
	delete(want, dir+"/roots/run")
	must(t, os.RemoveAll(dir+"/roots/run"), os.Remove(dir+"/roots/lock"))
	if err := putBack(x, s, somebody); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("%v", err)
	}
	if list, _ := os.ReadDir(dir + "/roots"); len(list) != 0 {
		t.Errorf("%v", list)
	}
	x.BootID = "another"
	for range 2 {
		must(t, putBack(x, s, somebody))
		have := describe(t, dir+"/roots")
		delete(have, dir+"/roots")
		delete(have, dir+"/roots/run")
		if d := cmp.Diff(want, have); d != "" {
			t.Error(d)
		}
	}
	e, _, err := stat(dir + "/roots/run")
	must(t, err)
	if e.UID != somebody.UID || e.Mode != 0o750 {
		t.Errorf("%+v", e)
	}
	must(t, os.WriteFile(dir+"/roots/lock", []byte("1"), 0o644))
	if err := putBack(x, s, somebody); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("over what is there: %v", err)
	}
	wantContents(t, dir+"/roots/lock", "1")
}

// His groups count; of what belongs to somebody else the time is not his to set.
func TestPutBackAsAMember(t *testing.T) {
	dir := ground(t, "")
	path := dir + "/roots/shared"
	write(t, path, "first", 0o664)
	must(t, os.Chown(path, 0, int(somebody.Groups[0])))
	old := time.Now().Add(-time.Hour)
	must(t, os.Chtimes(path, old, old))
	s := newPages()
	x := capture(t, Options{Trees: []string{dir + "/roots"}}, s)
	write(t, path, "again", 0o664)
	must(t, putBack(x, s, somebody))
	wantContents(t, path, "first")
	write(t, path, "again", 0o664)
	if err := putBack(x, s, &Identity{UID: 61234, GID: 61234}); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("%v", err)
	}
	wantContents(t, path, "again")
}
