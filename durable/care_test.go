package durable

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var ctx = context.Background()

// small opens a database of one table in a directory.
func small(t *testing.T, dir string) (*DB, *Recovery, *Table[string, string]) {
	t.Helper()
	table := NewTable[string, string]("t")
	db, r, err := Open(ctx, Options{Dir: dir, segment: 1 << 18}, table)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db, r, table
}

// fill puts keys from one number up to another, with values that tell of a round.
func fill(t *testing.T, db *DB, table *Table[string, string], from, to, round int, want model) {
	t.Helper()
	err := db.Update(ctx, func(tx *Tx) error {
		for i := from; i < to; i++ {
			k, v := fmt.Sprintf("key%05d", i), strings.Repeat(fmt.Sprintf("%d/%d ", i, round), 20)
			table.Put(tx, k, v)
			want[k] = v
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// same checks what a database holds.
func same(t *testing.T, db *DB, table *Table[string, string], want model) {
	t.Helper()
	must(t, db.View(ctx, func(tx *Tx) error {
		if got := all(t, tx, table); !maps.Equal(got, want) {
			t.Errorf("%d keys, not the %d that were put", len(got), len(want))
		}
		return nil
	}))
}

// generationFiles are the names of a directory's generations, the newest first.
func generationFiles(t *testing.T, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*"+generationSuffix))
	must(t, err)
	slices.Sort(names)
	slices.Reverse(names)
	return names
}

// TestManyGenerations: what is needed is kept, what is not goes away, and all
// that was ever put is there after each start.
func TestManyGenerations(t *testing.T) {
	dir, want := t.TempDir(), model{}
	db, _, table := small(t, dir)
	fill(t, db, table, 0, 3000, 0, want)
	for round := 1; round <= 3*runsMax; round++ {
		fill(t, db, table, round*7%2900, round*7%2900+5, round, want)
		must(t, db.Checkpoint(ctx))
		if got := len(db.Generations()); got != min(round, generationsLeast) {
			t.Fatalf("%d generations after %d checkpoints", got, round)
		}
		if round%20 == 0 {
			must(t, db.Close())
			db, _, table = small(t, dir)
			same(t, db, table, want)
		}
	}
	must(t, db.Verify(ctx))
	var live int64
	for _, name := range generationFiles(t, dir) {
		fi, err := os.Stat(name)
		must(t, err)
		live += fi.Size()
	}
	if most := 4 * db.Generations()[0].Bytes; live > most {
		t.Errorf("%d bytes of files for %d in use", live, db.Generations()[0].Bytes)
	}
}

// TestShrink: leaves that became empty are none any more, and what is put there
// later is found.
func TestShrink(t *testing.T) {
	dir, want := t.TempDir(), model{}
	db, _, table := small(t, dir)
	fill(t, db, table, 0, 5000, 0, want)
	must(t, db.Checkpoint(ctx))
	many := len(db.tree.leaves)
	must(t, db.Update(ctx, func(tx *Tx) error {
		for k := range table.Range(tx, "key00100", "key04900") {
			table.Delete(tx, k)
			delete(want, k)
		}
		return nil
	}))
	must(t, db.Checkpoint(ctx))
	must(t, db.Checkpoint(ctx))
	if n := len(db.tree.leaves); n > 3 || many < 5 {
		t.Errorf("%d leaves of %d are left", n, many)
	}
	same(t, db, table, want)
	fill(t, db, table, 2000, 2010, 1, want)
	must(t, db.Close())
	db, _, table = small(t, dir)
	same(t, db, table, want)
}

// TestDamagedGeneration: of a newest generation that cannot be read the one
// before and more of the log take the place; with damage in one leaf only that
// is made anew.
func TestDamagedGeneration(t *testing.T) {
	for name, damage := range map[string]func(b []byte){
		"header":    func(b []byte) { clear(b[:4096]) },
		"index":     func(b []byte) { clear(b[binary.LittleEndian.Uint64(b[40:]):]) },
		"extent":    func(b []byte) { b[generationPage+100] ^= 1 },
		"one copy":  func(b []byte) { clear(b[:100]) },
		"truncated": nil,
	} {
		t.Run(name, func(t *testing.T) {
			dir, want := t.TempDir(), model{}
			db, _, table := small(t, dir)
			fill(t, db, table, 0, 2000, 0, want)
			must(t, db.Checkpoint(ctx))
			fill(t, db, table, 100, 1900, 1, want)
			must(t, db.Checkpoint(ctx))
			fill(t, db, table, 500, 600, 2, want)
			must(t, db.Close())
			newest := generationFiles(t, dir)[0]
			b, err := os.ReadFile(newest)
			must(t, err)
			if damage == nil {
				b = b[:len(b)/2]
			} else {
				damage(b)
			}
			must(t, os.WriteFile(newest, b, 0o600))
			db, r, table := small(t, dir)
			if lost := name != "extent" && name != "one copy"; lost != (len(r.Damaged) == 1) || lost != (r.Generation == 1) {
				t.Errorf("%+v", r)
			}
			same(t, db, table, want)
			must(t, db.Checkpoint(ctx))
			same(t, db, table, want)
			must(t, db.Close())
			db, _, table = small(t, dir)
			same(t, db, table, want)
		})
	}
}

// TestDamagedRange: a range that no generation has any more is told of, and
// nothing else is lost.
func TestDamagedRange(t *testing.T) {
	dir, want := t.TempDir(), model{}
	db, _, table := small(t, dir)
	fill(t, db, table, 0, 3000, 0, want)
	for round := range 4 { // so that the log's beginning is gone
		must(t, db.Checkpoint(ctx))
		fill(t, db, table, 2990, 3000, round, want)
	}
	must(t, db.Close())
	first := slices.Clone(generationFiles(t, dir))
	oldest := first[len(first)-1]
	b, err := os.ReadFile(oldest)
	must(t, err)
	b[generationPage+200] ^= 1
	must(t, os.WriteFile(oldest, b, 0o600))
	r, err := Inspect(ctx, Options{Dir: dir})
	must(t, err)
	if len(r.Damaged) == 0 {
		t.Error("Inspect sees no damage")
	}
	db, _, table = small(t, dir)
	damage := (*DamageError)(nil)
	if err := db.View(ctx, func(tx *Tx) error {
		_, found := table.Get(tx, "key00000")
		t.Errorf("found: %v", found)
		return nil
	}); !errors.As(err, &damage) || damage.File != filepath.Base(oldest) {
		t.Errorf("a damaged range: %v", err)
	}
	must(t, db.View(ctx, func(tx *Tx) error {
		if v, found := table.Get(tx, "key02995"); !found || v != want["key02995"] {
			t.Errorf("%q, %v", v, found)
		}
		return nil
	}))
	if err := db.Verify(ctx); !errors.As(err, &damage) {
		t.Errorf("verify: %v", err)
	}
	for round := range runsMax + 8 {
		v := fmt.Sprint("new", round)
		must(t, db.Update(ctx, func(tx *Tx) error { table.Put(tx, "key00000", v); return nil }))
		must(t, db.Checkpoint(ctx))
		must(t, db.View(ctx, func(tx *Tx) error {
			if got, _ := table.Get(tx, "key00000"); got != v {
				t.Errorf("%q, not %q", got, v)
			}
			return nil
		}))
		must(t, db.Close())
		var r *Recovery
		if db, r, table = small(t, dir); len(r.Damaged) > 0 { // another process adds to what it cannot load
			t.Fatalf("round %d: %v", round, r.Damaged)
		}
	}
}

// TestNoLog: a directory whose log is gone is not taken for one that had nothing
// in it.
func TestNoLog(t *testing.T) {
	dir, want := t.TempDir(), model{}
	db, _, table := small(t, dir)
	fill(t, db, table, 0, 10, 0, want)
	must(t, db.Checkpoint(ctx))
	fill(t, db, table, 10, 20, 0, want)
	must(t, db.Close())
	names, err := filepath.Glob(filepath.Join(dir, "*.redo"))
	must(t, err)
	for _, name := range names {
		must(t, os.Remove(name))
	}
	damage := (*DamageError)(nil)
	if _, _, err := Open(ctx, Options{Dir: dir}, table); !errors.As(err, &damage) {
		t.Errorf("open: %v", err)
	}
}

// TestBackup: a backup is a directory that opens, whole or not at all.
func TestBackup(t *testing.T) {
	want := model{}
	db, _, table := small(t, t.TempDir())
	fill(t, db, table, 0, 1000, 0, want)
	must(t, db.Checkpoint(ctx))
	fill(t, db, table, 10, 20, 1, want)
	var b bytes.Buffer
	must(t, db.Backup(ctx, &b))
	then := maps.Clone(want)
	fill(t, db, table, 30, 40, 2, want)
	dir := t.TempDir()
	untar(t, b.Bytes(), dir)
	copied, _, t2 := small(t, dir)
	same(t, copied, t2, then)
	fill(t, copied, t2, 0, 10, 3, then)
	same(t, copied, t2, then)
	same(t, db, table, want)

	cut := t.TempDir()
	untar(t, b.Bytes()[:b.Len()*2/3], cut)
	if _, _, err := Open(ctx, Options{Dir: cut}, table); !errors.Is(err, ErrForeign) {
		t.Errorf("a backup that was cut short: %v", err)
	}
}

// TestBackupWhole: a backup of which earlier generations are a part is not said to
// be damaged: those cannot be gone on from. Damage in what is needed of them is
// told of.
func TestBackupWhole(t *testing.T) {
	want := model{}
	db, _, table := small(t, t.TempDir())
	fill(t, db, table, 0, 2000, 0, want)
	must(t, db.Checkpoint(ctx))
	fill(t, db, table, 10, 12, 1, want)
	must(t, db.Checkpoint(ctx))
	fill(t, db, table, 1500, 1503, 2, want)
	var b bytes.Buffer
	must(t, db.Backup(ctx, &b))
	must(t, db.Verify(ctx))
	if n := len(db.Generations()); n != 3 {
		t.Errorf("%d generations where the backup was made", n)
	}
	dir := t.TempDir()
	untar(t, b.Bytes(), dir)
	files := generationFiles(t, dir)
	for round := range 3 {
		r, err := Inspect(ctx, Options{Dir: dir})
		must(t, err)
		if len(files) < 2 || len(r.Generations) != round+1 || len(r.Damaged) > 0 {
			t.Errorf("round %d: %d files, %+v", round, len(files), r)
		}
		copied, _, table := small(t, dir)
		same(t, copied, table, want)
		must(t, copied.Verify(ctx))
		fill(t, copied, table, 100, 102, 3+round, want)
		must(t, copied.Checkpoint(ctx))
		must(t, copied.Verify(ctx))
		must(t, copied.Close())
	}
	dir = t.TempDir()
	untar(t, b.Bytes(), dir)
	oldest := files[len(files)-1]
	edit(t, filepath.Join(dir, filepath.Base(oldest)), func(b []byte) { b[generationPage+100] ^= 1 })
	r, err := Inspect(ctx, Options{Dir: dir})
	must(t, err)
	if damage := (*DamageError)(nil); len(r.Damaged) == 0 || !errors.As(r.Damaged[0], &damage) || damage.File != filepath.Base(oldest) {
		t.Errorf("an extent that is needed: %v", r.Damaged)
	}
}

// cancelling is a writer that ends a context when it has got so many bytes.
type cancelling struct {
	left, more int
	cancel     func()
}

func (w *cancelling) Write(p []byte) (int, error) {
	if w.left -= len(p); w.left < 0 {
		w.cancel()
		w.more++
	}
	return len(p), nil
}

// TestBackupCancelled: a backup whose context ends in the middle of a file ends,
// too.
func TestBackupCancelled(t *testing.T) {
	db, _, table := small(t, t.TempDir())
	fill(t, db, table, 0, 20000, 0, model{})
	until, cancel := context.WithCancel(ctx)
	w := &cancelling{left: 100 << 10, cancel: cancel}
	if err := db.Backup(until, w); !errors.Is(err, context.Canceled) || w.more != 1 {
		t.Errorf("%v, after %d more", err, w.more)
	}
}

func untar(t *testing.T, b []byte, dir string) {
	t.Helper()
	for r := tar.NewReader(bytes.NewReader(b)); ; {
		h, err := r.Next()
		if err != nil {
			return // at its end, or cut short
		}
		p, err := io.ReadAll(r)
		must(t, os.WriteFile(filepath.Join(dir, h.Name), p, 0o600))
		if err != nil {
			return
		}
	}
}

// TestInspect: a directory is told of without being changed.
func TestInspect(t *testing.T) {
	dir, want := t.TempDir(), model{}
	db, _, table := small(t, dir)
	fill(t, db, table, 0, 100, 0, want)
	must(t, db.Checkpoint(ctx))
	fill(t, db, table, 100, 110, 0, want)
	if _, err := Inspect(ctx, Options{Dir: dir}); !errors.Is(err, ErrInUse) {
		t.Errorf("open: %v", err)
	}
	must(t, db.Close())
	r, err := Inspect(ctx, Options{Dir: dir})
	must(t, err)
	if len(r.Tables) != 1 || r.Tables[0].Name != "t" || r.Tables[0].Entries != 110 || r.Tables[0].Keys != "string" || r.Transactions != 1 || len(r.Damaged) != 0 {
		t.Errorf("%+v", r)
	}
	if _, err := Inspect(ctx, Options{Dir: t.TempDir()}); !errors.Is(err, ErrForeign) {
		t.Errorf("an empty directory: %v", err)
	}
}

// TestInspectReserves: damage of what only older generations need is told of, by
// Inspect and by Verify: it is not noticed before the newest one fails, too.
func TestInspectReserves(t *testing.T) {
	for name, damage := range map[string]func(dir string) (file string, at int64){
		"older generation": func(dir string) (string, int64) { return generationFiles(t, dir)[1], 0 },
		"older log":        func(dir string) (string, int64) { return filepath.Join(dir, "0000000000000001.redo"), 8192 },
	} {
		t.Run(name, func(t *testing.T) {
			dir, want := t.TempDir(), model{}
			db, _, table := small(t, dir)
			fill(t, db, table, 0, 100, 0, want)
			must(t, db.Checkpoint(ctx))
			for round := range 2 {
				fill(t, db, table, 0, 100, round+1, want)
				fill(t, db, table, 0, 100, round+1, want)
				must(t, db.Checkpoint(ctx))
			}
			must(t, db.Close())
			file, at := damage(dir)
			b, err := os.ReadFile(file)
			must(t, err)
			clear(b[at : at+4096])
			must(t, os.WriteFile(file, b, 0o600))
			damaged := (*DamageError)(nil)
			r, err := Inspect(ctx, Options{Dir: dir})
			must(t, err)
			if len(r.Damaged) != 1 || !errors.As(r.Damaged[0], &damaged) || damaged.File != filepath.Base(file) {
				t.Errorf("Inspect says of %s: %v", filepath.Base(file), r.Damaged)
			}
			db, _, table = small(t, dir)
			same(t, db, table, want)
			if err := db.Verify(ctx); !errors.As(err, &damaged) || damaged.File != filepath.Base(file) {
				t.Errorf("Verify says of %s: %v", filepath.Base(file), err)
			}
		})
	}
}

// TestVerifyNames: a generation that was spoiled while the database is open is told of
// by its name.
func TestVerifyNames(t *testing.T) {
	dir := t.TempDir()
	db, _, table := small(t, dir)
	for round := range 3 {
		fill(t, db, table, 0, 10, round, model{})
		must(t, db.Checkpoint(ctx))
	}
	name := generationFiles(t, dir)[1]
	edit(t, name, func(b []byte) { clear(b[:generationPage]) })
	if damage := (*DamageError)(nil); !errors.As(db.Verify(ctx), &damage) || damage.File != filepath.Base(name) {
		t.Errorf("Verify says %v", damage)
	}
}

// TestSpoiledCopies: damage in one of two copies changes nothing, and Verify and
// Inspect tell of it.
func TestSpoiledCopies(t *testing.T) {
	dir, want := t.TempDir(), model{}
	db, _, table := small(t, dir)
	fill(t, db, table, 0, 500, 0, want)
	for round := range 3 {
		must(t, db.Checkpoint(ctx))
		fill(t, db, table, 10, 20, round, want)
	}
	must(t, db.Verify(ctx))
	must(t, db.Close())
	entries, err := os.ReadDir(dir)
	must(t, err)
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		must(t, err)
		places := map[string]int{"first line": 20, "second line": len(b)/2 + 20}
		switch filepath.Ext(e.Name()) {
		case generationSuffix:
			at, size := int(binary.LittleEndian.Uint64(b[40:])), int(binary.LittleEndian.Uint64(b[48:]))
			places = map[string]int{"first header": 20, "second header": headerSecond + 20, "first index": at + size/2, "second index": at + size + size/2}
		case ".redo":
			places = map[string]int{"first header": 20, "second header": 2048 + 20}
		}
		for what, at := range places {
			copied := t.TempDir()
			must(t, os.CopyFS(copied, os.DirFS(dir)))
			edit(t, filepath.Join(copied, e.Name()), func(b []byte) { b[at] ^= 1 })
			damage := (*DamageError)(nil)
			r, err := Inspect(ctx, Options{Dir: copied})
			must(t, err)
			if len(r.Damaged) != 1 || !errors.As(r.Damaged[0], &damage) || damage.File != e.Name() {
				t.Errorf("%s of %s: Inspect says %v", what, e.Name(), r.Damaged)
			}
			db, r2, table := small(t, copied)
			same(t, db, table, want)
			if len(r2.Damaged) > 0 {
				t.Errorf("%s of %s: %+v", what, e.Name(), r2)
			}
			if e.Name() == identityName { // Open has mended it
				edit(t, filepath.Join(copied, e.Name()), func(b []byte) { b[at] ^= 1 })
			}
			if string(b[:8]) != "WKPTSPAR" { // or it got a header and a name when it was used
				if err := db.Verify(ctx); !errors.As(err, &damage) || damage.File != e.Name() {
					t.Errorf("%s of %s: Verify says %v", what, e.Name(), err)
				}
			}
			must(t, db.Close())
		}
	}
}
