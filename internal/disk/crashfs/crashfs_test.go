package crashfs

import (
	"bytes"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/wakepoint/wakepoint/internal/disk"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// script does one thing after the other: "mkdir d", "create f", "write f TEXT",
// "sync f", "truncate f N", "close f", "rename a b", "remove f", "syncdir d".
// A "!" in front makes the call fail and "?" makes it fail although it is done.
func script(t testing.TB, f *FS, lines string) {
	t.Helper()
	open := map[string]disk.File{}
	for line := range strings.Lines(lines) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		verdict := disk.Do
		switch line[0] {
		case '!':
			verdict = disk.Fail
		case '?':
			verdict = disk.Lie
		}
		f.Watch(func(disk.Op) (disk.Verdict, error) { return verdict, syscall.EIO })
		w := append(strings.Fields(strings.TrimLeft(line, "!?")), "")
		var err error
		switch w[0] {
		case "mkdir":
			err = f.Mkdir(w[1])
		case "create":
			open[w[1]], err = f.Create(w[1])
		case "write":
			_, err = open[w[1]].Write([]byte(expand(w[2])))
		case "truncate":
			err = open[w[1]].Truncate(int64(len(expand(w[2]))))
		case "sync":
			err = open[w[1]].Sync()
		case "rename":
			err = f.Rename(w[1], w[2])
			open[w[2]] = open[w[1]]
		case "remove":
			err = f.Remove(w[1])
		case "syncdir":
			err = f.SyncDir(w[1])
		default:
			t.Fatalf("script: %s", line)
		}
		f.Watch(nil)
		if (verdict == disk.Do) != (err == nil) || err != nil && !errors.Is(err, syscall.EIO) {
			t.Fatalf("%s: %v", line, err)
		}
	}
}

// expand makes a sector of each letter; "-" is nothing.
func expand(s string) string {
	var b strings.Builder
	for _, c := range strings.Trim(s, "-") {
		b.WriteString(strings.Repeat(string(c), Sector))
	}
	return b.String()
}

// shrink is what expand expanded; "0" is a sector of zeros.
func shrink(b []byte) string {
	var s strings.Builder
	for sector := range slices.Chunk(b, Sector) {
		c := sector[0]
		if !bytes.Equal(sector, bytes.Repeat([]byte{c}, len(sector))) {
			return "torn within a sector"
		}
		if c == 0 {
			c = '0'
		}
		s.WriteByte(c)
	}
	return s.String()
}

// tree lists what a disk holds: "d/ f=ab".
func tree(t testing.TB, f *FS, dir string) string {
	t.Helper()
	entries, err := f.ReadDir(dir)
	must(t, err)
	var all []string
	for _, e := range entries {
		name := strings.TrimLeft(dir+"/"+e.Name(), "/")
		if e.IsDir() {
			all = append(all, strings.Fields(name+"/ "+tree(t, f, name))...)
			continue
		}
		b, err := disk.ReadFile(f, name, 1<<20)
		must(t, err)
		all = append(all, name+"="+shrink(b))
	}
	return strings.Join(all, " ")
}

// TestRules shows each rule by what is left after a cut: each disk that is
// listed, and no other.
func TestRules(t *testing.T) {
	for name, c := range map[string]struct {
		script string
		all    string   // disks, | between them
		seeds  []uint64 // nil: many
	}{
		"synced": {"create f\n write f ab\n sync f\n syncdir /", "f=ab", nil},
		"contents without a sync": {
			"create f\n syncdir /\n write f ab",
			"f=|f=0|f=a|f=00|f=a0|f=0b|f=ab", nil,
		},
		"contents after a truncation": {
			"create f\n write f ab\n sync f\n syncdir /\n truncate f -\n write f cd",
			"f=ab|f=00cd|f=ab00", []uint64{LoseAll, KeepAll, KeepSizes},
		},
		"a name without a sync":           {"create f\n write f a\n sync f", "|f=a", nil},
		"a name without its directory":    {"mkdir d\n create d/f\n syncdir d", "|d/ d/f=", nil},
		"a directory and a name in it":    {"mkdir d\n syncdir /\n create d/f", "d/|d/ d/f=", nil},
		"a removal without a sync":        {"create f\n syncdir /\n remove f", "|f=", nil},
		"a removal":                       {"create f\n syncdir /\n remove f\n syncdir /", "", nil},
		"a rename is whole":               {"create a\n write a x\n sync a\n syncdir /\n rename a b", "a=x|b=x", nil},
		"a rename in place of another":    {"create a\n create b\n write a x\n sync a\n syncdir /\n rename a b", "a=x b=|b=x", nil},
		"renames in order":                {"create a\n create b\n syncdir /\n rename a x\n rename b y", "a= b=|b= x=|x= y=", nil},
		"creations in any order":          {"create a\n create b", "|a=|b=|a= b=", nil},
		"a rename and then its contents":  {"create a\n write a x\n rename a b\n sync b", "|a=x|b=x", nil},
		"a rename before its contents":    {"create a\n write a x\n rename a b\n syncdir /", "b=|b=0|b=x", nil},
		"a rename between directories":    {"mkdir d\n create a\n syncdir /\n rename a d/a\n syncdir d", "a= d/|d/ d/a=", nil},
		"both directories":                {"mkdir d\n create a\n syncdir /\n rename a d/a\n syncdir d\n syncdir /", "d/ d/a=", nil},
		"a directory that goes was empty": {"mkdir d\n create d/f\n syncdir d\n syncdir /\n remove d/f\n remove d", "|d/|d/ d/f=", nil},
		"what became of a failed sync":    {"create f\n syncdir /\n write f ab\n !sync f\n sync f", "f=00", nil},
		"what comes after a failed sync":  {"create f\n syncdir /\n write f a\n !sync f\n write f b\n sync f", "f=0b", nil},
		"an older state after one":        {"create f\n write f ab\n sync f\n syncdir /\n truncate f -\n write f cd\n !sync f\n sync f", "f=ab00", nil},
		"a sync that was done and failed": {"create f\n syncdir /\n write f a\n ?sync f", "f=a", nil},
		"a truncation without a sync":     {"create f\n write f ab\n sync f\n syncdir /\n truncate f a", "f=a|f=ab|f=a0", nil},
	} {
		f := New()
		script(t, f, c.script)
		seeds := c.seeds
		for s := uint64(0); len(c.seeds) == 0 && s < 300; s++ {
			seeds = append(seeds, s)
		}
		want, got := map[string]bool{}, map[string]bool{}
		for w := range strings.SplitSeq(c.all, "|") {
			want[w] = true
		}
		for _, s := range seeds {
			got[tree(t, f.Crash(s), "/")] = true
		}
		for w := range got {
			if !want[w] {
				t.Errorf("%s: left %q", name, w)
			}
		}
		for w := range want {
			if !got[w] {
				t.Errorf("%s: never left %q", name, w)
			}
		}
	}
}

// TestCrashAgain: a cut changes nothing of the disk that was cut, nor may what
// is done on one disk be seen on the other.
func TestCrashAgain(t *testing.T) {
	f := New()
	script(t, f, "create f\n write f ab\n sync f\n syncdir /")
	g := f.Crash(LoseAll)
	h, err := g.Append("f")
	must(t, err)
	_, err = h.Write([]byte(expand("c")))
	must(t, err)
	must(t, g.Flip("f", 0))
	must(t, g.Rename("f", "g"))
	if s := tree(t, f, "/"); s != "f=ab" {
		t.Errorf("the disk that was cut holds %s", s)
	}
	if s := tree(t, g.Crash(LoseAll), "/"); s != "f=torn within a sector" {
		t.Errorf("the flipped bit is not on the disk: %s", s)
	}
}

func TestLocksEnd(t *testing.T) {
	f := New()
	script(t, f, "create f\n syncdir /")
	l, err := f.Lock("f", disk.Exclusive)
	must(t, err)
	if _, err := f.Lock("f", disk.Shared); !errors.Is(err, disk.ErrLocked) {
		t.Errorf("locked twice: %v", err)
	}
	g := f.Crash(LoseAll)
	if _, err := g.Lock("f", disk.Exclusive); err != nil {
		t.Errorf("locked after the cut: %v", err)
	}
	waited := make(chan error, 1)
	go func() {
		l, err := f.Lock("f", disk.ExclusiveWait)
		if err == nil {
			err = l.Close()
		}
		waited <- err
	}()
	must(t, l.Close())
	must(t, <-waited)
	a, err := f.Lock("f", disk.Shared)
	must(t, err)
	_, err = f.Lock("f", disk.Shared)
	must(t, err)
	must(t, a.Close())
	if _, err := f.Lock("f", disk.Exclusive); !errors.Is(err, disk.ErrLocked) {
		t.Errorf("exclusive beside shared: %v", err)
	}
}

// TestRoom: what does not fit is cut short, and a file that goes makes room.
func TestRoom(t *testing.T) {
	f := New()
	f.SetRoom(4 * Sector)
	script(t, f, "create a\n write a xy")
	b, err := f.Create("b")
	if err != nil || f.Room() != 0 {
		t.Fatalf("room %d, %v", f.Room(), err)
	}
	if _, err := f.Create("c"); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("create: %v", err)
	}
	if n, err := b.Write([]byte("x")); n != 0 || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("write: %d, %v", n, err)
	}
	must(t, f.Remove("a"))
	if n, err := b.Write([]byte(expand("uvwxyz"))); n != 3*Sector || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("write: %d, %v", n, err)
	}
	if s := tree(t, f, "/"); s != "b=uvw" || f.Room() != 0 {
		t.Errorf("%s, room %d", s, f.Room())
	}
	f.SetRoom(-1)
	_, err = b.Write([]byte(expand("xyz")))
	must(t, err)
}

// TestFaults: the n-th call fails, done or not.
func TestFaults(t *testing.T) {
	f := New()
	script(t, f, "!mkdir d\n ?mkdir e\n ?create f\n !remove e\n !rename e g\n !syncdir /")
	if s := tree(t, f, "/"); s != "e/ f=" {
		t.Errorf("%s", s)
	}
	if s := tree(t, f.Crash(LoseAll), "/"); s != "" {
		t.Errorf("a directory was synced by a call that failed: %s", s)
	}
	var seen []string
	f.Watch(func(op disk.Op) (disk.Verdict, error) {
		seen = append(seen, op.Verb)
		if Changes(op) {
			return disk.Drop, nil
		}
		return disk.Fail, syscall.EIO
	})
	must(t, f.Remove("f"))
	must(t, f.SyncDir("/"))
	_, err := f.Lstat("f")
	_, err2 := f.ReadDir("/")
	_, err3 := f.Open("f")
	_, err4 := f.Lock("f", disk.Shared)
	for _, err := range []error{err, err2, err3, err4} {
		if !errors.Is(err, syscall.EIO) {
			t.Errorf("%v", err)
		}
	}
	f.Watch(nil)
	if want := []string{"remove", "syncdir", "lstat", "readdir", "open", "lock"}; !slices.Equal(seen, want) {
		t.Errorf("asked %v", seen)
	}
	if _, err := f.Lstat("f"); err != nil {
		t.Errorf("a dropped removal was done: %v", err)
	}
	must(t, f.Cut("f", 0))
	if err := f.Cut("x", 0); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

// TestLarge: a file of many pieces is cut like a small one.
func TestLarge(t *testing.T) {
	f := New()
	h, err := f.Create("f")
	must(t, err)
	must(t, f.SyncDir("/"))
	_, err = h.Write(make([]byte, 3*pieceSize))
	must(t, err)
	must(t, h.Sync())
	for _, at := range []int64{0, pieceSize - Sector, 2 * pieceSize} {
		_, err = h.WriteAt([]byte(expand("ab")), at)
		must(t, err)
	}
	seen := map[string]bool{}
	for seed := range uint64(200) {
		b, err := disk.ReadFile(f.Crash(seed), "f", 1<<20)
		must(t, err)
		s := shrink(b)
		if len(s) != 3*64 || strings.Trim(s, "0ab") != "" {
			t.Fatalf("left %q", s)
		}
		seen[strings.ReplaceAll(s, "0", "")] = true
	}
	if !seen[""] || !seen["ababab"] || len(seen) < 10 {
		t.Errorf("left %v", seen)
	}
	must(t, h.Truncate(pieceSize/2))
	must(t, h.Sync())
	must(t, h.Truncate(2*pieceSize))
	must(t, h.Sync())
	if b, err := disk.ReadFile(f.Crash(LoseAll), "f", 1<<20); err != nil || strings.Trim(shrink(b)[2:], "0") != "" {
		t.Errorf("what was cut off is there again: %v", err)
	}
}

// TestMeanwhile: what comes while an fsync is on its way is not a part of it,
// neither what is written nor a name.
func TestMeanwhile(t *testing.T) {
	for _, verdict := range []disk.Verdict{disk.Do, disk.Fail, disk.Lie} {
		f := New()
		script(t, f, "create f\n syncdir /")
		h, err := f.Modify("f")
		must(t, err)
		_, err = h.Write([]byte(expand("a")))
		must(t, err)
		f.Watch(func(op disk.Op) (disk.Verdict, error) {
			f.Watch(nil)
			if s := tree(t, f.Crash(LoseAll), "/"); s != "f=" {
				t.Errorf("left before the fsync has ended: %s", s)
			}
			_, err := h.Write([]byte(expand("b")))
			must(t, err)
			return verdict, nil
		})
		if err := h.Sync(); (err == nil) != (verdict == disk.Do) {
			t.Error(err)
		}
		want := map[disk.Verdict][2]string{disk.Do: {"f=a", "f=ab"}, disk.Lie: {"f=a", "f=ab"}, disk.Fail: {"f=", "f=0b"}}[verdict]
		if s := tree(t, f.Crash(LoseAll), "/"); s != want[0] {
			t.Errorf("verdict %d: left %s", verdict, s)
		}
		must(t, h.Sync())
		if s := tree(t, f.Crash(LoseAll), "/"); s != want[1] {
			t.Errorf("verdict %d: left %s after the next fsync", verdict, s)
		}
	}
	f := New()
	script(t, f, "create a")
	f.Watch(func(op disk.Op) (disk.Verdict, error) {
		f.Watch(nil)
		script(t, f, "create b")
		return disk.Do, nil
	})
	must(t, f.SyncDir("/"))
	if s := tree(t, f.Crash(LoseAll), "/"); s != "a=" {
		t.Errorf("left %s", s)
	}
}

// TestClone: after a process was killed the next one sees all that was written,
// the power can still be cut, and no lock is left.
func TestClone(t *testing.T) {
	f := New()
	script(t, f, "create f\n write f a\n sync f\n syncdir /\n write f b\n mkdir d\n create d/x\n rename d/x d/y\n !sync f\n write f c")
	if _, err := f.Lock("f", disk.Exclusive); err != nil {
		t.Fatal(err)
	}
	g := f.Clone()
	if s := tree(t, g, "/"); s != "d/ d/y= f=abc" {
		t.Errorf("the next process sees %s", s)
	}
	for seed := range uint64(100) {
		if a, b := tree(t, f.Crash(seed), "/"), tree(t, g.Crash(seed), "/"); a != b {
			t.Errorf("disk %d: %s was left, and %s", seed, a, b)
		}
	}
	if _, err := g.Lock("f", disk.Exclusive); err != nil {
		t.Errorf("locked: %v", err)
	}
	script(t, g, "remove d/y\n remove d\n syncdir /")
	h, err := g.Append("f")
	must(t, err)
	must(t, h.Sync())
	if s := tree(t, g.Crash(LoseAll), "/"); s != "f=a0c" {
		t.Errorf("what was lost by a failed fsync is there: %s", s)
	}
	if s := tree(t, f, "/"); s != "d/ d/y= f=abc" {
		t.Errorf("the disk of the killed process holds %s", s)
	}
}

// TestStop: a disk that was stopped does nothing more, and of what an fsync had
// not yet written any part may survive.
func TestStop(t *testing.T) {
	f := New()
	script(t, f, "create f\n syncdir /\n write f ab")
	h, err := f.Append("f")
	must(t, err)
	gone := errors.New("gone")
	f.Watch(func(disk.Op) (disk.Verdict, error) {
		f.Stop(gone)
		return disk.Do, nil
	})
	if err := h.Sync(); !errors.Is(err, gone) {
		t.Errorf("%v", err)
	}
	f.Watch(nil)
	if err := f.Remove("f"); !errors.Is(err, gone) {
		t.Errorf("%v", err)
	}
	if a, b := tree(t, f.Crash(LoseAll), "/"), tree(t, f.Crash(KeepAll), "/"); a != "f=" || b != "f=ab" {
		t.Errorf("left %s or %s", a, b)
	}
}
