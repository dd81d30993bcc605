package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/wakepoint/wakepoint/internal/disk"
	"github.com/wakepoint/wakepoint/internal/disk/crashfs"
)

// crashLimits make everything happen with a few pages.
var crashLimits = limits{packSize: 8 << 10, treeNodes: 12, dead: 8 << 10, moved: 64 << 10, packs: 8}

const (
	crashStore = "/s"
	crashHeads = "/heads"
)

// fate is what a power cut may make of a thing.
type fate int

const (
	never fate = iota // must not be there
	maybe             // its making or its removal was begun
	sure              // must be there
)

// ledger is what a store has promised to whoever used it.
type ledger struct {
	books    map[string]*book // by workload
	headless bool             // the store has no heads beside it
	hurt     bool             // its own file may be damaged
}

// book is what a workload has promised.
type book struct {
	id      workloadID
	old     *book // of the workload of the same name whose removal was begun
	made    fate
	hurt    bool // the file that says what it is may be damaged
	comes   bool // it is brought in, and not made
	gens    map[Generation]*promisedGen
	records map[string]map[string]bool // the values that a record may have; absent: none
	burned  Generation                 // no generation gets this number any more, or a lower one
	epoch   uint64                     // of the last takeover
}

type promisedGen struct {
	fate  fate
	pages map[int64]int // the seed of each page
}

const absent = "(none)"

func (l ledger) clone() ledger {
	n := ledger{books: map[string]*book{}, headless: l.headless, hurt: l.hurt}
	for name, b := range l.books {
		c := *b
		c.gens, c.records = map[Generation]*promisedGen{}, map[string]map[string]bool{}
		for g, p := range b.gens {
			q := *p
			c.gens[g] = &q
		}
		for r, values := range b.records {
			c.records[r] = maps.Clone(values)
		}
		n.books[name] = &c
	}
	return n
}

// world is a process that uses a store on a disk, and what it was promised.
type world struct {
	disk *crashfs.FS
	s    *Store
	w    *Workload
	name string
	lock io.Closer

	mu     sync.Mutex // guards ledger: a disk is cut from any goroutine
	ledger ledger
	ended  bool // the process was killed: what it is told now nobody hears
	broken []brokenPromise
}

// brokenPromise is what the suite looks for.
type brokenPromise struct{ promise, what string }

func (b brokenPromise) String() string { return b.promise + ": " + b.what }

func newWorld(d *crashfs.FS, l ledger) *world { return &world{disk: d, ledger: l} }

func (x *world) breaks(promise, format string, args ...any) {
	if x.ended {
		return
	}
	x.broken = append(x.broken, brokenPromise{promise, fmt.Sprintf(format, args...)})
}

// note changes the ledger.
func (x *world) note(f func(b *book)) {
	x.mu.Lock()
	defer x.mu.Unlock()
	b := x.ledger.books[x.name]
	if b == nil {
		b = newBook()
		x.ledger.books[x.name] = b
	}
	f(b)
}

func newBook() *book {
	return &book{gens: map[Generation]*promisedGen{}, records: map[string]map[string]bool{}}
}

func (x *world) book() *book {
	var b *book
	x.note(func(n *book) { b = n })
	return b
}

func (x *world) open() (err error) {
	o := Options{FS: x.disk, Heads: crashHeads, Buffer: 1, limits: crashLimits, Warn: func(error) {}}
	if x.ledger.headless {
		o.Heads = ""
	}
	x.s, err = Open(crashStore, o)
	return err
}

// begin notes that a workload is being made.
func (x *world) begin(name string) {
	x.name = name
	x.note(func(b *book) {
		old := *b
		if *b = *newBook(); old.made == maybe {
			b.old = &old
		}
		b.made = maybe
	})
}

// create makes a workload.
func (x *world) create(name string) error {
	x.begin(name)
	w, err := x.s.Create(name)
	if err == nil {
		x.w = w
		x.note(func(b *book) { b.made, b.id, b.old = sure, w.keys.workload, nil })
		x.mu.Lock()
		x.ledger.hurt = false
		x.mu.Unlock()
	}
	return err
}

// remove removes a workload.
func (x *world) remove(name string) error {
	x.release()
	x.name = name
	was := x.book().made
	x.note(func(b *book) { b.made = maybe })
	err := x.s.Remove(name)
	x.note(func(b *book) {
		if err == nil {
			*b = *newBook()
		} else if errors.Is(err, ErrNotFound) {
			b.made = was
		}
	})
	return err
}

// take opens a workload and becomes its writer.
func (x *world) take(name string) error {
	if err := x.find(name); err != nil {
		return err
	}
	return x.relock()
}

// find opens a workload.
func (x *world) find(name string) (err error) {
	x.name = name
	x.w, err = x.s.Workload(name)
	return err
}

func (x *world) relock() error {
	x.release()
	l, err := x.w.Lock()
	if err != nil {
		return err
	}
	x.lock = l
	x.note(func(b *book) {
		if x.w.state.Epoch <= b.epoch {
			x.breaks("epochs rise", "%d after %d", x.w.state.Epoch, b.epoch)
		}
		b.epoch, b.hurt = x.w.state.Epoch, false
	})
	return nil
}

// release lets go of the lock, as the end of a process does.
func (x *world) release() {
	if x.lock != nil {
		x.lock.Close()
		x.lock = nil
	}
}

// script is what a draft is made of: the seed of each page, 0 for zero.
type script struct {
	parent  Generation
	inherit bool
	pages   map[int64]int
	abort   bool
}

// commit commits a generation, or aborts it.
func (x *world) commit(c script) error {
	d, err := x.w.Begin(c.parent)
	if err != nil {
		return err
	}
	g := d.Generation()
	if g <= x.book().burned {
		x.breaks("no number is used twice", "%v", g)
	}
	pages := map[int64]int{}
	if c.inherit {
		pages = maps.Clone(x.book().gens[c.parent].pages)
	}
	err = fillDraft(d, c, pages)
	if err != nil || c.abort {
		aerr := d.Abort()
		x.note(func(b *book) { x.burn(b, g) })
		return errors.Join(err, aerr)
	}
	x.note(func(b *book) { b.gens[g] = &promisedGen{maybe, pages} })
	info, err := d.Commit(context.Background(), CommitInfo{Tag: "tag"})
	x.note(func(b *book) {
		x.burn(b, g)
		if err == nil {
			b.gens[g].fate = sure
		}
	})
	if err == nil && info.Generation != g {
		x.breaks("no number is used twice", "%v is called %v", g, info.Generation)
	}
	return err
}

// burn notes that a number was used.
func (x *world) burn(b *book, g Generation) {
	if !x.ended {
		b.burned = max(b.burned, g)
	}
}

// fillDraft writes what a script says, and makes pages that which it is.
func fillDraft(d *Draft, c script, pages map[int64]int) error {
	s, err := d.Section("mem", c.inherit)
	if err != nil {
		return err
	}
	for _, p := range slices.Sorted(maps.Keys(c.pages)) {
		seed := c.pages[p]
		if seed == 0 {
			delete(pages, p)
			err = s.Zero(p*PageSize, PageSize)
		} else {
			pages[p] = seed
			err = s.Put(p*PageSize, page(seed))
		}
		if err != nil {
			return err
		}
	}
	return errors.Join(s.Close(), d.Blob("image", []byte("of "+d.gen.String())), d.Blob("large", crashBlob(d.gen)))
}

// crashBlob is too long to lie in a manifest.
func crashBlob(g Generation) []byte { return page(1000 + 2*int(g))[:2000] }

// retain removes all generations but the newest ones.
func (x *world) retain(keep int) error {
	return x.removing(func(g Generation, visible []Generation) bool {
		return len(visible) > keep && g < visible[keep-1]
	}, func() ([]Generation, error) { return x.w.Retain(keep) })
}

// drop removes those that are named, as retention does.
func (x *world) drop(gens ...Generation) error {
	return x.removing(func(g Generation, _ []Generation) bool { return slices.Contains(gens, g) },
		func() ([]Generation, error) { return x.w.Drop(gens) })
}

func (x *world) forget(g Generation) error {
	return x.removing(func(h Generation, _ []Generation) bool { return g == h }, func() ([]Generation, error) {
		return []Generation{g}, x.w.Forget(g)
	})
}

// removing does what may remove those generations of which may is true.
func (x *world) removing(may func(g Generation, visible []Generation) bool, do func() ([]Generation, error)) error {
	visible, err := x.w.list()
	if err != nil {
		return err
	}
	was := map[Generation]fate{}
	x.note(func(b *book) {
		for g, p := range b.gens {
			if was[g] = p.fate; may(g, visible) && p.fate == sure {
				p.fate = maybe
			}
		}
	})
	removed, err := do()
	if err == nil {
		x.note(func(b *book) {
			for g, p := range b.gens {
				p.fate = was[g]
			}
			for _, g := range removed {
				b.gens[g].fate = never
			}
		})
	}
	return err
}

// put gives a record a value; absent removes it.
func (x *world) put(name, value string) error {
	x.note(func(b *book) {
		if b.records[name] == nil {
			b.records[name] = map[string]bool{absent: true}
		}
		b.records[name][value] = true
	})
	var err error
	if value == absent {
		err = x.w.RemoveRecord(name)
	} else {
		err = x.w.PutRecord(name, []byte(value))
	}
	if err == nil {
		x.note(func(b *book) { b.records[name] = map[string]bool{value: true} })
	}
	return err
}

// read compares what a workload holds with what it promised. After a cut what
// is seen is there for good.
func (x *world) read(cut bool) {
	infos, damages, err := x.w.Generations()
	if err != nil || len(damages) > 0 {
		x.breaks("nothing is half visible", "generations: %v, %v", damages, err)
		return
	}
	b, seen := x.book(), map[Generation]bool{}
	for _, i := range infos {
		g := i.Generation
		seen[g] = true
		p := b.gens[g]
		if p == nil || p.fate == never {
			x.breaks("what was removed or never committed is not there", "%v", g)
			continue
		}
		if err := x.restores(g, p.pages); err != nil {
			x.breaks("what is there restores bit for bit", "%v: %v", g, err)
		}
	}
	x.note(func(b *book) {
		for g, p := range b.gens {
			switch {
			case p.fate == sure && !seen[g]:
				x.breaks("what was committed is there", "%v is lost", g)
			case cut && p.fate == maybe && seen[g]:
				p.fate, b.burned = sure, max(b.burned, g)
			case cut && p.fate == maybe:
				p.fate = never
			}
		}
	})
	x.readRecords(cut)
	if err := x.w.Older(); err != nil {
		x.breaks("a head is never ahead", "%v", err)
	}
}

func (x *world) readRecords(cut bool) {
	for name, values := range x.book().records {
		v, err := x.w.Record(name)
		if errors.Is(err, fs.ErrNotExist) {
			v, err = []byte(absent), nil
		}
		if err != nil || !values[string(v)] {
			x.breaks("a record has its old value or its new one", "%s is %q, %v; not one of %v", name, v, err, values)
		} else if cut {
			x.note(func(b *book) { b.records[name] = map[string]bool{string(v): true} })
		}
	}
}

// restores reads a generation whole.
func (x *world) restores(g Generation, pages map[int64]int) error {
	r, err := x.w.OpenGeneration(g)
	if err != nil {
		return err
	}
	defer r.Close()
	for name, want := range map[string][]byte{"image": []byte("of " + g.String()), "large": crashBlob(g)} {
		if b, err := r.Blob(name); err != nil || !bytes.Equal(b, want) {
			return fmt.Errorf("blob %s differs: %w", name, err)
		}
	}
	s, err := r.Section("mem")
	if err != nil {
		return err
	}
	defer s.Close()
	n := 0
	err = s.Each(0, sizeMax, func(off int64, p []byte) error {
		for ; len(p) > 0; p, off = p[PageSize:], off+PageSize {
			if seed, ok := pages[off/PageSize]; !ok || !bytes.Equal(p[:PageSize], page(seed)) {
				return fmt.Errorf("page %#x differs", off)
			}
			n++
		}
		return nil
	})
	if err == nil && n != len(pages) {
		err = fmt.Errorf("%d pages of %d", n, len(pages))
	}
	return err
}

// leftovers returns the files that are not complete, and the packs to which
// nothing refers.
func (x *world) leftovers() (left []string, err error) {
	gens, err := x.w.list()
	if err != nil {
		return nil, err
	}
	used := map[PackID]bool{}
	copied := map[Generation]bool{}
	for _, g := range gens {
		m, err := x.w.manifest(g)
		if err != nil {
			return nil, err
		}
		copied[g] = true
		for _, p := range m.Packs {
			used[p.Pack] = true
			copied[p.Pack.Generation()] = true
		}
	}
	packs, err := x.w.packs.List()
	for _, p := range packs {
		if id, ok := parsePackID(p); !ok || !used[id] && !(id.copies() && copied[id.Generation()]) {
			left = append(left, p)
		}
	}
	return append(left, temps(x.disk, x.w.dir)...), err
}

// temps returns the files below a directory that are not complete.
func temps(d disk.FS, dir string) (left []string) {
	entries, err := d.ReadDir(dir)
	if err != nil {
		return nil
	}
	for _, e := range entries {
		name := strings.TrimSuffix(dir, "/") + "/" + e.Name()
		if disk.IsTemp(e.Name()) {
			left = append(left, name)
		} else if e.IsDir() {
			left = append(left, temps(d, name)...)
		}
	}
	return left
}
