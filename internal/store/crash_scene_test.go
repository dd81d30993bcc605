package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"syscall"

	"github.com/wakepoint/wakepoint/internal/disk"
	"github.com/wakepoint/wakepoint/internal/disk/crashfs"
)

// scene is something that is done to a store, and may be cut short.
type scene struct {
	name  string
	base  func(x *world) error // what there is before, durably
	ready func(x *world) error // what the process has done before
	do    func(x *world) error
}

// fill writes n generations, each of which shares most with the one before.
func fillStore(n int) func(x *world) error {
	return func(x *world) error {
		if err := firstErr(x.open, func() error { return x.create("w") }, x.relock); err != nil {
			return err
		}
		for g := range n {
			c := script{parent: Generation(g), inherit: g > 0, pages: map[int64]int{int64(g): 10 + g, 40 + int64(g): 20 + g}}
			for p := range 4 {
				if g == 0 {
					c.pages[int64(p)] = 2 * (p + 1) // what cannot be compressed: two packs
				}
			}
			if err := x.commit(c); err != nil {
				return err
			}
		}
		return firstErr(func() error { return x.put("policy", "old") }, func() error { return x.put("verdict", "good") })
	}
}

func firstErr(all ...func() error) error {
	for _, f := range all {
		if err := f(); err != nil {
			return err
		}
	}
	return nil
}

func nothing(*world) error { return nil }

func opened(x *world) error { return x.open() }

func taken(x *world) error { return firstErr(x.open, func() error { return x.take("w") }) }

// evacuation commits until the packs are too many, and the draft that commits
// moves out of some.
func evacuation(x *world) error {
	if err := fillStore(5)(x); err != nil {
		return err
	}
	return x.retain(2)
}

// hurtWorkload damages the file that says what a workload is.
func hurtWorkload(x *world) error {
	if err := fillStore(2)(x); err != nil {
		return err
	}
	x.note(func(b *book) { b.hurt = true })
	return x.disk.Flip(path.Join(x.w.dir, workloadFile), 8*envelopeHead)
}

// hurtStore damages the file that says what the store is.
func hurtStore(x *world) error {
	if err := fillStore(1)(x); err != nil {
		return err
	}
	x.ledger.hurt = true
	return x.disk.Flip(path.Join(crashStore, storeFile), 8*envelopeHead)
}

// unread does something while no file of a name can be read, as happens once in
// a while with a disk that is whole.
func (x *world) unread(base string, do func() error) error {
	x.disk.Watch(func(op disk.Op) (disk.Verdict, error) {
		if op.Verb == "read" && path.Base(op.Name) == base {
			return disk.Fail, syscall.EIO
		}
		return disk.Do, nil
	})
	defer x.disk.Watch(nil)
	return do()
}

// bringIn makes a workload that is seen when it is whole, as an import does.
func (x *world) bringIn(name string) error {
	x.begin(name)
	x.note(func(b *book) { b.comes = true })
	w, own, err := x.s.Incoming(name)
	if err != nil {
		return err
	}
	x.w, x.lock = w, own
	x.note(func(b *book) { b.id, b.epoch = w.keys.workload, w.state.Epoch })
	var in *Workload
	err = firstErr(func() error {
		return x.commit(script{pages: map[int64]int{0: 3, 1: 4}})
	}, func() error {
		return x.put("policy", "from elsewhere")
	}, func() (err error) {
		in, err = x.s.Admit(w, name)
		return err
	})
	x.lock = nil
	if err != nil {
		return errors.Join(err, x.s.TurnAway(w, own))
	}
	x.w = in
	x.note(func(b *book) { b.made, b.old = sure, nil })
	return own.Close()
}

var several = script{parent: 2, pages: map[int64]int{0: 30, 1: 32, 2: 34, 3: 36, 17: 38, high / PageSize: 40}}

// scenes are all that writes to a store.
var scenes = []scene{
	{"create a store", nothing, nothing, func(x *world) error {
		return firstErr(x.open, func() error { return x.create("w") })
	}},
	{"create a workload", fillStore(1), opened, func(x *world) error { return x.create("v") }},
	{"bring a workload in", nothing, nothing, func(x *world) error {
		return firstErr(x.open, func() error { return x.bringIn("w") })
	}},
	{"the first lock", func(x *world) error {
		return firstErr(x.open, func() error { return x.create("w") })
	}, opened, func(x *world) error { return x.take("w") }},
	{"take over", fillStore(3), opened, func(x *world) error { return x.take("w") }},
	{"heal a workload", hurtWorkload, opened, func(x *world) error { return x.take("w") }},
	{"heal a workload that could not be read", fillStore(2), func(x *world) error {
		return firstErr(x.open, func() error { return x.unread(workloadFile, func() error { return x.find("w") }) })
	}, func(x *world) error { return x.relock() }},
	{"heal a store", hurtStore, opened, func(x *world) error { return x.create("v") }},
	{"heal a store that could not be read", fillStore(1), func(x *world) error {
		return x.unread(storeFile, x.open)
	}, func(x *world) error { return x.create("v") }},
	{"the first commit", fillStore(0), taken, func(x *world) error {
		return x.commit(script{pages: map[int64]int{0: 1, 1: 2, 300: 3}})
	}},
	{"commit", fillStore(3), taken, func(x *world) error {
		return x.commit(script{parent: 3, inherit: true, pages: map[int64]int{0: 50, 1: 0, 2: 51}})
	}},
	{"commit several packs", fillStore(2), taken, func(x *world) error { return x.commit(several) }},
	{"commit without a change", fillStore(2), taken, func(x *world) error {
		return x.commit(script{parent: 2, inherit: true})
	}},
	{"commit and evacuate", evacuation, taken, func(x *world) error {
		return x.commit(script{parent: 5, inherit: true, pages: map[int64]int{0: 60, 2: 61, 3: 62}})
	}},
	{"abort", fillStore(2), taken, func(x *world) error {
		c := several
		c.abort = true
		return x.commit(c)
	}},
	{"retain", fillStore(4), taken, func(x *world) error { return x.retain(1) }},
	{"retain, again", fillStore(4), taken, func(x *world) error {
		err := x.retain(2)
		if err2 := x.retain(2); err2 != nil {
			return err2
		}
		return err
	}},
	{"drop some", fillStore(4), taken, func(x *world) error { return x.drop(1, 3) }},
	{"forget the newest", fillStore(3), taken, func(x *world) error { return x.forget(3) }},
	{"make one and forget it", fillStore(2), taken, func(x *world) error {
		return firstErr(func() error {
			return x.commit(script{parent: 2, inherit: true, pages: map[int64]int{0: 50}})
		}, func() error { return x.forget(3) })
	}},
	{"forget all", fillStore(2), taken, func(x *world) error {
		return firstErr(func() error { return x.forget(1) }, func() error { return x.forget(2) })
	}},
	{"put records", fillStore(1), taken, func(x *world) error {
		return firstErr(func() error { return x.put("policy", "new") }, func() error { return x.put("second", "one") })
	}},
	{"remove a record", fillStore(1), taken, func(x *world) error { return x.put("verdict", absent) }},
	{"remove a workload", fillStore(2), opened, func(x *world) error { return x.remove("w") }},
	{"verify", fillStore(3), taken, func(x *world) error {
		found, err := x.w.Verify(context.Background())
		if err == nil && len(found) > 0 {
			return fmt.Errorf("damage: %v", found)
		}
		return err
	}},
}

// way is how a call is cut short.
type way int

const (
	cutBefore way = iota // the power goes before the call; and after the last one
	failed               // the call is not done, and says so
	lied                 // the call is done, and says that it is not
	killed               // the process ends before the call; the power stays
)

func (w way) String() string { return [...]string{"cut", "failed", "lied", "killed"}[w] }

// image is a disk after a cut, and what was promised until then.
type image struct {
	disk   *crashfs.FS
	ledger ledger
	from   string
}

// rig watches a disk in the course of a scene: it cuts, and makes calls fail.
type rig struct {
	x     *world
	name  string
	at    int // the call that is made to fail, from 1
	way   way
	err   error                         // that it reports, when it changes the disk; else it is EIO
	cuts  func(call int) []uint64       // the seeds with which the power is cut before a call
	fault func(op disk.Op) disk.Verdict // what becomes of a call; nil: it is done

	seen func(op disk.Op) // told of each call; may be nil

	sabotage func(d *crashfs.FS, op disk.Op) disk.Verdict // may be nil

	calls   int
	changes []bool // which of them change the disk
	images  []image
}

// watch is called before each call to the disk.
func (r *rig) watch(op disk.Op) (disk.Verdict, error) {
	r.x.mu.Lock()
	defer r.x.mu.Unlock()
	r.calls++
	r.changes = append(r.changes, crashfs.Changes(op))
	if crashfs.Changes(op) && (r.way != killed || r.calls <= r.at || r.at == 0) {
		r.cut(r.calls)
	}
	v := disk.Do
	switch {
	case r.at != 0 && (r.calls == r.at || r.way == killed && r.calls > r.at):
		v = disk.Fail
		r.x.ended = r.way == killed
		if r.way == lied {
			v = disk.Lie
		}
	case r.fault != nil:
		v = r.fault(op)
	}
	if r.sabotage != nil && v == disk.Do {
		v = r.sabotage(r.x.disk, op)
	}
	if r.seen != nil {
		r.seen(op)
	}
	if !crashfs.Changes(op) {
		return v, syscall.EIO
	}
	return v, r.err
}

// cut cuts the power. The caller holds the world's lock.
func (r *rig) cut(call int) {
	if r.cuts == nil {
		return
	}
	for _, seed := range r.cuts(call) {
		r.images = append(r.images, image{r.x.disk.Crash(seed), r.x.ledger.clone(), fmt.Sprintf("%s, cut before call %d, seed %d", r.name, call, seed)})
	}
}

// done ends the watching; the power may go one last time.
func (r *rig) done() {
	r.x.disk.Watch(nil)
	r.cut(r.calls + 1)
}

// recover does what is done after a cut: it opens the store, compares it with
// what was promised, and goes on. cut says whether the power was cut, or only
// a process ended.
func (x *world) recover(cut bool) {
	if err := x.open(); err != nil {
		x.breaks("the store opens", "%v", err)
		return
	}
	defer x.release()
	if d := x.s.Damage(); len(d) > 0 && !x.ledger.hurt {
		x.breaks("the store opens", "%v", d)
	}
	names, err := x.s.Names()
	if err != nil {
		x.breaks("the store opens", "names: %v", err)
		return
	}
	for _, name := range names {
		if b := x.ledger.books[name]; b == nil || b.made == never {
			x.breaks("a workload that was removed is not there", "%s", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(x.ledger.books)) {
		b := x.ledger.books[name]
		there := slices.Contains(names, name)
		if b.made == sure && !there {
			x.breaks("a workload that was made is there", "%s", name)
		}
		if len(x.broken) > 0 {
			return
		}
		if !there {
			remake := x.create
			if b.comes {
				remake = x.bringIn
			}
			if cut {
				x.name = name
				x.note(func(b *book) { *b = *newBook() })
			}
			if err := remake(name); err != nil {
				x.breaks("a name that is free can be taken", "%v", err)
				return
			}
		}
		x.workload(name, cut)
	}
	if left := slices.Concat(temps(x.disk, crashStore), temps(x.disk, crashHeads)); len(x.broken) == 0 && len(left) > 0 {
		x.breaks("nothing is left behind", "%v", left)
	}
}

// workload goes on with one workload.
func (x *world) workload(name string, cut bool) {
	x.name = name
	var err error
	if x.w, err = x.s.Workload(name); err != nil {
		x.breaks("a workload opens", "%v", err)
		return
	}
	x.note(func(b *book) {
		if b.old != nil && b.old.id == x.w.keys.workload {
			*b = *b.old
		}
		b.id = x.w.keys.workload
	})
	if x.read(cut); len(x.broken) > 0 {
		return
	}
	found, err := x.w.Verify(context.Background())
	if b := x.book(); b.hurt {
		found = slices.DeleteFunc(found, func(d Damage) bool { return d.Pack == workloadFile })
	}
	if err != nil || len(found) > 0 {
		x.breaks("verify finds nothing", "%+v, %v", found, err)
	}
	if err := x.relock(); err != nil {
		x.breaks("the next writer takes over", "%v", err)
		return
	}
	x.note(func(b *book) { b.made = sure }) // whoever only reads promises nothing
	if left, err := x.leftovers(); err != nil || len(left) > 0 {
		x.breaks("nothing is left behind", "after taking over: %v, %v", left, err)
	}
	x.goOn(cut)
}

// goOn commits and removes as the same writer does that saw a call fail.
func (x *world) goOn(cut bool) {
	var parent Generation
	gens, err := x.w.list()
	if err != nil {
		x.breaks("the next commit works", "%v", err)
		return
	}
	if len(gens) > 0 {
		parent = gens[0]
	}
	next := script{parent: parent, inherit: parent != 0, pages: map[int64]int{1: 70, 2: 72, 41: 71}}
	if err := x.commit(next); err != nil {
		x.breaks("the next commit works", "%v", err)
		return
	}
	if x.read(cut); len(x.broken) > 0 {
		return
	}
	if err := x.retain(2); err != nil {
		x.breaks("generations can be removed", "%v", err)
		return
	}
	if err := x.put("policy", "newer"); err != nil {
		x.breaks("records can be written", "%v", err)
		return
	}
	if x.read(cut); len(x.broken) > 0 {
		return
	}
	if left, err := x.leftovers(); err != nil || len(left) > 0 {
		x.breaks("nothing is left behind", "after a removal: %v, %v", left, err)
	}
}
