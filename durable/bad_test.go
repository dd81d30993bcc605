package durable

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/wakepoint/wakepoint/internal/disk"
	"github.com/wakepoint/wakepoint/internal/disk/crashfs"
	"github.com/wakepoint/wakepoint/internal/redo"
)

// contents is what files there are below a directory, and what they hold.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	must(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			out[path] = "directory"
			return err
		}
		b, err := os.ReadFile(path)
		out[path] = string(b)
		return err
	}))
	return out
}

// TestForeign: nothing is made or changed where something else is.
func TestForeign(t *testing.T) {
	for name, make := range map[string]func(dir string) error{
		"files":       func(dir string) error { return os.WriteFile(filepath.Join(dir, "other"), nil, 0o600) },
		"directories": func(dir string) error { return os.Mkdir(filepath.Join(dir, "other"), 0o700) },
		"identity": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, identityName), []byte("hello\n"), 0o600)
		},
		"long": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, identityName), []byte(strings.Repeat("hello\n", 1000)), 0o600)
		},
		"directory":   func(dir string) error { return os.Mkdir(filepath.Join(dir, identityName), 0o700) },
		"nothing":     func(dir string) error { return os.WriteFile(filepath.Join(dir, identityName), nil, 0o600) },
		"generations": func(dir string) error { return os.WriteFile(generationName(dir, 1), []byte("hello"), 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			must(t, make(dir))
			before := contents(t, dir)
			if _, _, err := Open(ctx, Options{Dir: dir}); !errors.Is(err, ErrForeign) {
				t.Errorf("Open: %v", err)
			}
			if _, err := Inspect(ctx, Options{Dir: dir}); !errors.Is(err, ErrForeign) {
				t.Errorf("Inspect: %v", err)
			}
			if !maps.Equal(before, contents(t, dir)) {
				t.Error("it was changed")
			}
		})
	}
	file := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(file, nil, 0o600))
	for _, dir := range []string{file, filepath.Join(file, "state"), ""} {
		if db, _, err := Open(ctx, Options{Dir: dir}); err == nil {
			t.Errorf("%q was opened", dir)
			db.Close()
		}
	}
	missing := filepath.Join(t.TempDir(), "missing")
	if _, err := Inspect(ctx, Options{Dir: missing}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Inspect of what is missing: %v", err)
	}
	if _, err := os.Stat(missing); err == nil {
		t.Error("Inspect has made a directory")
	}
}

// TestNewer: what a newer version has written is refused, wherever that shows,
// and not changed: that version opens it.
func TestNewer(t *testing.T) {
	for name, change := range map[string]func(t *testing.T, dir string, id identity){
		"identity": func(t *testing.T, dir string, id identity) {
			line := fmt.Sprintf("%s%d %x ", identityWords, formatVersion+1, id[:])
			line += fmt.Sprintf("%08x\n", crc32.Checksum([]byte(line), castagnoli))
			must(t, os.WriteFile(filepath.Join(dir, identityName), []byte(line+line), 0o600))
		},
		"identity of another form": func(t *testing.T, dir string, _ identity) {
			must(t, os.WriteFile(filepath.Join(dir, identityName), []byte("wakepoint durable 3: something else\n"), 0o600))
		},
		"generation": func(t *testing.T, dir string, id identity) {
			edit(t, generationFiles(t, dir)[0], func(b []byte) {
				for _, h := range [][]byte{b[:generationHeader], b[headerSecond : headerSecond+generationHeader]} {
					binary.LittleEndian.PutUint32(h[8:], generationVersion+1)
					binary.LittleEndian.PutUint32(h[12:], id.sum(h[:12], h[16:]))
				}
			})
		},
		"log segment": func(t *testing.T, dir string, _ identity) {
			names, err := filepath.Glob(filepath.Join(dir, "*.redo"))
			must(t, err)
			changed := 0
			for _, name := range names {
				edit(t, name, func(b []byte) {
					for _, h := range [][]byte{b[:56], b[2048 : 2048+56]} {
						if string(h[:8]) != "WKPTREDO" {
							continue // not in use
						}
						changed++
						h[8]++
						binary.LittleEndian.PutUint32(h[12:], crc32.Update(crc32.Checksum(h[:12], castagnoli), castagnoli, h[16:]))
					}
				})
			}
			if changed == 0 {
				t.Fatal("no segment is in use")
			}
		},
		"record": func(t *testing.T, dir string, _ identity) {
			log, err := redo.Open(redo.Options{Dir: dir, Room: 1 << 18}, 0, func(redo.Position, []byte) error { return nil })
			must(t, err)
			end, err := log.Append(ctx, []byte("\x02whatever"))
			must(t, err)
			must(t, log.Wait(ctx, end))
			must(t, log.Close())
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir, want := t.TempDir(), model{}
			db, _, table := small(t, dir)
			fill(t, db, table, 0, 10, 0, want)
			must(t, db.Checkpoint(ctx))
			fill(t, db, table, 5, 15, 1, want)
			id := db.owner.id
			must(t, db.Close())
			change(t, dir, id)
			before := contents(t, dir)
			if _, _, err := Open(ctx, Options{Dir: dir}, NewTable[string, string]("t")); !errors.Is(err, ErrNewer) {
				t.Errorf("Open: %v", err)
			}
			if _, err := Inspect(ctx, Options{Dir: dir}); !errors.Is(err, ErrNewer) {
				t.Errorf("Inspect: %v", err)
			}
			if !maps.Equal(before, contents(t, dir)) {
				t.Error("it was changed")
			}
		})
	}
}

// edit changes a file.
func edit(t *testing.T, name string, f func(b []byte)) {
	t.Helper()
	b, err := os.ReadFile(name)
	must(t, err)
	f(b)
	must(t, os.WriteFile(name, b, 0o600))
}

// TestInUse: a directory has one user, in this process and in all others, and
// is free again when that ends, however it does.
func TestInUse(t *testing.T) {
	dir := t.TempDir()
	db, _, table := small(t, dir)
	for _, d := range []string{dir, dir + "/", dir + "/../" + filepath.Base(dir)} {
		if _, _, err := Open(ctx, Options{Dir: d}, table); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), "is open, in this process or in another one") {
			t.Errorf("%s: %v", d, err)
		}
	}
	must(t, db.Close())

	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), "WAKEPOINT_TEST_DURABLE_DIR="+dir) // see TestMain
	out, err := child.StdoutPipe()
	must(t, err)
	must(t, child.Start())
	if _, err := out.Read(make([]byte, 1)); err != nil { // it serves
		t.Fatal(err)
	}
	if _, _, err := Open(ctx, Options{Dir: dir}); !errors.Is(err, ErrInUse) {
		t.Errorf("while another process has it: %v", err)
	}
	must(t, child.Process.Kill())
	_ = child.Wait()
	db, r, err := Open(ctx, Options{Dir: dir})
	must(t, err)
	if len(r.Dropped) != 5 { // the child's four, and ours
		t.Errorf("tables that were not given: %v", r.Dropped)
	}
	must(t, db.Close())
}

// readOnly is a file system that is mounted read-only.
type readOnly struct{ FS }

func (readOnly) Create(string) (File, error) { return nil, syscall.EROFS }
func (readOnly) Append(string) (File, error) { return nil, syscall.EROFS }
func (readOnly) Modify(string) (File, error) { return nil, syscall.EROFS }
func (readOnly) Rename(string, string) error { return syscall.EROFS }
func (readOnly) Remove(string) error         { return syscall.EROFS }
func (readOnly) Mkdir(string) error          { return syscall.EROFS }

// TestReadOnly: where nothing can be written nothing is opened, the reason is
// said, and Inspect reads.
func TestReadOnly(t *testing.T) {
	dir, want := t.TempDir(), model{}
	db, _, table := small(t, dir)
	fill(t, db, table, 0, 10, 0, want)
	must(t, db.Close())
	o := Options{Dir: dir, FS: readOnly{disk.OS{}}}
	before := contents(t, dir)
	if _, _, err := Open(ctx, o, table); !errors.Is(err, syscall.EROFS) || errors.Is(err, ErrFull) {
		t.Errorf("Open: %v", err)
	}
	if _, _, err := Open(ctx, Options{Dir: t.TempDir(), FS: readOnly{disk.OS{}}}, table); !errors.Is(err, syscall.EROFS) {
		t.Errorf("a new one: %v", err)
	}
	r, err := Inspect(ctx, o)
	must(t, err)
	if len(r.Tables) != 1 || r.Tables[0].Entries != 10 || len(r.Damaged) != 0 {
		t.Errorf("Inspect: %+v", r)
	}
	if !maps.Equal(before, contents(t, dir)) {
		t.Error("it was changed")
	}
	db, _, table = small(t, dir)
	same(t, db, table, want)
}

// remoteFS says that it lies on another machine.
type remoteFS struct {
	FS
	kind string
}

func (r remoteFS) Remote(string) (string, error) { return r.kind, nil }

// volatileFS says that it lies in memory.
type volatileFS struct{ FS }

func (volatileFS) Volatile(string) (bool, error) { return true, nil }

// TestWarns: who opens a database where the promises are not the kernel's is
// told, and can use it.
func TestWarns(t *testing.T) {
	for name, c := range map[string]struct {
		fs   FS
		want string
	}{
		"remote":  {remoteFS{crashfs.New(), "NFS"}, "level=WARN msg=\"the directory lies on a file system of another machine or program"},
		"local":   {remoteFS{crashfs.New(), ""}, ""},
		"unknown": {crashfs.New(), ""},
		"memory":  {volatileFS{crashfs.New()}, "level=WARN msg=\"the directory lies in memory"},
	} {
		t.Run(name, func(t *testing.T) {
			var said bytes.Buffer
			db, _, err := Open(ctx, Options{Dir: "/db", FS: c.fs, Logger: slog.New(slog.NewTextHandler(&said, nil))})
			must(t, err)
			must(t, db.Close())
			if got := said.String(); !strings.Contains(got, c.want) || c.want == "" && got != "" {
				t.Errorf("the log has %q", got)
			}
		})
	}
}

// TestTables: a table is opened with the type that it was made with, once, and by
// a name.
func TestTables(t *testing.T) {
	dir, want := t.TempDir(), model{}
	db, _, table := small(t, dir)
	fill(t, db, table, 0, 10, 0, want)
	must(t, db.Close())
	db, _, err := Open(ctx, Options{Dir: dir, segment: 1 << 18}, NewTable[string, int]("n"))
	must(t, err)
	must(t, db.Close())
	for name, c := range map[string]struct {
		tables []AnyTable
		want   error // nil: any
	}{
		"other keys":    {[]AnyTable{NewTable[int, string]("t")}, ErrType},
		"other values":  {[]AnyTable{NewTable[string, int]("t")}, ErrType},
		"a number":      {[]AnyTable{NewTable[string, struct{ N int }]("n")}, ErrType},
		"as a list":     {[]AnyTable{NewTable[string, []int]("n")}, ErrType},
		"not whole":     {[]AnyTable{NewTable[string, float64]("n")}, ErrType},
		"as text":       {[]AnyTable{NewTable[string, string]("n")}, ErrType},
		"a time":        {[]AnyTable{NewTable[string, time.Time]("n")}, ErrType},
		"twice":         {[]AnyTable{table, table}, nil},
		"two of a name": {[]AnyTable{NewTable[string, string]("u"), NewTable[string, string]("u")}, nil},
		"no name":       {[]AnyTable{NewTable[string, string]("")}, nil},
		"a long name":   {[]AnyTable{NewTable[string, string](strings.Repeat("n", KeyMax+1))}, nil},
		"no codec":      {[]AnyTable{NewTable[struct{ A int }, string]("u")}, nil},
		"nil":           {[]AnyTable{nil}, nil},
		"no table":      {[]AnyTable{(*Table[string, string])(nil)}, nil},
		"no job":        {[]AnyTable{(*Job[string])(nil)}, nil},
		"nil keys":      {[]AnyTable{NewTable("u", WithKeys[string, string](nil))}, nil},
		"nil values":    {[]AnyTable{NewTable("u", WithValues[string, string](nil))}, nil},
		"one of two":    {[]AnyTable{NewTable[string, string]("new"), NewTable[string, int]("t")}, ErrType},
	} {
		t.Run(name, func(t *testing.T) {
			db, _, err := Open(ctx, Options{Dir: dir, segment: 1 << 18}, c.tables...)
			if err == nil {
				db.Close()
			}
			if err == nil || c.want != nil && !errors.Is(err, c.want) || !strings.HasPrefix(err.Error(), "durable: ") {
				t.Errorf("%v", err)
			}
		})
	}
	r, err := Inspect(ctx, Options{Dir: dir})
	must(t, err)
	if len(r.Tables) != 2 {
		t.Errorf("tables: %+v", r.Tables)
	}
	db, _, table = small(t, dir)
	same(t, db, table, want)
	other := NewTable[string, string]("t") // the same, but not given to Open
	for _, call := range []func(func(*Tx) error) error{
		func(f func(*Tx) error) error { return db.Update(ctx, f) },
		func(f func(*Tx) error) error { return db.View(ctx, f) },
	} {
		err := call(func(tx *Tx) error {
			other.Get(tx, "key")
			t.Error("the closure goes on")
			return nil
		})
		if err == nil || !strings.Contains(err.Error(), "not given to Open") {
			t.Errorf("a table that was not given: %v", err)
		}
	}
}

// TestClock: which generation is the newest does not depend on the clock, which
// may jump by years in both directions.
func TestClock(t *testing.T) {
	dir, want := t.TempDir(), model{}
	var now time.Time
	open := func() (*DB, *Recovery, *Table[string, string]) {
		table := NewTable[string, string]("t")
		db, r, err := Open(ctx, Options{Dir: dir, Clock: func() time.Time { return now }, segment: 1 << 18}, table)
		must(t, err)
		return db, r, table
	}
	years := []int{2026, 1970, 2200, 1901, 1, 1600, 3000, 2026, 1970}
	for round, year := range years {
		now = time.Date(year, 1, 2, 3, 4, 5, 6, time.UTC)
		db, r, table := open()
		same(t, db, table, want)
		if round > 0 && (int(r.Generation) != round || r.Made.UTC().Year() != min(max(years[round-1], 1677), 2262)) {
			t.Errorf("round %d: %+v", round, r)
		}
		fill(t, db, table, round, round+10, round, want)
		must(t, db.Checkpoint(ctx))
		if g := db.Generations()[0]; int(g.Number) != round+1 || !g.Time.Equal(kept(now)) || year > 1700 && year < 2262 && !g.Time.Equal(now) {
			t.Errorf("round %d: %+v", round, g)
		}
		fill(t, db, table, round+5, round+15, -round, want)
		must(t, db.Verify(ctx))
		must(t, db.Close())
	}
	db, _, table := open()
	defer db.Close()
	same(t, db, table, want)
}
