package engine

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// writesFiles is a program that may write to files in every way.
const writesFiles = `
import mmap, os, time
def put(name, flags):
    return os.open(name, os.O_RDWR | os.O_CREAT | flags)
for name in "written", "shared", "private", "both", "append":
    os.write(put(name, 0), b"x" * 4096)
def over(name, flags, prot):
    fd = put(name, 0)
    m = mmap.mmap(fd, 4096, flags, prot)
    os.close(fd)
    return m
shared = over("shared", mmap.MAP_SHARED, mmap.PROT_READ) # mprotect(2) makes it writable
private = over("private", mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)
os.closerange(3, 100) # mmap keeps descriptors of its own
kept = [put("written", 0), put("append", os.O_APPEND), put("both", os.O_APPEND), put("both", 0)]
os.close(put("ready", 0))
time.sleep(1000)
`

// TestOpenFiles says of each file how the tree may write to it: whether the
// times of the file tell of it depends on that.
func TestOpenFiles(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("skip: needs python3: a program that maps files")
	}
	if os.Geteuid() != 0 {
		t.Skip("skip: needs root: process trees are started in namespaces of their own")
	}
	dir := t.TempDir()
	ctx := context.Background()
	record, err := os.Create(filepath.Join(t.TempDir(), "record"))
	if err != nil {
		t.Fatal(err)
	}
	defer record.Close()
	tree, err := Start(ctx, StartOptions{Argv: []string{python, "-c", writesFiles}, Env: os.Environ(), Dir: dir, Record: record})
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	defer tree.Kill(ctx)
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(dir + "/ready"); err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the program does not start")
		}
	}
	f, err := tree.Freeze(ctx)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]OpenFile{}
	for _, o := range f.Files() {
		o.File = nil
		name := filepath.Base(o.Path)
		o.Path = ""
		got[name] = o
	}
	if err := f.Thaw(); err != nil {
		t.Fatal(err)
	}
	tree.Abandoned()
	for name, want := range map[string]OpenFile{
		"written": {Writable: true},
		"append":  {Writable: true, Append: true},
		"both":    {Writable: true},
		"shared":  {Writable: true, Append: true, Mapped: true},
		"private": {},
	} {
		if got[name] != want {
			t.Errorf("%s: %+v, want %+v", name, got[name], want)
		}
	}
}
