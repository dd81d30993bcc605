package durabletest_test

import (
	"errors"
	"io"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wakepoint/wakepoint/durable/durabletest"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// text reads a file; "-" where there is none.
func text(d *durabletest.Disk, name string) string {
	f, err := d.Open(name)
	if err != nil {
		return "-"
	}
	defer f.Close()
	b, _ := io.ReadAll(f)
	return string(b)
}

// TestFaults: calls fail as they are told to: which, how many, and done or not.
func TestFaults(t *testing.T) {
	const mkdirs = 6
	for name, c := range map[string]struct {
		fault durabletest.Fault
		fail  []int // calls
		done  int
	}{
		"for once":            {durabletest.Fault{Times: 1}, []int{0}, 5},
		"the third, and done": {durabletest.Fault{After: 2, Times: 1, Done: true}, []int{2}, 6},
		"two":                 {durabletest.Fault{After: 1, Times: 2}, []int{1, 2}, 4},
		"from the fourth on":  {durabletest.Fault{After: 3, Err: syscall.ENOSPC}, []int{3, 4, 5}, 3},
		"one of a kind": {durabletest.Fault{On: func(op durabletest.Op) bool { return op.String() == "mkdir /e" }},
			[]int{4}, 5},
		"none of this kind": {durabletest.Fault{On: func(op durabletest.Op) bool { return op.Verb == "read" }}, nil, 6},
	} {
		d := durabletest.NewDisk()
		d.Inject(c.fault)
		var failed []int
		for i := range mkdirs {
			if err := d.Mkdir("/" + string(rune('a'+i))); err != nil {
				want := c.fault.Err
				if want == nil {
					want = syscall.EIO
				}
				if failed = append(failed, i); !errors.Is(err, want) {
					t.Errorf("%s: %v", name, err)
				}
			}
		}
		d.Heal()
		list, err := d.ReadDir("/")
		if must(t, err); !slices.Equal(failed, c.fail) || len(list) != c.done || d.Calls() != mkdirs {
			t.Errorf("%s: failed %v, done %d", name, failed, len(list))
		}
		must(t, d.Mkdir("/again"))
	}
	d := durabletest.NewDisk()
	d.Inject(durabletest.Fault{On: func(op durabletest.Op) bool { return op.Verb == "lstat" }})
	if _, err := d.Lstat("/"); !errors.Is(err, syscall.EIO) {
		t.Errorf("what only reads fails as well: %v", err)
	}
}

// TestCut: the power goes at a call, of what was not synced any part survives,
// and a kill leaves all.
func TestCut(t *testing.T) {
	d := durabletest.NewDisk()
	f, err := d.Create("/f")
	must(t, err)
	must(t, d.SyncDir("/"))
	d.CutAt(2)
	_, err = f.Write([]byte("new"))
	must(t, err)
	for range 2 {
		if err := f.Sync(); !errors.Is(err, durabletest.ErrCut) {
			t.Errorf("sync: %v", err)
		}
	}
	if _, err := d.Open("/f"); !errors.Is(err, durabletest.ErrCut) {
		t.Errorf("open: %v", err)
	}
	seen := map[string]bool{}
	for n := range durabletest.Survivors(20) {
		seen[text(d.Cut(n), "/f")] = true
	}
	if len(seen) != 3 || !seen[""] || !seen["new"] || !seen["\x00\x00\x00"] {
		t.Errorf("left %v", seen)
	}
	killed := d.Kill()
	if text(killed, "/f") != "new" || text(killed.Cut(durabletest.LoseAll), "/f") != "" {
		t.Error("a kill is no cut")
	}
	if s := durabletest.KeepNames.String() + (durabletest.Drawn + 3).String(); s != "KeepNamesDrawn+3" {
		t.Error(s)
	}
}

// TestSpoil: a disk is full until there is room, and rots.
func TestSpoil(t *testing.T) {
	d := durabletest.NewDisk()
	f, err := d.Create("/f")
	must(t, err)
	d.SetRoom(durabletest.Sector)
	if n, err := f.Write(make([]byte, 3*durabletest.Sector)); n != durabletest.Sector || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("%d, %v", n, err)
	}
	if err := d.Kill().Mkdir("/d"); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("%v", err)
	}
	d = d.Cut(durabletest.KeepAll)
	must(t, d.Mkdir("/d"))
	must(t, d.Shorten("/f", 2))
	must(t, d.Flip("/f", 9))
	if s := text(d, "/f"); s != "\x00\x02" {
		t.Errorf("%q", s)
	}
	if err := d.Flip("/f", 16); err == nil {
		t.Error("a bit that is not there was flipped")
	}
}

// TestDelay: each fsync takes its time, and what is written meanwhile is not a
// part of it.
func TestDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := durabletest.NewDisk()
		f, err := d.Create("/f")
		must(t, err)
		d.SetDelay(time.Second)
		begin := time.Now()
		must(t, d.SyncDir("/"))
		_, err = f.Write([]byte("a"))
		must(t, err)
		go func() {
			time.Sleep(500 * time.Millisecond)
			if _, err := f.WriteAt([]byte("b"), durabletest.Sector); err != nil {
				t.Error(err)
			}
		}()
		must(t, f.Sync())
		if took := time.Since(begin); took != 2*time.Second {
			t.Errorf("it took %v", took)
		}
		if s := text(d.Cut(durabletest.LoseAll), "/f"); s != "a" {
			t.Errorf("%q", s)
		}
	})
}
