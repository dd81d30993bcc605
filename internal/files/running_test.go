package files

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestWritten looks at this very process.
func TestWrittenBy(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("skip: needs root: /proc/PID/map_files")
	}
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	open := func(name string, flags int) *os.File {
		f, err := os.OpenFile(dir+"/"+name, flags|os.O_CREATE, 0o600)
		if err == nil {
			err = f.Truncate(4096)
		}
		if err != nil && flags != os.O_RDONLY {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	over := func(name string, flags int) {
		f := open(name, os.O_RDWR)
		m, err := unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ, flags)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Munmap(m) })
		f.Close()
	}
	open("read", os.O_RDONLY)
	open("written", os.O_WRONLY)
	open("append", os.O_RDWR|os.O_APPEND)
	over("shared", unix.MAP_SHARED)
	over("private", unix.MAP_PRIVATE)

	list, err := WrittenBy(os.Getpid(), false)
	if err != nil {
		t.Fatal(err)
	}
	defer CloseAll(list)
	got := map[string]Open{}
	for _, o := range list {
		st, err := o.File.Stat()
		if err != nil || !st.Mode().IsRegular() {
			t.Errorf("%s: %v %v", o.Path, st, err)
		}
		if name, ok := strings.CutPrefix(o.Path, dir+"/"); ok {
			o.File, o.Path = nil, ""
			got[name] = o
		}
	}
	want := map[string]Open{
		"written": {Writable: true},
		"append":  {Writable: true, Append: true},
		"shared":  {Writable: true, Mapped: true},
	}
	for name := range want {
		if want[name] != got[name] {
			t.Errorf("%s: %+v, want %+v", name, got[name], want[name])
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("%s: %+v", name, got[name])
		}
	}
}
