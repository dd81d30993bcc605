package disk

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// traced returns a file system that writes down what happens below dir.
func traced(dir string) (FS, *[]string) {
	var trace []string
	return Watch(OS{}, func(op Op) Verdict {
		trace = append(trace, strings.ReplaceAll(strings.ReplaceAll(op.String(), dir+"/", ""), dir, "."))
		return Do
	}), &trace
}

func TestWriteFileTrace(t *testing.T) {
	dir := t.TempDir()
	d, trace := traced(dir)
	must(t, WriteFile(d, filepath.Join(dir, "a"), []byte("one")))
	want := []string{"create .tmp-a", "write .tmp-a", "sync .tmp-a", "rename .tmp-a a", "syncdir ."}
	if diff := cmp.Diff(want, *trace); diff != "" {
		t.Error(diff)
	}
}

func TestMkdirAllTrace(t *testing.T) {
	dir := t.TempDir()
	d, trace := traced(dir)
	must(t, MkdirAll(d, filepath.Join(dir, "a", "b")))
	must(t, MkdirAll(d, filepath.Join(dir, "a", "b")))
	want := []string{"mkdir a", "syncdir .", "mkdir a/b", "syncdir a"}
	if diff := cmp.Diff(want, *trace); diff != "" {
		t.Error(diff)
	}
}

// TestWriteFileFaults makes each operation fail both ways: the file has its
// old contents or its new ones, and the next write works.
func TestWriteFileFaults(t *testing.T) {
	for _, v := range []Verdict{Fail, Lie} {
		for at := 1; at <= 5; at++ {
			name := filepath.Join(t.TempDir(), "a")
			must(t, WriteFile(OS{}, name, []byte("old")))
			n := 0
			d := Watch(OS{}, func(Op) Verdict {
				if n++; n == at {
					return v
				}
				return Do
			})
			if err := WriteFile(d, name, []byte("new")); !errors.Is(err, ErrInjected) {
				t.Errorf("%d/%d: %v", v, at, err)
			}
			text, err := os.ReadFile(name)
			if err != nil || string(text) != "old" && string(text) != "new" {
				t.Errorf("%d/%d: %q, %v", v, at, text, err)
			}
			must(t, WriteFile(d, name, []byte("newer")))
		}
	}
}

func TestModes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	must(t, MkdirAll(OS{}, dir))
	must(t, WriteFile(OS{}, filepath.Join(dir, "f"), nil))
	for name, want := range map[string]fs.FileMode{dir: 0o700, filepath.Join(dir, "f"): 0o600} {
		fi, err := os.Stat(name)
		must(t, err)
		if fi.Mode().Perm() != want {
			t.Errorf("%s: mode %o, want %o", name, fi.Mode().Perm(), want)
		}
	}
	must(t, OS{}.Private(dir))
	must(t, os.Chmod(dir, 0o710))
	if err := (OS{}).Private(dir); !errors.Is(err, ErrNotPrivate) {
		t.Errorf("mode 0710: %v", err)
	}
}

func TestLock(t *testing.T) {
	name := filepath.Join(t.TempDir(), "f")
	if _, err := (OS{}).Lock(name, Shared); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
	must(t, WriteFile(OS{}, name, nil))
	a, err := OS{}.Lock(name, Shared)
	must(t, err)
	b, err := OS{}.Lock(name, Shared)
	must(t, err)
	if _, err := (OS{}).Lock(name, Exclusive); !errors.Is(err, ErrLocked) {
		t.Errorf("exclusive beside shared: %v", err)
	}
	must(t, a.Close())
	must(t, b.Close())
	a, err = OS{}.Lock(name, Exclusive)
	must(t, err)
	if _, err := (OS{}).Lock(name, Shared); !errors.Is(err, ErrLocked) {
		t.Errorf("shared beside exclusive: %v", err)
	}
	// A file that took the name meanwhile is the one that is locked.
	locked := make(chan error, 1)
	go func() {
		l, err := OS{}.Lock(name, ExclusiveWait)
		if err == nil {
			var fi, now fs.FileInfo
			fi, err = l.(*os.File).Stat()
			if err == nil {
				now, err = os.Stat(name)
			}
			if err == nil && !os.SameFile(fi, now) {
				err = errors.New("locked a file that has not the name")
			}
			l.Close()
		}
		locked <- err
	}()
	time.Sleep(10 * time.Millisecond)
	must(t, WriteFile(OS{}, name, nil))
	must(t, a.Close())
	must(t, <-locked)
}

func TestRemoveAll(t *testing.T) {
	top := t.TempDir()
	outside := filepath.Join(top, "outside")
	must(t, WriteFile(OS{}, outside, nil))
	dir := filepath.Join(top, "d")
	must(t, MkdirAll(OS{}, filepath.Join(dir, "a", "b")))
	must(t, WriteFile(OS{}, filepath.Join(dir, "a", "f"), nil))
	must(t, os.Symlink(outside, filepath.Join(dir, "link")))
	must(t, os.Symlink(top, filepath.Join(dir, "dirlink")))
	must(t, RemoveAll(OS{}, dir))
	must(t, RemoveAll(OS{}, dir))
	if _, err := os.Stat(outside); err != nil {
		t.Errorf("a link was followed: %v", err)
	}
}

func TestReadFileLimit(t *testing.T) {
	name := filepath.Join(t.TempDir(), "f")
	must(t, WriteFile(OS{}, name, []byte("12345")))
	if b, err := ReadFile(OS{}, name, 5); err != nil || string(b) != "12345" {
		t.Errorf("%q, %v", b, err)
	}
	if _, err := ReadFile(OS{}, name, 4); err == nil {
		t.Error("a file over the limit was read")
	}
}

// TestRemoteKind: what is up to another machine or program is told apart from
// the file systems of the kernel (the magics are those of statfs(2)).
func TestRemoteKind(t *testing.T) {
	for magic, want := range map[uint32]string{
		0x6969: "NFS", 0x517b: "SMB", 0xff534d42: "SMB", 0xfe534d42: "SMB", 0x01021997: "9P", 0x65735546: "FUSE",
		0xef53: "", 0x58465342: "", 0x9123683e: "", 0x794c7630: "", magicTmpfs: "", 0: "",
	} {
		if got := remoteKind(magic); got != want {
			t.Errorf("%#x is %q, not %q", magic, got, want)
		}
	}
	if _, err := (OS{}).Remote(filepath.Join(t.TempDir(), "missing")); runtime.GOOS == "linux" && !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a directory that is missing: %v", err)
	}
}
