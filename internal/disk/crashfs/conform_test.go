package crashfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"pgregory.net/rapid"

	"github.com/wakepoint/wakepoint/internal/disk"
)

// TestConform does the same random calls on the operating system's file system
// and on this one, which must answer alike as long as no power is cut, and
// hold the same at the end: also after a cut, when all was synced.
func TestConform(t *testing.T) {
	top := t.TempDir()
	run := 0
	rapid.Check(t, func(t *rapid.T) {
		run++
		dir := filepath.Join(top, fmt.Sprint(run))
		defer os.RemoveAll(dir)
		here := New()
		for _, d := range []disk.FS{disk.OS{}, here} {
			if err := disk.MkdirAll(d, dir); err != nil {
				t.Fatal(err)
			}
		}
		p := &pair{os: disk.OS{}, fs: here, dir: dir}
		defer p.close()
		for range rapid.IntRange(1, 40).Draw(t, "calls") {
			a, b, what := p.call(t)
			if a != b {
				t.Fatalf("%s: %q, the system says %q", what, b, a)
			}
		}
		if a, b := list(p.os, dir), list(p.fs, dir); a != b {
			t.Fatalf("%s\nthe system has\n%s", b, a)
		}
		syncAll(t, here, "/")
		if a, b := list(p.os, dir), list(here.Crash(LoseAll), dir); a != b {
			t.Fatalf("after a cut, all synced: %s\nthe system has\n%s", b, a)
		}
	})
}

// pair is two file systems, and the files that are open on both.
type pair struct {
	os, fs disk.FS
	dir    string
	files  [][2]disk.File
	locks  [][2]io.Closer
}

func (p *pair) close() {
	for _, f := range p.files {
		f[0].Close()
		f[1].Close()
	}
	for _, l := range p.locks {
		l[0].Close()
		l[1].Close()
	}
}

var names = []string{"a", "b", "d", "d/a", "d/b", "d/e", "d/e/a", "a/x"}

// call does one call on both and returns what they answer.
func (p *pair) call(t *rapid.T) (a, b, what string) {
	name := filepath.Join(p.dir, rapid.SampledFrom(names).Draw(t, "name"))
	verb := rapid.SampledFrom([]string{
		"create", "create", "append", "modify", "open", "mkdir", "mkdir", "rename", "rename", "remove", "readdir", "lstat", "private",
		"lock", "unlock", "write", "write", "writeat", "truncate", "read", "readat", "sync", "datasync", "close", "stat",
	}).Draw(t, "verb")
	what = verb + " " + name
	both := func(f func(d disk.FS) string) (string, string, string) { return f(p.os), f(p.fs), what }
	switch verb {
	case "create", "append", "modify", "open":
		var got [2]disk.File
		for i, d := range []disk.FS{p.os, p.fs} {
			f, err := map[string]func(string) (disk.File, error){"create": d.Create, "append": d.Append, "modify": d.Modify, "open": d.Open}[verb](name)
			got[i], a, b = f, b, class(err)
		}
		if got[0] != nil && got[1] != nil {
			p.files = append(p.files, got)
		}
		return a, b, what
	case "lock":
		return p.lock(t, name, what)
	case "unlock":
		if len(p.locks) > 0 {
			l := p.locks[len(p.locks)-1]
			p.locks = p.locks[:len(p.locks)-1]
			return class(l[0].Close()), class(l[1].Close()), what
		}
	case "mkdir":
		return both(func(d disk.FS) string { return class(d.Mkdir(name)) })
	case "rename":
		to := filepath.Join(p.dir, rapid.SampledFrom(names).Draw(t, "to"))
		what += " " + to
		return both(func(d disk.FS) string { return class(d.Rename(name, to)) })
	case "remove":
		return both(func(d disk.FS) string { return class(d.Remove(name)) })
	case "private":
		return both(func(d disk.FS) string { return class(d.Private(name)) })
	case "readdir":
		return both(func(d disk.FS) string {
			entries, err := d.ReadDir(name)
			return fmt.Sprint(entries, class(err))
		})
	case "lstat":
		return both(func(d disk.FS) string { return stat(d.Lstat(name)) })
	default:
		if len(p.files) > 0 {
			f := p.files[rapid.IntRange(0, len(p.files)-1).Draw(t, "file")]
			a, b = onFile(t, verb, f)
			return a, b, verb + " " + f[0].Name()
		}
	}
	return "", "", what
}

func (p *pair) lock(t *rapid.T, name, what string) (string, string, string) {
	mode := rapid.SampledFrom([]disk.LockMode{disk.Shared, disk.Exclusive}).Draw(t, "mode")
	a, aerr := p.os.Lock(name, mode)
	b, berr := p.fs.Lock(name, mode)
	if aerr == nil && berr == nil {
		p.locks = append(p.locks, [2]io.Closer{a, b})
	}
	return class(aerr), class(berr), fmt.Sprint(what, mode)
}

// onFile does one call on a file that both have open.
func onFile(t *rapid.T, verb string, f [2]disk.File) (a, b string) {
	n := rapid.IntRange(1, 1500).Draw(t, "n")
	off := int64(rapid.IntRange(0, 1500).Draw(t, "off"))
	if rapid.IntRange(0, 4).Draw(t, "far") == 0 {
		off += 2*pieceSize - 700 // across pieces
	}
	fill := rapid.Byte().Draw(t, "fill")
	do := func(f disk.File) string {
		p := []byte(strings.Repeat(string(rune(fill%26+'a')), n))
		var err error
		switch verb {
		case "write":
			n, err := f.Write(p)
			return fmt.Sprint(n, class(err))
		case "writeat":
			n, err := f.WriteAt(p, off)
			return fmt.Sprint(n, class(err))
		case "read":
			n, err := f.Read(p)
			return fmt.Sprint(n, string(p), class(err))
		case "readat":
			n, err := f.ReadAt(p, off)
			return fmt.Sprint(n, string(p), class(err))
		case "stat":
			return stat(f.Stat())
		case "truncate":
			err = f.Truncate(off)
		case "sync":
			err = f.Sync()
		case "datasync":
			err = f.Datasync()
		case "close":
			err = f.Close()
		}
		return class(err)
	}
	return do(f[0]), do(f[1])
}

func stat(fi fs.FileInfo, err error) string {
	if err != nil {
		return class(err)
	}
	size := fi.Size()
	if fi.IsDir() {
		size = 0
	}
	return fmt.Sprint(fi.Name(), fi.Mode(), size)
}

// class is what a caller can learn from an error.
func class(err error) string {
	var errno syscall.Errno
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, io.EOF), errors.Is(err, fs.ErrClosed), errors.Is(err, disk.ErrLocked):
		return errors.Unwrap(fmt.Errorf("%w", root(err))).Error()
	case errors.As(err, &errno):
		return errno.Error()
	case strings.Contains(err.Error(), "WriteAt on file opened with O_APPEND"):
		return syscall.EINVAL.Error()
	}
	return err.Error()
}

func root(err error) error {
	for _, is := range []error{io.EOF, fs.ErrClosed, disk.ErrLocked} {
		if errors.Is(err, is) {
			return is
		}
	}
	return err
}

// list is everything below a directory.
func list(d disk.FS, dir string) string {
	entries, err := d.ReadDir(dir)
	if err != nil {
		return err.Error()
	}
	var s strings.Builder
	for _, e := range entries {
		name := filepath.Join(dir, e.Name())
		if e.IsDir() {
			fmt.Fprintf(&s, "%s/\n%s", name, list(d, name))
			continue
		}
		b, err := disk.ReadFile(d, name, 1<<20)
		fmt.Fprintf(&s, "%s %q %v\n", name, b, err)
	}
	return s.String()
}

// syncAll syncs every file and every directory.
func syncAll(t *rapid.T, d disk.FS, dir string) {
	if err := d.SyncDir(dir); err != nil {
		t.Fatal(err)
	}
	entries, err := d.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		name := filepath.Join(dir, e.Name())
		if e.IsDir() {
			syncAll(t, d, name)
			continue
		}
		f, err := d.Open(name)
		if err == nil {
			err = errors.Join(f.Sync(), f.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
