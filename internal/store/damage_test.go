package store

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"maps"
	"math/bits"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/wakepoint/wakepoint/internal/disk"
)

// history commits three generations that share pages, nodes and a blob, and
// returns what they hold.
func history(t *testing.T, w *Workload) map[Generation]map[int64][]byte {
	t.Helper()
	write(t, w, 0, false, func(s *SectionWriter) error {
		for i := range 40 {
			if err := s.Put(int64(i)*PageSize, page(i)); err != nil {
				return err
			}
		}
		return nil
	})
	write(t, w, 1, true, func(s *SectionWriter) error { return s.Put(0, page(100)) })
	write(t, w, 2, true, func(s *SectionWriter) error { return s.Put(20*PageSize, page(101)) })
	all := map[Generation]map[int64][]byte{}
	for g := Generation(1); g <= 3; g++ {
		pages, err := contents(w, g)
		must(t, err)
		all[g] = pages
	}
	return all
}

// TestDamage flips bits and cuts files, anywhere. Nothing wrong is ever
// returned, all that is damaged is named, together with exactly those
// generations that do not restore, and the others restore bit for bit.
func TestDamage(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "w")
	w := lockedWorkload(t, unsynced{}, dir)
	want := history(t, w)
	var files []string
	for _, sub := range []string{packsDir, manifestsDir} {
		entries, err := os.ReadDir(filepath.Join(dir, sub))
		must(t, err)
		for _, e := range entries {
			files = append(files, filepath.Join(dir, sub, e.Name()))
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 250 {
		file := files[r.IntN(len(files))]
		whole, err := os.ReadFile(file)
		must(t, err)
		b := bytes.Clone(whole)
		if i%10 == 0 {
			b = b[:r.IntN(len(b))]
		} else {
			at := r.IntN(len(b))
			if i%3 == 0 {
				at %= 600 // headers and small frames
			}
			b[at%len(b)] ^= 1 << r.IntN(8)
		}
		must(t, os.WriteFile(file, b, 0o600))
		if !checkDamage(t, w, want) {
			t.Errorf("damage %d, in %s, was not found", i, file)
		}
		must(t, os.WriteFile(file, whole, 0o600))
	}
}

// checkDamage compares what restores with what Verify says.
func checkDamage(t *testing.T, w *Workload, want map[Generation]map[int64][]byte) bool {
	t.Helper()
	found, err := w.Verify(context.Background())
	must(t, err)
	bad := map[Generation]bool{}
	for _, d := range found {
		for _, g := range d.Generations {
			bad[g] = true
		}
		if d.Pack == "" || len(d.Generations) == 0 && d.Follows == "" || !errors.Is(&d.DamageError, ErrDamaged) {
			t.Errorf("damage %+v", d)
		}
	}
	for g, pages := range want {
		got, err := contents(w, g)
		switch {
		case err == nil && bad[g]:
			t.Errorf("%v restores, but is called damaged: %v", g, found)
		case err == nil && !maps.EqualFunc(got, pages, bytes.Equal):
			t.Errorf("%v restores wrongly", g)
		case err != nil && !bad[g]:
			t.Errorf("%v does not restore, and nobody says why: %v", g, err)
		case err != nil && !errors.Is(err, ErrDamaged):
			t.Errorf("%v: not called damage: %v", g, err)
		}
	}
	return len(found) > 0
}

// TestDamagedManifest has a copy; when that is damaged too it is named and
// skipped, and protects what it may refer to.
func TestDamagedManifest(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "w")
	w := lockedWorkload(t, unsynced{}, dir)
	want := history(t, w)
	file, copies := filepath.Join(dir, manifestsDir, "g2"), filepath.Join(dir, packsDir, "g2.c0")
	b, err := os.ReadFile(file)
	must(t, err)
	must(t, os.WriteFile(file, b[:len(b)-1], 0o600))
	infos, damages, err := w.Generations()
	if err != nil || len(infos) != 3 || len(damages) != 0 {
		t.Fatalf("generations with a copy: %v, %v, %v", infos, damages, err)
	}
	if !checkDamage(t, w, want) {
		t.Error("the damage is not named")
	}
	c, err := os.ReadFile(copies)
	must(t, err)
	must(t, os.WriteFile(copies, c[:len(c)-1], 0o600))
	infos, damages, err = w.Generations()
	if err != nil || len(infos) != 2 || len(damages) != 1 || !slices.Equal(damages[0].Generations, []Generation{2}) {
		t.Fatalf("generations: %v, %v, %v", infos, damages, err)
	}
	if _, err := w.OpenGeneration(2); !errors.Is(err, ErrDamaged) {
		t.Errorf("open: %v", err)
	}
	removed, err := w.Retain(2)
	if err != nil || len(removed) != 0 {
		t.Errorf("retain: %v, %v", removed, err)
	}
	must(t, w.Forget(1))
	must(t, os.WriteFile(file, b, 0o600))
	if _, err := contents(w, 2); err != nil {
		t.Errorf("after the medium recovered: %v", err)
	}
}

// TestDamagedNode reads the copy of each node.
func TestDamagedNode(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "w")
	w := lockedWorkload(t, unsynced{}, dir)
	want := history(t, w)
	r, err := w.OpenGeneration(3)
	must(t, err)
	defer r.Close()
	damaged := 0
	for _, s := range r.m.Sections {
		for e, level := s.root(); level >= 0 && !e.none(); level-- {
			n, err := (&nodes{r: r.packs}).read(e.place, level)
			must(t, err)
			file := filepath.Join(dir, e.pack.file())
			b, err := os.ReadFile(file)
			must(t, err)
			b[int(e.off)+frameHead+3] ^= 1
			must(t, os.WriteFile(file, b, 0o600))
			damaged++
			e = n.e[bits.TrailingZeros16(n.mask)]
		}
	}
	for g, pages := range want {
		got, err := contents(w, g)
		if err != nil || !maps.EqualFunc(got, pages, bytes.Equal) {
			t.Errorf("%v with %d damaged nodes: %v", g, damaged, err)
		}
	}
	if !checkDamage(t, w, want) || damaged < 2 {
		t.Errorf("%d damaged nodes are not named", damaged)
	}
}

// TestDamagedParent cannot be inherited from, but a section that is written
// whole needs none.
func TestDamagedParent(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "w")
	w := lockedWorkload(t, unsynced{}, dir)
	history(t, w)
	for _, pack := range []string{"g3.0", "g3.c0"} { // the newest root, and its copy
		must(t, os.Remove(filepath.Join(dir, packsDir, pack)))
	}
	if _, err := tryWrite(w, 3, true, change2); !errors.Is(err, ErrDamaged) {
		t.Errorf("inherit: %v", err)
	}
	g := write(t, w, 3, false, change2)
	pages, err := contents(w, g.Generation)
	if err != nil || len(pages) != 2 {
		t.Errorf("written whole: %d pages, %v", len(pages), err)
	}
	if _, err := contents(w, 2); err != nil {
		t.Errorf("an older one: %v", err)
	}
}

func TestDamagedState(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "w")
	w := lockedWorkload(t, unsynced{}, dir)
	history(t, w)
	must(t, w.own.Close())
	must(t, os.WriteFile(filepath.Join(dir, stateFile), []byte("x"), 0o600))
	w = lockedWorkload(t, unsynced{}, dir)
	if g := write(t, w, 3, true, change2); g.Generation != 4 || g.Epoch != 2 {
		t.Errorf("%+v", g)
	}
}

// damages are what may become of a file of n bytes.
func damages(whole []byte) map[string]func(file string) error {
	all := map[string]func(file string) error{
		"removed":     os.Remove,
		"emptied":     func(file string) error { return os.Truncate(file, 0) },
		"cut in half": func(file string) error { return os.Truncate(file, int64(len(whole)/2)) },
		"longer":      func(file string) error { return os.WriteFile(file, append(bytes.Clone(whole), 0), 0o600) },
	}
	for where, at := range map[string]int{
		"magic": 0, "version": 8, "reserved": 12, "length": 16, "payload": 24, "middle": len(whole) / 2, "checksum": len(whole) - 1,
	} {
		all["flipped in its "+where] = func(file string) error {
			b := bytes.Clone(whole)
			b[at] ^= 4
			return os.WriteFile(file, b, 0o600)
		}
	}
	return all
}

// TestDamagedSmallFiles damages each file that the store and a workload are
// opened with. It is named, every generation restores, and what can be made
// again is whole after the next writer.
func TestDamagedSmallFiles(t *testing.T) {
	for _, file := range []string{storeFile, "w/" + workloadFile, "w/" + stateFile, "w/" + recordsDir + "/spec"} {
		for name := range damages(make([]byte, 60)) {
			if strings.HasSuffix(file, "spec") && name == "removed" {
				continue // which records there must be, their owner knows
			}
			t.Run(file+"/"+name, func(t *testing.T) { damageSmallFile(t, file, name) })
		}
	}
}

func damageSmallFile(t *testing.T, file, name string) {
	dir := filepath.Join(t.TempDir(), "s")
	o := Options{FS: unsynced{}}
	s, err := Open(dir, o)
	must(t, err)
	w, err := s.Create("w")
	must(t, err)
	l, err := w.Lock()
	must(t, err)
	must(t, w.PutRecord("spec", []byte("what it runs, at some length")))
	want := history(t, w)
	must(t, l.Close())

	path := filepath.Join(dir, strings.Replace(file, "w/", workloadsDir+"/w/", 1))
	whole, err := os.ReadFile(path)
	must(t, err)
	must(t, damages(whole)[name](path))
	find := func() []Damage {
		s, err = Open(dir, o)
		must(t, err)
		names, err := s.Names()
		if err != nil || !slices.Equal(names, []string{"w"}) {
			t.Fatalf("names %v, %v", names, err)
		}
		w, err = s.Workload("w")
		must(t, err)
		found, err := w.Verify(context.Background())
		must(t, err)
		return append(s.Damage(), found...)
	}
	found := find()
	if len(found) != 1 || found[0].Pack != strings.TrimPrefix(file, "w/") {
		t.Errorf("found %+v", found)
	}
	for g, pages := range want {
		if got, err := contents(w, g); err != nil || !maps.EqualFunc(got, pages, bytes.Equal) {
			t.Errorf("%v: %v", g, err)
		}
	}
	l, err = w.Lock()
	must(t, err)
	if g := write(t, w, 3, true, change2); g.Generation != 4 || g.Epoch != 2 {
		t.Errorf("the next one is %+v", g)
	}
	must(t, l.Close())
	if file == storeFile {
		_, err := s.Create("other")
		must(t, err)
		must(t, s.Remove("other"))
	}
	if strings.HasSuffix(file, "spec") {
		if _, err := w.Record("spec"); !errors.Is(err, ErrDamaged) {
			t.Errorf("the record: %v", err)
		}
		must(t, w.PutRecord("spec", nil))
	}
	if found := find(); len(found) != 0 {
		t.Errorf("after the next writer: %+v", found)
	}
}

// TestNothingToMakeItFrom: without a manifest nothing tells what a workload
// is. It is called damaged, and can be removed.
func TestNothingToMakeItFrom(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "s")
	s, err := Open(dir, Options{FS: unsynced{}})
	must(t, err)
	w, err := s.Create("w")
	must(t, err)
	l, err := w.Lock()
	must(t, err)
	must(t, l.Close())
	must(t, os.Remove(filepath.Join(w.Dir(), workloadFile)))
	if _, err := s.Workload("w"); !errors.Is(err, ErrDamaged) {
		t.Errorf("open: %v", err)
	}
	if _, err := s.Create("w"); !errors.Is(err, ErrExist) {
		t.Errorf("create: %v", err)
	}
	must(t, s.Remove("w"))
	if names, err := s.Names(); err != nil || len(names) != 0 {
		t.Errorf("names %v, %v", names, err)
	}
}

// TestUnreferred damages a frame to which nothing refers.
func TestUnreferred(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "w")
	w := lockedWorkload(t, unsynced{}, dir)
	write(t, w, 0, false, func(s *SectionWriter) error {
		return errors.Join(s.Put(0, page(1)), s.Put(0, page(2)), s.Put(PageSize, page(3)))
	})
	file := filepath.Join(dir, packsDir, "g1.0")
	whole, err := os.ReadFile(file)
	must(t, err)
	for at := range 20 {
		b := bytes.Clone(whole)
		b[packHeadSize+at] ^= 1
		must(t, os.WriteFile(file, b, 0o600))
		found, err := w.Verify(context.Background())
		must(t, err)
		if len(found) != 1 || len(found[0].Generations) != 0 || found[0].Offset != packHeadSize || found[0].Follows == "" {
			t.Fatalf("flipped at %d: %+v", at, found)
		}
	}
	must(t, os.WriteFile(file, append(whole, whole[packHeadSize:]...), 0o600))
	if found, err := w.Verify(context.Background()); err != nil || len(found) != 1 || found[0].Offset != int64(len(whole)) {
		t.Fatalf("longer: %+v, %v", found, err)
	}
}

func TestForeign(t *testing.T) {
	open := map[string]func(dir string) error{
		"store":    func(dir string) error { _, err := Open(dir, Options{}); return err },
		"workload": func(dir string) error { _, err := OpenWorkload(dir, Options{}); return err },
	}
	for what, open := range open {
		file := func(dir string) string { return filepath.Join(dir, what) }
		for name, c := range map[string]struct {
			make func(dir string) error
			want error
		}{
			"missing": {os.RemoveAll, nil},
			"empty":   {func(string) error { return nil }, nil},
			"a new file system": {func(dir string) error {
				return os.Mkdir(filepath.Join(dir, "lost+found"), 0o700)
			}, nil},
			"cut short": {func(dir string) error {
				return os.WriteFile(disk.TempName(file(dir)), nil, 0o600)
			}, nil},
			"foreign with a name of ours": {func(dir string) error {
				return errors.Join(os.Mkdir(filepath.Join(dir, "workloads"), 0o700), os.WriteFile(filepath.Join(dir, "x"), nil, 0o600))
			}, ErrForeign},
			"foreign": {func(dir string) error { return os.WriteFile(filepath.Join(dir, "x"), nil, 0o600) }, ErrForeign},
			"open to others": {func(dir string) error {
				return os.Chmod(dir, 0o755)
			}, disk.ErrNotPrivate},
			"a file": {func(dir string) error {
				return errors.Join(os.Remove(dir), os.WriteFile(dir, nil, 0o600))
			}, fs.ErrExist},
			"another version": {func(dir string) error {
				return writeRecord(disk.OS{}, keyring{}, file(dir), []byte("wakepoint store 2"))
			}, ErrVersion},
			"damaged": {func(dir string) error { return os.WriteFile(file(dir), []byte("wake"), 0o600) }, ErrDamaged},
		} {
			t.Run(what+"/"+name, func(t *testing.T) {
				dir := filepath.Join(t.TempDir(), "d")
				must(t, os.Mkdir(dir, 0o700))
				must(t, c.make(dir))
				if err := open(dir); !errors.Is(err, c.want) && (name != "a file" || err == nil) {
					t.Errorf("got %v, want %v", err, c.want)
				}
			})
		}
	}
}

func TestForeignOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: chown")
	}
	top := t.TempDir()
	dir := filepath.Join(top, "d")
	must(t, os.Mkdir(dir, 0o700))
	must(t, os.Chown(dir, 12345, 12345))
	if _, err := Open(dir, Options{}); !errors.Is(err, disk.ErrNotPrivate) {
		t.Errorf("another user's directory: %v", err)
	}
	must(t, os.Chown(dir, 0, 0))
	link := filepath.Join(top, "link")
	must(t, os.Symlink(dir, link))
	if _, err := Open(link, Options{}); err != nil {
		t.Errorf("root's own link: %v", err)
	}
	must(t, os.Lchown(link, 12345, 12345))
	if _, err := Open(link, Options{}); !errors.Is(err, disk.ErrNotPrivate) {
		t.Errorf("another user's link: %v", err)
	}
}
