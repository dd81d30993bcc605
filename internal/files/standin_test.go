package files

import (
	"bytes"
	"errors"
	"io"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wakepoint/wakepoint/internal/sys"
)

// usedOf is how much of a file system is in use, when all of it was written.
func usedOf(t *testing.T, dir string) int64 {
	t.Helper()
	d, err := os.Open(dir)
	must(t, err)
	defer d.Close()
	must(t, unix.Syncfs(int(d.Fd())))
	var st unix.Statfs_t
	must(t, unix.Fstatfs(int(d.Fd()), &st))
	return int64(st.Blocks-st.Bfree) * st.Frsize
}

// onClones runs a test where clones can be made that can be mounted.
func onClones(t *testing.T, f func(t *testing.T, dir, kind string)) {
	null, err := os.Open(os.DevNull)
	must(t, err)
	defer null.Close()
	held, err := sys.HoldInode(int(null.Fd()))
	if err != nil {
		t.Skip("skip: needs Landlock: ", err)
	}
	unix.Close(held)
	onReflinks(t, f)
}

// captured is a generation of files.
func captured(t *testing.T, o Options, s *pages) *Index {
	t.Helper()
	time.Sleep(2 * settled)
	c, _ := frozen(t, o, s)
	return finished(t, c)
}

// stood are the stand-ins of a generation's files.
func stood(t *testing.T, x *Index, s *pages, least int64) *StandIns {
	t.Helper()
	in, err := Stand(x, s, least)
	must(t, err)
	t.Cleanup(in.Close)
	return in
}

// A clone has the contents of the generation, takes what differs from the present
// file, and leaves nothing: neither on the file system, nor in the directory. It
// can be mounted, though it has no name.
func TestStandIn(t *testing.T) {
	onClones(t, func(t *testing.T, dir, _ string) {
		path := dir + "/large"
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o640)
		must(t, err)
		defer f.Close()
		const size = 192 << 20
		text := noise(1, 16<<20)
		must(t, f.Truncate(size), os.Chown(path, 7, 8))
		for _, at := range []int64{0, 128 << 20} {
			_, err := f.WriteAt(text, at)
			must(t, err)
		}
		s := newPages()
		x := captured(t, Options{Open: []Open{{Path: path, File: f, Writable: true}}}, s)
		want := x.Entries[len(x.Entries)-1]
		// Since then: a page is another, a hole is filled, data are punched, it has grown.
		_, e1 := f.WriteAt(noise(2, pageSize), 4<<20)
		_, e2 := f.WriteAt(noise(3, 1<<20), 64<<20)
		_, e3 := f.WriteAt(noise(4, 1<<20), size)
		must(t, e1, e2, e3, unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 128<<20, 1<<20))
		before, names := usedOf(t, dir), describe(t, dir)

		in := stood(t, x, s, 1<<20)
		c := in.Clones()[path]
		if c == nil {
			t.Fatal("it has no clone")
		}
		if n := usedOf(t, dir) - before; n > 3<<20 {
			t.Errorf("%d bytes were taken for a page and a MiB that differ", n)
		}
		var st unix.Stat_t
		must(t, unix.Fstat(int(c.Fd()), &st))
		if now := entryOf(path, &st); now.Size != want.Size || now.UID != 7 || now.GID != 8 || now.Mode != 0o640 || now.Mtime != want.Mtime {
			t.Errorf("it is %+v, not %+v", now, want)
		}
		if err := in.put.contains(c, &want); err != nil {
			t.Error(err)
		}
		target := t.TempDir() + "/target"
		must(t, os.WriteFile(target, nil, 0o600))
		tree, err := unix.OpenTree(int(c.Fd()), "", unix.AT_EMPTY_PATH|unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
		must(t, err)
		err = unix.MoveMount(tree, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH)
		unix.Close(tree)
		must(t, err)
		g, err := os.Open(target)
		must(t, err)
		p := make([]byte, len(text))
		if _, err := g.ReadAt(p, 0); err != nil || !bytes.Equal(p, text) {
			t.Errorf("it is not what is seen where it is mounted: %v", err)
		}
		must(t, g.Close(), unix.Unmount(target, 0))
		in.Close()
		sameTree(t, "afterwards", dir, names)
		if n := usedOf(t, dir) - before; n > 64<<10 {
			t.Errorf("%d bytes are left", n)
		}
	})
}

// refusing is a Reader of what cannot be had.
type refusing struct{}

func (refusing) Each(int64, int64, func(int64, []byte) error) error { return io.ErrUnexpectedEOF }

// What is damaged is an error, and what was begun for it goes.
func TestStandInOfDamage(t *testing.T) {
	onClones(t, func(t *testing.T, dir, _ string) {
		path := dir + "/large"
		write(t, path, string(noise(1, 1<<20)), 0o600)
		f := writer(t, path, 0)
		x := captured(t, Options{Open: []Open{{Path: path, File: f, Writable: true}}}, newPages())
		_, err := f.WriteAt([]byte("x"), 0)
		must(t, err)
		before := usedOf(t, dir)
		if _, err := Stand(x, refusing{}, 1); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Error(err)
		}
		if n := usedOf(t, dir) - before; n > 64<<10 {
			t.Errorf("%d bytes are left", n)
		}
	})
}

// What a clone may take ends before the last of a file system, and so does what
// is written to it.
func TestStandInWithoutRoom(t *testing.T) {
	onClones(t, func(t *testing.T, dir, _ string) {
		path := dir + "/large"
		write(t, path, string(noise(1, 16<<20)), 0o600)
		f := writer(t, path, 0)
		s := newPages()
		x := captured(t, Options{Open: []Open{{Path: path, File: f, Writable: true}}}, s)
		must(t, f.Sync())
		in := stood(t, x, s, 1)
		c := in.Clones()[path]
		if c == nil || in.Short() != nil {
			t.Fatalf("%v, %v", in.Clones(), in.Short())
		}
		for n := int64(16 << 20); in.Short() == nil; n += 1 << 20 {
			if _, err := c.WriteAt(noise(2, 1<<20), n); err != nil {
				t.Fatalf("after %d MiB: %v", n>>20, err)
			}
		}
		var st unix.Statfs_t
		must(t, c.Sync(), unix.Statfs(dir, &st))
		if st.Bavail < st.Blocks/spareShare*3/4 {
			t.Errorf("%d of %d blocks are left", st.Bavail, st.Blocks)
		}
		in.Close()

		must(t, unix.Statfs(dir, &st))
		fill(t, dir+"/filler", int64(st.Blocks/spareShare)*st.Frsize+8<<20)
		if in := stood(t, x, s, 1); len(in.Clones()) > 0 {
			t.Error("there is a clone for which there is no room")
		}
	})
}

// What has not changed and was not open for writing is shown as it is, on
// whatever file system, and it is noticed when it changes.
func TestStandInAsItIs(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"same", "other", "open", "linked", "small"} {
		n := 1 << 20
		if name == "small" {
			n = 1 << 10
		}
		write(t, dir+"/"+name, string(noise(1, n)), 0o600)
	}
	must(t, os.Link(dir+"/linked", dir+"/name"))
	f := writer(t, dir+"/open", 0)
	s := newPages()
	x := captured(t, Options{Trees: []string{dir}, Open: []Open{{Path: dir + "/open", File: f, Writable: true}}}, s)
	write(t, dir+"/other", string(noise(2, 1<<20)), 0o600)
	in := stood(t, x, s, 1<<30)
	for name, want := range map[string]bool{"same": true, "other": false, "open": false, "linked": false, "name": false, "small": false} {
		if _, got := in.by[dir+"/"+name]; got != want {
			t.Errorf("%s is shown as it is: %v", name, got)
		}
	}
	must(t, in.Disturbed(true))
	must(t, os.Remove(dir+"/same"), in.Disturbed(false))
	if in.Disturbed(true) == nil {
		t.Error("it is not noticed that it is gone")
	}
}
