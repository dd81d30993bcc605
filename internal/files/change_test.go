package files

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// writer opens a file as a program would that writes to it.
func writer(t *testing.T, path string, flags int) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR|flags, 0)
	must(t, err)
	t.Cleanup(func() { f.Close() })
	return f
}

// contentsOf is what a capture has kept of a file.
func contentsOf(t *testing.T, x *Index, s *pages, path string) string {
	t.Helper()
	for _, e := range x.Entries {
		if e.Path != path || e.Kind != Regular {
			continue
		}
		p := make([]byte, pageUp(e.Size))
		must(t, e.each(s, func(off int64, b []byte) error {
			copy(p[off:], b)
			return nil
		}))
		return string(p[:e.Size])
	}
	t.Fatalf("%s was not captured", path)
	return ""
}

// A file that is merely open for writing is read again when it has changed,
// in whatever way, and only then.
func TestOpenFilesAreReadWhenTheyHaveChanged(t *testing.T) {
	dir := t.TempDir()
	path := dir + "/db"
	write(t, path, strings.Repeat("first", 1000), 0o600)
	f := writer(t, path, 0)
	time.Sleep(2 * settled)
	s := newPages()
	o := Options{Open: []Open{{Path: path, File: f, Writable: true}}}
	o.Last = capture(t, o, s)
	s.puts = 0
	o.Last = capture(t, o, s)
	if s.puts != 0 {
		t.Errorf("%d pages were read of a file that nobody had written", s.puts)
	}

	st, err := f.Stat()
	must(t, err)
	_, err = f.WriteAt([]byte("again"), 5)
	must(t, err, os.Chtimes(path, st.ModTime(), st.ModTime())) // as tar and rsync do
	o.Last = capture(t, o, s)
	if got := contentsOf(t, o.Last, s, path); !strings.HasPrefix(got, "firstagainfirst") {
		t.Errorf("kept %q", got[:20])
	}
	must(t, unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, 4096))
	time.Sleep(2 * settled)
	o.Last = capture(t, o, s)
	if got := contentsOf(t, o.Last, s, path); got[0] != 0 {
		t.Errorf("kept %q of a hole", got[:20])
	}
}

// What is written through a mapping does not show in a file's times: neither
// while it is mapped nor when it was meanwhile.
func TestMappedFilesAreReadOnceMore(t *testing.T) {
	dir := t.TempDir()
	path := dir + "/db"
	write(t, path, strings.Repeat("first", 1000), 0o600)
	f := writer(t, path, 0)
	m, err := unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	must(t, err)
	copy(m, "dirty") // from here on the page is writable, and no fault tells
	time.Sleep(2 * settled)
	s := newPages()
	mapped := Options{Open: []Open{{Path: path, File: f, Writable: true, Mapped: true}}}
	x := capture(t, mapped, s)
	copy(m, "still")
	mapped.Last = x
	x = capture(t, mapped, s)
	if got := contentsOf(t, x, s, path); !strings.HasPrefix(got, "still") {
		t.Errorf("kept %q of a mapped file", got[:5])
	}
	copy(m, "after")
	must(t, unix.Munmap(m))
	o := Options{Open: []Open{{Path: path, File: f, Writable: true}}, Last: x}
	x = capture(t, o, s)
	if got := contentsOf(t, x, s, path); !strings.HasPrefix(got, "after") {
		t.Errorf("kept %q of a file that was mapped", got[:5])
	}
	s.puts, o.Last = 0, x
	if capture(t, o, s); s.puts != 0 {
		t.Errorf("%d pages were read of a file that is not mapped any more", s.puts)
	}
}

// A mapped file has other names, and a tree knows it by the first.
func TestMappedFilesAreKnownByTheirInode(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/z", strings.Repeat("first", 1000), 0o600)
	must(t, os.Link(dir+"/z", dir+"/a"))
	f := writer(t, dir+"/z", 0)
	m, err := unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	must(t, err)
	defer unix.Munmap(m)
	copy(m, "dirty")
	time.Sleep(2 * settled)
	s := newPages()
	o := Options{Trees: []string{dir}, Open: []Open{{Path: dir + "/z", File: f, Writable: true, Mapped: true}}}
	o.Last = capture(t, o, s)
	copy(m, "still")
	if x := capture(t, o, s); !strings.HasPrefix(contentsOf(t, x, s, dir+"/a"), "still") {
		t.Error("what was written under another name is not kept")
	}
}

// On tmpfs a mapping that comes and goes between two captures leaves no trace
// at all: what is open for writing there is read each time.
func TestVolatileFilesThatAreWrittenAreRead(t *testing.T) {
	dir, err := os.MkdirTemp("/dev/shm", "wakepoint-test-")
	if err != nil {
		t.Skip("skip: needs /dev/shm, a tmpfs: ", err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "shared")
	write(t, path, strings.Repeat("first", 1000), 0o600)
	f := writer(t, path, 0)
	time.Sleep(2 * settled)
	s := newPages()
	o := Options{Open: []Open{{Path: path, File: f, Writable: true, Volatile: true}}}
	o.Last = capture(t, o, s)
	m, err := unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	must(t, err)
	first := m[0] // the fault of a reader makes the page writable
	m[0] = first + 1
	must(t, unix.Munmap(m))
	if x := capture(t, o, s); contentsOf(t, x, s, path)[0] != first+1 {
		t.Error("what was written through a mapping is not kept")
	}
}

func TestUnsettled(t *testing.T) {
	second := int64(time.Second)
	at := 1_000_000 * second
	for _, c := range []struct {
		name         string
		ctime, taken int64
		want         bool
	}{
		{"long before", at + 1, at + 10*second, false},
		{"within a tick", at + 1, at + 2, true},
		{"two ticks before", at + 1, at + int64(settled) + 1, false},
		{"after", at + second + 1, at, true},
		{"whole seconds, a second before", at, at + second, true},
		{"whole seconds, three seconds before", at, at + 3*second, false},
	} {
		if got := unsettled(&Entry{Ctime: c.ctime}, c.taken); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

// The same file open twice: what one of them may do, it may.
func TestOpenTwice(t *testing.T) {
	reads, appends, writes := Open{}, Open{Writable: true, Append: true}, Open{Writable: true, Mapped: true}
	for _, c := range []struct{ a, b, want Open }{
		{reads, appends, appends},
		{appends, reads, appends},
		{appends, writes, writes},
		{writes, appends, writes},
	} {
		if got := c.a.with(c.b); got != c.want {
			t.Errorf("%+v with %+v: %+v", c.a, c.b, got)
		}
	}
}

// grownLog is a log that a program has appended to since it was captured.
type grownLog struct {
	path   string
	f      *os.File
	s      *pages
	o      Options
	before string
}

func newGrownLog(t *testing.T) *grownLog {
	t.Helper()
	g := &grownLog{path: t.TempDir() + "/log", s: newPages(), before: strings.Repeat("0123456789abcde\n", 10_000)}
	write(t, g.path, g.before, 0o600)
	g.f = writer(t, g.path, os.O_APPEND)
	g.o.Open = []Open{{Path: g.path, File: g.f, Writable: true, Append: true}}
	g.o.Last = capture(t, g.o, g.s)
	g.s.puts = 0
	return g
}

// capture says how many pages were read, and fails unless what is kept is what
// the file contains.
func (g *grownLog) capture(t *testing.T) (puts int) {
	t.Helper()
	g.s.puts = 0
	g.o.Last = capture(t, g.o, g.s)
	want, err := os.ReadFile(g.path)
	must(t, err)
	if got := contentsOf(t, g.o.Last, g.s, g.path); got != string(want) {
		t.Errorf("kept %d bytes that are not the %d of the file", len(got), len(want))
	}
	return g.s.puts
}

func (g *grownLog) say(t *testing.T, text string) {
	t.Helper()
	_, err := g.f.WriteString(text)
	must(t, err)
}

// Of a file that has only grown the end is read, however much lies before it
// and however often it grows.
func TestOfAGrownFileTheEndIsRead(t *testing.T) {
	g := newGrownLog(t)
	for range 3 {
		g.say(t, "one more line\n")
		if n := g.capture(t); n > 2 {
			t.Errorf("%d pages were read for one line", n)
		}
	}
	if n := g.capture(t); n > 1 { // it changed just before the last capture
		t.Errorf("%d pages were read for nothing", n)
	}
	must(t, os.Truncate(g.path, 0))
	g.capture(t)
	g.say(t, "anew\n")
	g.capture(t)
}

// What else may have happened to a file that is larger than it was: it is read
// from its start.
func TestAFileThatOnlySeemsToHaveGrown(t *testing.T) {
	anew := strings.Repeat("another line 012\n", 10_500) // it fits into the slot that the file has
	const more = "more\n"
	for _, c := range []struct {
		name string
		do   func(t *testing.T, g *grownLog)
	}{
		{"cut and written again", func(t *testing.T, g *grownLog) { // logrotate's copytruncate
			must(t, os.Truncate(g.path, 0))
			g.say(t, anew)
		}},
		{"cut in the middle and written again", func(t *testing.T, g *grownLog) {
			must(t, os.Truncate(g.path, int64(len(g.before)/2)))
			g.say(t, anew)
		}},
		{"another file", func(t *testing.T, g *grownLog) {
			must(t, os.Rename(g.path, g.path+".1"))
			write(t, g.path, "x"+g.before[1:]+more, 0o600)
			g.f = writer(t, g.path, os.O_APPEND)
			g.o.Open[0].File = g.f
		}},
		{"now one may write anywhere", func(t *testing.T, g *grownLog) {
			_, err := writer(t, g.path, 0).WriteAt([]byte("x"), 0)
			must(t, err)
			g.say(t, more)
			g.o.Open = append(g.o.Open, Open{Path: g.path, File: g.f, Writable: true})
		}},
		{"then one could write anywhere", func(t *testing.T, g *grownLog) {
			o := g.o
			o.Open = append(o.Open, Open{Path: g.path, File: g.f, Writable: true})
			g.o.Last = capture(t, o, g.s)
			_, err := writer(t, g.path, 0).WriteAt([]byte("x"), 0)
			must(t, err)
			g.say(t, more)
		}},
		{"it is mapped", func(t *testing.T, g *grownLog) {
			_, err := writer(t, g.path, 0).WriteAt([]byte("x"), 0) // as a mapping would
			must(t, err)
			g.say(t, more)
			g.o.Open[0].Mapped = true
		}},
		{"after a boot", func(t *testing.T, g *grownLog) {
			_, err := writer(t, g.path, 0).WriteAt([]byte("x"), 0) // as a power cut would
			must(t, err)
			g.say(t, more)
			g.o.Last.BootID = "another"
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := newGrownLog(t)
			c.do(t, g)
			g.capture(t)
		})
	}
}
