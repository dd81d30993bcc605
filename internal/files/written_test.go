package files

import (
	"fmt"
	"maps"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// wrote is what a Watch says of a file that is there.
func wrote(t *testing.T, path string) Written {
	t.Helper()
	e, _, err := stat(path)
	must(t, err)
	return Written{Path: path, Dev: e.Dev, Ino: e.Ino, Handle: handleOf(unix.AT_FDCWD, path)}
}

// kinds are the entries of an index below dir, without directories.
func kinds(x *Index, dir string) map[string]Kind {
	out := map[string]Kind{}
	for _, e := range x.Entries {
		if name, ok := strings.CutPrefix(e.Path, dir+"/"); ok && e.Kind != Directory {
			out[name] = e.Kind
		}
	}
	return out
}

func wantKinds(t *testing.T, when string, x *Index, dir string, want map[string]Kind) {
	t.Helper()
	if d := cmp.Diff(want, kinds(x, dir)); d != "" {
		t.Errorf("%s: %s", when, d)
	}
}

// A file that was written and closed is in every later generation, until it is
// deleted; then its name is known not to be there.
func TestWrittenFilesStay(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/state", "one", 0o640)
	write(t, dir+"/other", "not ours", 0o600)
	s := newPages()
	x1 := capture(t, Options{Written: []Written{wrote(t, dir+"/state")}}, s)
	s1 := &pages{m: maps.Clone(s.m)}
	wantKinds(t, "written", x1, dir, map[string]Kind{"state": Regular})
	x2 := capture(t, Options{Last: x1}, s)
	wantKinds(t, "later", x2, dir, map[string]Kind{"state": Regular})
	anew := newPages()
	wantKinds(t, "anew", capture(t, Options{Follow: x2}, anew), dir, map[string]Kind{"state": Regular})
	if len(anew.m) != 1 {
		t.Errorf("%d pages were read of one", len(anew.m))
	}
	must(t, os.Remove(dir+"/state"))
	x3 := capture(t, Options{Last: x2}, s)
	wantKinds(t, "deleted", x3, dir, map[string]Kind{"state": Gone})
	x4 := capture(t, Options{Last: x3}, s)
	wantKinds(t, "still deleted", x4, dir, map[string]Kind{"state": Gone})
	if len(s.m) != 0 {
		t.Errorf("%d pages are kept of a file that is gone", len(s.m))
	}

	write(t, dir+"/state", "of a later time", 0o600)
	must(t, putBack(x4, s, nil))
	if _, err := os.Stat(dir + "/state"); !os.IsNotExist(err) {
		t.Errorf("a file of a later time is found: %v", err)
	}
	must(t, putBack(x1, s1, nil))
	p, err := os.ReadFile(dir + "/state")
	if must(t, err); string(p) != "one" {
		t.Errorf("contents %q", p)
	}
	if _, err := os.Stat(dir + "/other"); err != nil {
		t.Error("a name that does not belong to the workload is gone")
	}

	write(t, dir+"/state", "again", 0o600)
	x5 := capture(t, Options{Last: x4, Written: []Written{wrote(t, dir+"/state")}}, s)
	wantKinds(t, "there again", x5, dir, map[string]Kind{"state": Regular})
	must(t, os.Remove(dir+"/state"), os.Mkdir(dir+"/state", 0o700))
	x6 := capture(t, Options{Last: x5}, s)
	wantKinds(t, "a directory", x6, dir, map[string]Kind{})
}

// What is open for writing stays as well when it was closed.
func TestWrittenWhileOpenStays(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/log", "one", 0o640)
	s := newPages()
	x := capture(t, Options{Open: []Open{{Path: dir + "/log", Writable: true}}}, s)
	x = capture(t, Options{Last: x}, s)
	wantKinds(t, "closed", x, dir, map[string]Kind{"log": Regular})
}

// handles says how a file is found again: by its handle, or where the file
// system has none by looking through its directory.
func handles(t *testing.T, f func(t *testing.T, without func(Written) Written)) {
	t.Run("by handle", func(t *testing.T) { f(t, func(w Written) Written { return w }) })
	t.Run("by directory", func(t *testing.T) { f(t, func(w Written) Written { w.Handle = nil; return w }) })
}

// A file is written under one name and renamed to another, as programs do that
// want to replace it at once.
func TestWrittenAndRenamed(t *testing.T) {
	handles(t, func(t *testing.T, known func(Written) Written) {
		dir := t.TempDir()
		write(t, dir+"/state", "one", 0o640)
		s := newPages()
		x1 := capture(t, Options{Written: []Written{known(wrote(t, dir+"/state"))}}, s)
		s1 := &pages{m: maps.Clone(s.m)}
		write(t, dir+"/state.new", "two", 0o640)
		w := known(wrote(t, dir+"/state.new"))
		must(t, os.Rename(dir+"/state.new", dir+"/state"))
		x2 := capture(t, Options{Last: x1, Written: []Written{w}}, s)
		wantKinds(t, "replaced", x2, dir, map[string]Kind{"state": Regular, "state.new": Gone})
		for _, c := range []struct {
			x    *Index
			s    *pages
			want string
		}{{x1, s1, "one"}, {x2, s, "two"}} {
			write(t, dir+"/state", "three", 0o600)
			must(t, putBack(c.x, c.s, nil))
			if p, err := os.ReadFile(dir + "/state"); err != nil || string(p) != c.want {
				t.Errorf("%q %v, want %q", p, err, c.want)
			}
		}
	})
}

// A file that was written long ago is followed when it is renamed.
func TestFollowedWhenRenamed(t *testing.T) {
	handles(t, func(t *testing.T, known func(Written) Written) {
		dir := t.TempDir()
		write(t, dir+"/log", "one", 0o640)
		s := newPages()
		x := capture(t, Options{Written: []Written{wrote(t, dir+"/log")}}, s)
		for i := range x.Entries {
			if known(Written{Handle: []byte{1}}).Handle == nil {
				x.Entries[i].Handle = nil
			}
		}
		must(t, os.Rename(dir+"/log", dir+"/log.1"))
		write(t, dir+"/log", "two", 0o640)
		x = capture(t, Options{Last: x, Written: []Written{wrote(t, dir+"/log")}}, s)
		wantKinds(t, "rotated", x, dir, map[string]Kind{"log": Regular, "log.1": Regular})
	})
}

// A directory that was replaced by a link to it must not make restores fail.
func TestFollowedBehindALink(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Mkdir(dir+"/data", 0o700))
	write(t, dir+"/data/state", "one", 0o640)
	s := newPages()
	x := capture(t, Options{Written: []Written{wrote(t, dir+"/data/state")}}, s)
	must(t, os.Rename(dir+"/data", dir+"/moved"), os.Symlink("moved", dir+"/data"))
	x = capture(t, Options{Last: x}, s)
	if k := kinds(x, dir); k["moved/state"] != Regular || k["data/state"] == Regular {
		t.Errorf("entries: %v", k)
	}
	write(t, dir+"/moved/state", "two", 0o640)
	must(t, putBack(x, s, nil))
	if p, _ := os.ReadFile(dir + "/data/state"); string(p) != "one" {
		t.Errorf("contents %q", p)
	}
}

// Names that are not there are remembered up to a number, the newest, and as
// long as their directory is there.
func TestGoneIsBounded(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Mkdir(dir+"/sub", 0o700))
	s := newPages()
	x := capture(t, Options{Gone: []string{dir + "/first", dir + "/sub/second"}}, s)
	wantKinds(t, "deleted", x, dir, map[string]Kind{"first": Gone, "sub/second": Gone})
	must(t, os.Remove(dir+"/sub"))
	x = capture(t, Options{Last: x}, s)
	wantKinds(t, "without its directory", x, dir, map[string]Kind{"first": Gone})
	var many []string
	for i := range goneMax {
		many = append(many, fmt.Sprintf("%s/t%d", dir, i))
	}
	x = capture(t, Options{Last: x, Gone: many}, s)
	if k := kinds(x, dir); len(k) != goneMax || k["first"] != 0 {
		t.Errorf("%d names, the oldest among them: %v", len(k), k["first"])
	}
}

// Files in a --data tree, and those that are never touched, are not followed.
func TestFollowedOnlyOutside(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Mkdir(dir+"/data", 0o700), os.Mkdir(dir+"/store", 0o700))
	for _, name := range []string{"/data/a", "/store/b", "/c"} {
		write(t, dir+name, "x", 0o600)
	}
	o := Options{Trees: []string{dir + "/data"}, Except: []string{dir + "/store"}, Gone: []string{dir + "/data/d", dir + "/store/e"},
		Written: []Written{wrote(t, dir+"/data/a"), wrote(t, dir+"/store/b"), wrote(t, dir+"/c")}}
	x := capture(t, o, newPages())
	wantKinds(t, "outside", x, dir, map[string]Kind{"data/a": Regular, "c": Regular})
	for _, e := range x.Entries {
		if e.Written != (e.Path == dir+"/c") {
			t.Errorf("%s is followed: %v", e.Path, e.Written)
		}
	}
	o.Keep = true
	wantKinds(t, "keep", capture(t, o, newPages()), dir, map[string]Kind{})
}

// More files than are followed are told of.
func TestFollowedIsBounded(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/state", "one", 0o640)
	c := &Capture{last: map[string]before{}, index: &Index{}, followed: writtenMax, beyond: missed{most: map[string]int{}}}
	open := map[string]Open{}
	c.follow(Options{Written: []Written{wrote(t, dir+"/state")}}, open)
	if len(open) != 0 || !strings.Contains(c.Beyond(), "--data "+dir) {
		t.Errorf("%d files, %q", len(open), c.Beyond())
	}
}
