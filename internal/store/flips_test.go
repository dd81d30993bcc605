package store

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/wakepoint/wakepoint/internal/disk"
	"github.com/wakepoint/wakepoint/internal/disk/crashfs"
)

var (
	flipsN    = flag.Int("flips.n", 300, "files that are damaged")
	flipsSeed = flag.Uint64("flips.seed", 1, "where that begins")
)

// TestFlips flips bits and cuts files, one or two at a time. Nothing wrong is
// ever read, also not from what is committed afterwards; what is damaged is
// named; and every generation that does not refer to it restores.
func TestFlips(t *testing.T) {
	all := newTrial(t, *flipsSeed)
	f := newFlips(t)
	for range *flipsN {
		f.once(all)
	}
	all.report()
	t.Log("\n" + f.table())
}

// flips is a store that is damaged again and again.
type flips struct {
	*stage
	dir   string // of the workload
	keys  keyring
	files []string
	top   Generation
	refs  map[Generation][]extent
	moved []extent // that the next commit moves, if there is nothing else to do
	kinds map[string]*flipCount
}

// flipCount is a row of the table.
type flipCount struct{ flips, detected, wrong, lost int }

// extent is a range of bytes in a file that a generation needs. What has a
// copy is lost only with that.
type extent struct {
	file     string
	from, to int64
	copied   string // the packs with the copy begin so
	at       place  // of the frame; none for what is no frame
}

func newFlips(t testing.TB) *flips {
	f := &flips{kinds: map[string]*flipCount{}, refs: map[Generation][]extent{}}
	f.stage = newStage(t, scene{name: "flips", base: func(x *world) error {
		if err := fillStore(3)(x); err != nil {
			return err
		}
		for g := Generation(3); g < 9; g++ { // each with a leaf that no other one changes
			if err := x.relock(); err != nil {
				return err
			}
			if err := x.commit(script{parent: g, inherit: true, pages: map[int64]int{100 + 20*int64(g): 80 + int(g), 101 + 20*int64(g): 201 + 2*int(g)}}); err != nil {
				return err
			}
		}
		return x.forget(1) // others refer to its packs
	}})
	x := newWorld(f.disk.Crash(crashfs.LoseAll), f.ledger.clone())
	must(t, taken(x))
	defer x.release()
	for g, p := range x.book().gens {
		if p.fate == sure {
			f.refs[g] = references(t, x.w, g)
			f.top = max(f.top, g)
		}
	}
	f.dir, f.keys = x.w.dir, x.w.keys
	f.files = slices.Concat(filesBelow(f.disk, crashStore), filesBelow(f.disk, crashHeads))
	f.files = slices.DeleteFunc(f.files, func(name string) bool { return path.Base(name) == lockFile })
	must(t, f.commit(x))
	m, err := x.w.manifest(x.book().burned)
	must(t, err)
	for _, e := range f.refs[f.top] {
		if !e.at.none() && !slices.ContainsFunc(m.Packs, func(p packUse) bool { return p.Pack == e.at.pack }) {
			f.moved = append(f.moved, e)
		}
	}
	return f
}

// commit commits on top of what there is, which moves some of what is alive.
func (f *flips) commit(x *world) error {
	return x.commit(script{parent: f.top, inherit: true, pages: map[int64]int{1: 70, 41: 71}})
}

func filesBelow(d disk.FS, dir string) (all []string) {
	entries, err := d.ReadDir(dir)
	if err != nil {
		panic(err)
	}
	for _, e := range entries {
		name := path.Join(dir, e.Name())
		if e.IsDir() {
			all = append(all, filesBelow(d, name)...)
		} else {
			all = append(all, name)
		}
	}
	return all
}

// references returns all that a generation needs, found the long way.
func references(t testing.TB, w *Workload, g Generation) []extent {
	r, err := w.OpenGeneration(g)
	must(t, err)
	defer r.Close()
	all := []extent{{path.Join(w.dir, manifestsDir, g.String()), 0, 1 << 40, g.String() + ".c", place{}}}
	add := func(p place, copied bool) {
		e := extent{file: path.Join(w.dir, p.pack.file())}
		if copied {
			e.copied = p.pack.Generation().String() + ".c"
		}
		head, frame := e, e
		head.to, frame.from, frame.to, frame.at = packHeadSize, int64(p.off), int64(p.off)+p.cost(), p
		all = append(all, head, frame)
	}
	for _, b := range r.m.Blobs {
		for _, p := range b.Pieces {
			add(p.entry().place, false)
		}
	}
	var walk func(e entry, level int)
	walk = func(e entry, level int) {
		add(e.place, level >= 0)
		if level < 0 {
			return
		}
		n, err := (&nodes{r: r.packs}).read(e.place, level)
		must(t, err)
		for i := range fan {
			if n.has(i) {
				walk(n.e[i], level-1)
			}
		}
	}
	for i := range r.m.Sections {
		if e, level := r.m.Sections[i].root(); !e.none() {
			walk(e, level)
		}
	}
	return all
}

// wound is one damage.
type wound struct {
	file     string
	from, to int64
	what     string
}

func (w wound) hits(e extent) bool { return w.file == e.file && w.from < e.to && e.from < w.to }

// flipBit flips a bit of a file, from a byte on and before another one.
func flipBit(t *trial, d *crashfs.FS, name string, from, to int64) wound {
	at, bit := from+t.rand.Int64N(to-from), t.rand.Int64N(8)
	must(t, d.Flip(name, at*8+bit))
	return wound{name, at, at + 1, fmt.Sprintf("%s, bit %d of byte %d", name, bit, at)}
}

// hurt damages a file of a disk, another one than before.
func (f *flips) hurt(t *trial, d *crashfs.FS, before string) wound {
	byKind := map[string][]string{}
	for _, name := range f.files {
		if name != before {
			byKind[kindOf(name)] = append(byKind[kindOf(name)], name)
		}
	}
	kinds := slices.Sorted(maps.Keys(byKind))
	kind := kinds[t.rand.IntN(len(kinds))]
	if t.rand.IntN(2) == 0 { // most of them
		kind = []string{"pack", "copies", "manifest"}[t.rand.IntN(3)]
	}
	name := byKind[kind][t.rand.IntN(len(byKind[kind]))]
	fi, err := d.Lstat(name)
	must(t, err)
	size := fi.Size()
	if t.rand.IntN(4) == 0 {
		size = min(size, 120) // headers and small frames
	}
	if t.rand.IntN(8) == 0 && before == "" {
		e := f.node(t)
		return flipBit(t, d, e.file, e.from, e.to)
	}
	if t.rand.IntN(6) == 0 {
		at := t.rand.Int64N(size)
		must(t, d.Cut(name, at))
		return wound{name, at, 1 << 40, fmt.Sprintf("%s cut to %d", name, at)}
	}
	return flipBit(t, d, name, 0, size)
}

// node draws a node of the newest generation. They are small, and seldom hit.
func (f *flips) node(t *trial) extent {
	for {
		refs := f.refs[f.top]
		if e := refs[t.rand.IntN(len(refs))]; e.copied != "" && !e.at.none() {
			return e
		}
	}
}

func kindOf(name string) string {
	base := path.Base(name)
	switch dir := path.Base(path.Dir(name)); {
	case path.Dir(name) == crashHeads:
		return "head"
	case dir == packsDir && strings.Contains(base, ".c"):
		return "copies"
	case dir == packsDir:
		return "pack"
	case dir == manifestsDir:
		return "manifest"
	case dir == recordsDir:
		return "record"
	}
	return base
}

// mayLose returns those generations that refer to what is damaged.
func (f *flips) mayLose(wounds []wound) map[Generation]bool {
	lost := map[Generation]bool{}
	for g, refs := range f.refs {
		for _, e := range refs {
			hit := slices.ContainsFunc(wounds, func(w wound) bool { return w.hits(e) })
			copyHit := e.copied == "" || slices.ContainsFunc(wounds, func(w wound) bool {
				return strings.HasPrefix(path.Base(w.file), e.copied)
			})
			if hit && copyHit {
				lost[g] = true
			}
		}
	}
	return lost
}

// once damages a copy of the store and looks at what is left of it.
func (f *flips) once(t *trial) {
	x := newWorld(f.disk.Crash(crashfs.LoseAll), f.ledger.clone())
	defer x.release()
	a := t.draw()
	if a.late {
		must(t, taken(x))
	}
	wounds := a.hurt(f, t, x.disk)
	row := f.row(kindOf(wounds[0].file))
	row.flips++
	if !a.late {
		f.look(x, wounds, row)
	}
	if forget := !a.keep && t.rand.IntN(2) == 0; len(x.broken) == 0 && (a.late || a.next || t.rand.IntN(3) == 0) {
		f.next(x, wounds, row, forget)
	}
	if a.late && len(x.broken) == 0 {
		f.look(x, wounds, row)
	}
	t.judge(fmt.Sprint(wounds), x)
}

func (f *flips) row(kind string) *flipCount {
	if f.kinds[kind] == nil {
		f.kinds[kind] = &flipCount{}
	}
	return f.kinds[kind]
}

// look compares what restores with what should, and with what Verify says.
func (f *flips) look(x *world, wounds []wound, row *flipCount) {
	if err := x.open(); err != nil {
		x.breaks("a damaged store opens", "%v", err)
		return
	}
	x.name = "w"
	w, err := x.s.Workload("w")
	if err != nil {
		x.breaks("a damaged workload opens", "%v", err)
		return
	}
	x.w = w
	found, err := w.Verify(context.Background())
	if err != nil {
		x.breaks("verify comes to its end", "%v", err)
	}
	if found = append(found, x.s.Damage()...); len(found) > 0 {
		row.detected++
	} else if wounds[0].file != f.files[len(f.files)-1] { // the head is no part of the store
		x.breaks("damage is found", "not this one")
	}
	named := map[Generation]bool{}
	for _, d := range found {
		for _, g := range d.Generations {
			named[g] = true
		}
	}
	f.restore(x, f.mayLose(wounds), named, row)
	for name, values := range x.book().records {
		if v, err := w.Record(name); err != nil && !errors.Is(err, ErrDamaged) || err == nil && !values[string(v)] {
			row.wrong++
			x.breaks("nothing wrong is read", "record %s: %q, %v", name, v, err)
		}
	}
	if err := w.Older(); err != nil {
		x.breaks("a head is never ahead", "%v", err)
	}
}

// restore restores every generation.
func (f *flips) restore(x *world, mayLose, named map[Generation]bool, row *flipCount) {
	for g := range f.refs {
		if x.book().gens[g].fate != sure {
			continue
		}
		err := x.restores(g, x.book().gens[g].pages)
		switch {
		case err == nil && named[g]:
			x.breaks("verify names what does not restore", "%v restores", g)
		case err == nil:
		case !errors.Is(err, ErrDamaged):
			row.wrong++
			x.breaks("nothing wrong is read", "%v: %v", g, err)
		case !mayLose[g]:
			row.lost++
			x.breaks("what does not refer to the damage restores", "%v: %v", g, err)
		case !named[g]:
			x.breaks("verify names what does not restore", "%v: %v", g, err)
		}
	}
}

// next takes over, forgets the oldest generation or does not, and commits on
// top of the damage, which moves what is alive.
func (f *flips) next(x *world, wounds []wound, row *flipCount, forget bool) {
	if x.lock == nil {
		if err := x.relock(); err != nil {
			x.breaks("the next writer takes over", "%v", err)
			return
		}
	}
	if f.stays(x); len(x.broken) > 0 {
		return
	}
	if forget {
		if err := x.forget(slices.Min(slices.Collect(maps.Keys(f.refs)))); err != nil {
			x.breaks("generations can be removed", "%v", err)
			return
		}
		if f.stays(x); len(x.broken) > 0 {
			return
		}
	}
	if err := f.commit(x); err != nil {
		if !errors.Is(err, ErrDamaged) || !f.mayLose(wounds)[f.top] {
			x.breaks("the next commit works", "%v", err)
		}
		return
	}
	b := x.book()
	g := b.burned
	if err := x.restores(g, b.gens[g].pages); err != nil && (!errors.Is(err, ErrDamaged) || !f.mayLose(wounds)[f.top]) {
		row.wrong++
		x.breaks("nothing wrong is read", "%v, committed on top: %v", g, err)
	}
	found, err := x.w.Verify(context.Background())
	named := map[Generation]bool{}
	for _, d := range found {
		for _, g := range d.Generations {
			named[g] = true
		}
	}
	if err != nil {
		x.breaks("verify comes to its end", "%v", err)
	}
	f.restore(x, f.mayLose(wounds), named, row)
}

// stays looks for the packs to which generations refer.
func (f *flips) stays(x *world) {
	for g, refs := range f.refs {
		for _, e := range refs {
			if _, err := x.disk.Lstat(e.file); err != nil && !e.at.none() && x.book().gens[g].fate == sure {
				x.breaks("what a generation refers to stays", "%v: %v", g, err)
				return
			}
		}
	}
}

func (f *flips) table() string {
	var s strings.Builder
	fmt.Fprintf(&s, "%-10s %8s %9s %13s %27s\n", "kind", "damaged", "detected", "read wrongly", "lost that should not be")
	for _, kind := range slices.Sorted(maps.Keys(f.kinds)) {
		c := f.kinds[kind]
		fmt.Fprintf(&s, "%-10s %8d %9d %13d %27d\n", kind, c.flips, c.detected, c.wrong, c.lost)
	}
	return s.String()
}
