package files

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// onReflinks runs a test in a directory of each file system that can clone
// files: one that is small and new, in a file, mounted by a loop device that
// goes with the mount.
func onReflinks(t *testing.T, f func(t *testing.T, dir, kind string)) {
	for kind, mib := range map[string]int64{"xfs": 320, "btrfs": 256} { // the least are 300 and 109
		t.Run(kind, func(t *testing.T) { f(t, mounted(t, kind, mib<<20), kind) })
	}
}

func mounted(t *testing.T, kind string, size int64) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("skip: needs root: a file system is mounted")
	}
	if _, err := exec.LookPath("mkfs." + kind); err != nil {
		t.Skip("skip: needs ", err)
	}
	top := t.TempDir()
	image, dir := top+"/image", top+"/mnt"
	must(t, os.WriteFile(image, nil, 0o600), os.Truncate(image, size), os.Mkdir(dir, 0o700))
	if out, err := exec.Command("mkfs."+kind, "-q", image).CombinedOutput(); err != nil {
		t.Fatalf("mkfs.%s: %v\n%s", kind, err, out)
	}
	if out, err := exec.Command("mount", "-t", kind, "-o", "loop", image, dir).CombinedOutput(); err != nil {
		t.Skipf("skip: needs %s and loop devices: %v: %s", kind, err, bytes.TrimSpace(out))
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
			_ = unix.Unmount(dir, unix.MNT_DETACH)
		}
	})
	return dir
}

// frozen is a Take, and the bytes that it has read (proc_pid_io(5), rchar): of
// files, and the name of the boot.
func frozen(t *testing.T, o Options, s *pages) (c *Capture, bytesRead int) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before := bytesOfThread(t)
	c, err := Take(o, s)
	must(t, err)
	t.Cleanup(c.Close)
	return c, bytesOfThread(t) - before
}

func bytesOfThread(t *testing.T) (n int) {
	t.Helper()
	p, err := os.ReadFile("/proc/thread-self/io")
	must(t, err)
	if _, err := fmt.Sscanf(string(p), "rchar: %d", &n); err != nil {
		t.Fatalf("%v: %s", err, p)
	}
	return n
}

// finished is the rest of a capture, as a generation has it.
func finished(t *testing.T, c *Capture) *Index {
	t.Helper()
	_, p, err := c.Finish()
	must(t, err)
	x, err := Decode(p)
	must(t, err)
	c.Close()
	return x
}

// noFiles are the bytes that a Take may read when it reads no file.
const noFiles = 1024

// What can be cloned is not read in the freeze, and what the program does to it
// right after the thaw is not in the generation.
func TestReflinks(t *testing.T) {
	onReflinks(t, func(t *testing.T, dir, _ string) {
		data, path := dir+"/data", dir+"/data/large"
		must(t, os.Mkdir(data, 0o700))
		one := noise(1, 16<<20)
		write(t, path, string(one), 0o640)
		write(t, data+"/closed", string(noise(2, 1<<20)), 0o600)
		f := writer(t, path, 0)
		s := newPages()
		o := Options{Trees: []string{data}, Open: []Open{{Path: path, File: f, Writable: true}}}
		want := describe(t, data)

		c, n := frozen(t, o, s)
		if len(c.clones) != 2 || s.puts != 0 || n > noFiles {
			t.Errorf("%d clones, %d pages and %d bytes were read in the freeze", len(c.clones), s.puts, n)
		}
		_, err := f.WriteAt(noise(3, 1<<20), 5<<20)
		must(t, err, f.Truncate(6<<20), os.Remove(data+"/closed"))
		x := finished(t, c)
		if contentsOf(t, x, s, path) != string(one) {
			t.Error("what was written after the thaw is in the generation")
		}
		must(t, putBack(x, s, nil))
		sameTree(t, "put back", data, want)
		p, err := os.ReadFile(path)
		if must(t, err); !bytes.Equal(p, one) {
			t.Error("its middle is not what it was")
		}
	})
}

func sameTree(t *testing.T, when, dir string, want map[string]string) {
	t.Helper()
	for name, now := range describe(t, dir) {
		if want[name] != now {
			t.Errorf("%s: %s: %s, want %s", when, name, now, want[name])
		}
		delete(want, name)
	}
	for name := range want {
		t.Errorf("%s: %s is not there", when, name)
	}
}

// A block of a large file that has changed costs a clone in the freeze, and
// nothing before it. Both generations can be put back, in any order.
func TestReflinkOfAChange(t *testing.T) {
	onReflinks(t, func(t *testing.T, dir, _ string) {
		path := dir + "/large"
		text := noise(1, 48<<20)
		write(t, path, string(text), 0o640)
		f := writer(t, path, 0)
		s := newPages()
		o := Options{Open: []Open{{Path: path, File: f, Writable: true}}}
		c, _ := frozen(t, o, s)
		x1 := finished(t, c)
		s1 := newPages()
		for off, p := range s.m {
			s1.m[off] = p
		}
		old := bytes.Clone(text)
		copy(text[20<<20:], noise(2, pageSize))
		_, err := f.WriteAt(text[20<<20:][:pageSize], 20<<20)
		must(t, err)

		o.Last, s.puts = x1, 0
		ready, err := Prepare(o, func() ([]Open, error) { return o.Open, nil }, s)
		must(t, err)
		if ready != nil || s.puts != 0 {
			t.Errorf("%d pages were copied before the freeze", s.puts)
		}
		c, n := frozen(t, o, s)
		if len(c.clones) != 1 || s.puts != 0 || n > noFiles {
			t.Errorf("%d clones, %d pages and %d bytes were read in the freeze", len(c.clones), s.puts, n)
		}
		_, err = f.WriteAt(noise(3, 1<<20), 19<<20+1<<19)
		must(t, err)
		x2 := finished(t, c)
		for _, g := range []struct {
			x    *Index
			s    *pages
			want []byte
		}{{x2, s, text}, {x1, s1, old}, {x2, s, text}} {
			must(t, putBack(g.x, g.s, nil))
			if p, err := os.ReadFile(path); err != nil || !bytes.Equal(p, g.want) {
				t.Errorf("it is not what it was: %v", err)
			}
		}

		time.Sleep(2 * settled)
		c, _ = frozen(t, Options{Open: o.Open, Last: x2}, s)
		o.Last, s.puts = finished(t, c), 0
		if c, n = frozen(t, o, s); len(c.clones) != 0 || n > noFiles {
			t.Errorf("%d clones, %d bytes were read of what has not changed", len(c.clones), n)
		}
	})
}

// Holes are not read, not stored, and are holes again.
func TestReflinkOfHoles(t *testing.T) {
	onReflinks(t, func(t *testing.T, dir, _ string) {
		path := dir + "/sparse"
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		must(t, err)
		defer f.Close()
		const size = 8 << 30 // more than the file system has
		text := string(noise(1, 1<<20))
		must(t, f.Truncate(size))
		for _, at := range []int64{0, 1 << 30, size - 1<<20} {
			_, err := f.WriteAt([]byte(text), at)
			must(t, err)
		}
		must(t, unix.Fallocate(int(f.Fd()), 0, 2<<30, 8<<20)) // promised, and nothing written
		s := newPages()
		c, n := frozen(t, Options{Open: []Open{{Path: path, File: f, Writable: true}}}, s)
		if len(c.clones) != 1 || n > noFiles {
			t.Errorf("%d clones, %d bytes were read in the freeze", len(c.clones), n)
		}
		x := finished(t, c)
		if s.puts != 3*mib {
			t.Errorf("%d pages are stored of %d", s.puts, 3*mib)
		}
		for _, new := range []bool{false, true} {
			must(t, os.Truncate(path, 1<<20))
			if new {
				must(t, os.Remove(path))
			}
			must(t, putBack(x, s, nil))
			var st unix.Stat_t
			must(t, unix.Stat(path, &st))
			if st.Size != size || st.Blocks*512 > 4<<20 {
				t.Errorf("%d bytes in %d blocks", st.Size, st.Blocks)
			}
			g, err := os.Open(path)
			must(t, err)
			defer g.Close()
			p := make([]byte, 1<<20)
			for _, at := range []int64{0, 1 << 30, size - 1<<20} {
				if _, err := g.ReadAt(p, at); err != nil || string(p) != text {
					t.Errorf("what lies at %#x is not what it was: %v", at, err)
				}
			}
		}
	})
}

// fill writes until there is room for spare bytes.
func fill(t *testing.T, path string, spare int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600)
	must(t, err)
	defer f.Close()
	for p := noise(9, 1<<20); len(p) >= pageSize; {
		if _, err = f.Write(p); err != nil {
			p = p[:len(p)/2]
		}
	}
	if !strings.Contains(err.Error(), unix.ENOSPC.Error()) {
		t.Fatal(err)
	}
	st, err := f.Stat()
	must(t, err, f.Truncate(st.Size()-spare), f.Sync())
}

// On a file system that is nearly full a large file is not cloned: as long as a clone shares a
// file's blocks, to write to them takes new ones, and the program would be told
// that there is no room where it has its blocks already. It is read instead.
func TestReflinkWithoutRoom(t *testing.T) {
	onReflinks(t, func(t *testing.T, dir, kind string) {
		path := dir + "/large"
		text := noise(1, 16<<20)
		write(t, path, string(text), 0o640)
		f := writer(t, path, 0)
		must(t, f.Sync())
		fill(t, dir+"/filler", 2<<20)
		s := newPages()
		o := Options{Open: []Open{{Path: path, File: f, Writable: true}}}
		ready, err := Prepare(o, func() ([]Open, error) { return o.Open, nil }, newPages())
		if must(t, err); ready == nil {
			t.Error("it was not copied before the freeze")
		}
		c, _ := frozen(t, o, s)
		if len(c.clones) != 0 {
			t.Errorf("%d clones", len(c.clones))
		}
		_, werr := f.WriteAt(noise(2, 4<<20), 4<<20)
		if werr == nil {
			werr = f.Sync()
		}
		if kind != "btrfs" && werr != nil { // that one takes new blocks for whatever is written
			t.Errorf("what it had room for cannot be written while the generation is made: %v", werr)
		}
		if x := finished(t, c); contentsOf(t, x, s, path) != string(text) {
			t.Error("its contents are not what they were")
		}
		if list, err := filepath.Glob(dir + "/*"); err != nil || len(list) != 2 {
			t.Errorf("%q is there: %v", list, err)
		}
	})
}
