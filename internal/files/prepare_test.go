package files

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// prepared is a tree that is captured with a Prepare before each Take.
type prepared struct {
	dir  string
	s    *pages
	o    Options
	open []Open
	then func() // what happens between the two; nil: nothing

	before, frozen int // pages that were read of the running and the frozen tree
}

// capture fails unless what is kept is what the files contain.
func (p *prepared) capture(t *testing.T) {
	t.Helper()
	p.s.puts = 0
	o := p.o
	ready, err := Prepare(o, func() ([]Open, error) { return p.open, nil }, p.s)
	must(t, err)
	p.before, p.s.puts = p.s.puts, 0
	if p.then != nil {
		p.then()
	}
	o.Prepared, o.Open = ready, p.open
	c, err := Take(o, p.s)
	must(t, err)
	defer c.Close()
	p.frozen = p.s.puts
	x, _, err := c.Finish()
	must(t, err)
	for _, e := range x.Entries {
		if e.Kind != Regular {
			continue
		}
		want, err := os.ReadFile(e.Path)
		must(t, err)
		if contentsOf(t, x, p.s, e.Path) != string(want) {
			t.Errorf("%s: what is kept is not what it contains", e.Path)
		}
	}
	for off := range p.s.m {
		if slotOf(x, off) == "" {
			t.Fatalf("page %#x belongs to no file", off)
		}
	}
	p.o.Last = x
}

func newPrepared(t *testing.T) *prepared {
	p := &prepared{dir: t.TempDir(), s: newPages()}
	p.o.Trees = []string{p.dir}
	for i := range 5 {
		write(t, fmt.Sprintf("%s/%d", p.dir, i), string(noise(uint64(i), 2<<20)), 0o600)
	}
	time.Sleep(2 * settled)
	return p
}

const mib = (1 << 20) / pageSize // pages

// What is large is read while the program runs; in the freeze what has changed
// since, and nothing else.
func TestPrepareReadsBeforeTheFreeze(t *testing.T) {
	p := newPrepared(t)
	p.then = func() { write(t, p.dir+"/3", string(noise(10, 2<<20)), 0o600) }
	p.capture(t)
	if p.before/mib != 10 || p.frozen/mib != 2 {
		t.Errorf("%d MiB were read before the freeze, and %d in it", p.before/mib, p.frozen/mib)
	}
	p.then = nil
	time.Sleep(2 * settled)
	p.capture(t) // 3 changed so shortly before that it may have changed again
	p.capture(t)
	if p.before != 0 || p.frozen != 0 {
		t.Errorf("%d and %d pages were read for nothing", p.before, p.frozen)
	}
	write(t, p.dir+"/new", "small", 0o600)
	p.capture(t)
	if p.before != 0 || p.frozen != 1 {
		t.Errorf("%d pages were read before the freeze, and %d in it, of one", p.before, p.frozen)
	}
	for i := range 4 { // the last one needs another slot
		write(t, fmt.Sprintf("%s/%d", p.dir, i), string(noise(uint64(20+i), 5*(i*2+1)<<18)), 0o600)
	}
	time.Sleep(2 * settled)
	p.then = func() { must(t, os.Remove(p.dir+"/1"), os.Rename(p.dir+"/2", p.dir+"/0")) }
	p.capture(t)
	p.o.Last.BootID = "another"
	p.then = nil
	time.Sleep(2 * settled)
	p.capture(t)
	if p.frozen != 0 {
		t.Errorf("%d pages were read in the freeze after a boot", p.frozen)
	}
}

// A file that is open outside the trees is read before the freeze: the first
// time because the tree has it open, and then because it had.
func TestPrepareKnowsOpenFiles(t *testing.T) {
	p := newPrepared(t)
	p.o.Trees = nil
	for i := range 5 {
		path := fmt.Sprintf("%s/%d", p.dir, i)
		p.open = append(p.open, Open{Path: path, File: writer(t, path, 0), Writable: true})
	}
	p.capture(t)
	if p.before/mib != 10 || p.frozen != 0 {
		t.Errorf("%d MiB were read before the freeze, and %d in it", p.before/mib, p.frozen/mib)
	}
	for _, o := range p.open {
		_, err := o.File.WriteAt([]byte("again"), 1<<20)
		must(t, err)
	}
	time.Sleep(2 * settled)
	p.capture(t)
	if p.before/mib != 10 || p.frozen != 0 {
		t.Errorf("%d MiB were read before the freeze, and %d in it", p.before/mib, p.frozen/mib)
	}
}

// What is written through a mapping after it was read does not show: a mapped
// file is left to the freeze, also when it is not mapped any more by then.
func TestPrepareLeavesMappedFiles(t *testing.T) {
	p := newPrepared(t)
	path := p.dir + "/3"
	f := writer(t, path, 0)
	m, err := unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	must(t, err)
	copy(m, "dirty")
	time.Sleep(2 * settled)
	p.open = []Open{{Path: path, File: f, Writable: true, Mapped: true}}
	p.then = func() {
		copy(m, "still")
		must(t, unix.Munmap(m))
		p.open[0].Mapped = false
	}
	p.capture(t)
	if p.before/mib != 8 || p.frozen != 2*mib {
		t.Errorf("%d MiB were read before the freeze, and %d in it", p.before/mib, p.frozen/mib)
	}
}

// A file that changes between Prepare and the freeze is not read twice each
// time, until it rests.
func TestPrepareLeavesRestlessFiles(t *testing.T) {
	p := newPrepared(t)
	change := func() {
		for i := range 5 {
			write(t, fmt.Sprintf("%s/%d", p.dir, i), strings.Repeat("change", 1<<18), 0o600)
		}
	}
	p.then = change
	p.capture(t)
	p.capture(t)
	if p.before != 0 {
		t.Errorf("%d pages were read before the freeze in vain", p.before)
	}
	change()
	p.then = nil
	time.Sleep(restlessTime + 2*settled)
	p.capture(t)
	if p.before == 0 || p.frozen != 0 {
		t.Errorf("%d pages were read before the freeze, and %d in it", p.before, p.frozen)
	}
}

// Of a log the end is read, before the freeze when that is much.
func TestPrepareReadsTheEndOfALog(t *testing.T) {
	p := &prepared{dir: t.TempDir(), s: newPages()}
	path := p.dir + "/log"
	write(t, path, strings.Repeat("0123456789abcde\n", 1<<20), 0o600)
	f := writer(t, path, os.O_APPEND)
	p.open = []Open{{Path: path, File: f, Writable: true, Append: true}}
	time.Sleep(2 * settled)
	p.then = func() { _, err := f.WriteString("one more\n"); must(t, err) }
	p.capture(t)
	if p.before != 16*mib || p.frozen != 1 {
		t.Errorf("%d pages were read before the freeze, and %d in it", p.before, p.frozen)
	}
	p.capture(t)
	if p.before != 0 || p.frozen != 1 {
		t.Errorf("%d pages were read before the freeze, and %d in it", p.before, p.frozen)
	}
	_, err := f.WriteString(strings.Repeat("much more\n", 1<<20))
	must(t, err)
	time.Sleep(2 * settled)
	p.capture(t)
	if p.before == 0 || p.frozen != 1 {
		t.Errorf("%d pages were read before the freeze, and %d in it", p.before, p.frozen)
	}
}

// timed notes when it was first given something.
type timed struct {
	*pages
	first int64
}

func (s *timed) Put(off int64, p []byte) error {
	if s.first == 0 {
		s.first = time.Now().UnixNano()
	}
	return s.pages.Put(off, p)
}

// What changed shortly before its reading began counts as changed since: the
// clock of that is read when all is known that is mapped, and nothing is read.
func TestPrepareCountsFromItsReading(t *testing.T) {
	p := newPrepared(t)
	var scanned int64
	s := &timed{pages: p.s}
	x, err := Prepare(p.o, func() ([]Open, error) { scanned = time.Now().UnixNano(); return nil, nil }, s)
	must(t, err)
	if x.Taken < scanned || x.Taken > s.first {
		t.Errorf("counts from %d; all was known at %d, and the first was read at %d", x.Taken, scanned, s.first)
	}
}

// What Take would not trust of the last generation it does not trust after a
// Prepare that left it: here for a mapping that was there then.
func TestPrepareTrustsNoMore(t *testing.T) {
	for name, spoil := range map[string]func(x *Index){
		"after a boot":                func(x *Index) { x.BootID = "another" },
		"what changed just before it": func(x *Index) { x.Taken -= int64(time.Hour) },
		"what was mapped when it was taken": func(x *Index) {
			for i := range x.Entries {
				e := &x.Entries[i]
				if e.Hot = strings.HasSuffix(e.Path, "/3"); !e.Hot {
					e.Ctime-- // so that there is something to read
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPrepared(t)
			p.capture(t)
			for i := range p.o.Last.Entries { // a change that does not show
				e := &p.o.Last.Entries[i]
				if e.Kind != Regular {
					continue
				}
				_, err := writer(t, e.Path, 0).WriteAt([]byte("changed"), 1<<20)
				must(t, err)
				now, _, err := stat(e.Path)
				must(t, err)
				e.Mtime, e.Ctime = now.Mtime, now.Ctime
			}
			time.Sleep(2 * settled)
			p.o.Last.Taken = time.Now().UnixNano()
			spoil(p.o.Last)
			p.open = []Open{{Path: p.dir + "/3", File: writer(t, p.dir+"/3", 0), Writable: true, Mapped: true}}
			p.then = func() { p.open[0].Mapped = false }
			p.capture(t)
		})
	}
}

// A file outside the trees that was written and closed is followed to its new
// name, also when another has come under its own before a Prepare.
func TestPrepareFollowsWrittenFiles(t *testing.T) {
	p := newPrepared(t)
	p.o.Trees = nil
	for i := range 5 {
		path := fmt.Sprintf("%s/%d", p.dir, i)
		var st unix.Stat_t
		must(t, unix.Lstat(path, &st))
		p.o.Written = append(p.o.Written, Written{Path: path, Dev: st.Dev, Ino: st.Ino, Handle: handleOf(unix.AT_FDCWD, path)})
	}
	handles := p.o.Written[0].Handle != nil // not on every file system
	p.o.Gone = []string{p.dir + "/gone"}
	p.capture(t)
	if p.before/mib != 10 || p.frozen != 0 {
		t.Errorf("%d MiB were read before the freeze, and %d in it", p.before/mib, p.frozen/mib)
	}
	p.o.Written, p.o.Gone = nil, nil
	for i := range 5 {
		path := fmt.Sprintf("%s/%d", p.dir, i)
		must(t, os.Rename(path, path+".old"))
		write(t, path, string(noise(uint64(30+i), 3<<20)), 0o600)
	}
	time.Sleep(2 * settled)
	p.capture(t)
	names := map[string]Kind{}
	for _, e := range p.o.Last.Entries {
		names[e.Path] = e.Kind
		if e.Kind == Regular && (!e.Written || handles && e.Handle == nil) {
			t.Errorf("%s is not followed any more", e.Path)
		}
	}
	for i := range 5 {
		if path := fmt.Sprintf("%s/%d", p.dir, i); names[path] != Regular || names[path+".old"] != Regular {
			t.Errorf("%s or what it was before is missing", path)
		}
	}
	if names[p.dir+"/gone"] != Gone {
		t.Error("a name that is not there is forgotten")
	}
}
