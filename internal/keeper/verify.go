package keeper

import (
	"context"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/wakepoint/wakepoint/internal/api"
	"github.com/wakepoint/wakepoint/internal/files"
	"github.com/wakepoint/wakepoint/internal/hint"
	"github.com/wakepoint/wakepoint/internal/store"
)

func damageAt(dir string, d store.Damage) api.Damage {
	out := api.Damage{File: filepath.Join(dir, d.Pack), Offset: d.Offset, What: d.What, Follows: d.Follows, Kept: d.Section == files.KeptSection, Generations: []string{}}
	if d.Err != nil {
		out.What += ": " + d.Err.Error()
	}
	for _, g := range d.Generations {
		out.Generations = append(out.Generations, g.String())
	}
	return out
}

// Verify reads every byte of the named workloads, or of all, that recovery
// acts on: generations, records, state, and the files that say what the store
// and the workloads are. Damage is no error. The store's own file is among
// what is returned when it is damaged.
func Verify(ctx context.Context, s Site, names ...string) ([]api.Verified, error) {
	return s.verify(names, func(w *store.Workload) ([]store.Damage, error) { return w.Verify(ctx) })
}

// VerifySmall is Verify that reads no pages: a generation counts as whole when
// its manifest is.
func VerifySmall(ctx context.Context, s Site, names ...string) ([]api.Verified, error) {
	return s.verify(names, func(w *store.Workload) ([]store.Damage, error) {
		small, err := w.Damage()
		if err != nil {
			return nil, err
		}
		_, damaged, err := w.Generations()
		return append(small, damaged...), errors.Join(err, ctx.Err())
	})
}

func (s Site) verify(names []string, read func(*store.Workload) ([]store.Damage, error)) ([]api.Verified, error) {
	return s.look(names, func(w *store.Workload, name string) (api.Verified, error) {
		found, err := read(w)
		if err != nil {
			return api.Verified{}, hint.Workload(name, err)
		}
		v, err := countWhole(w, name, found)
		if err != nil {
			return api.Verified{}, hint.Workload(name, err)
		}
		own, err := recordDamage(w)
		if err != nil {
			return api.Verified{}, hint.Workload(name, err)
		}
		addDamage(&v, w.Dir(), found, own)
		return v, nil
	})
}

// Damaged returns those of the named workloads, or of all, of which a file is
// damaged that says what is done with them. It reads such files alone, so that
// every command can look before it acts.
func Damaged(s Site, names ...string) ([]api.Verified, error) {
	all, err := s.look(names, func(w *store.Workload, name string) (api.Verified, error) {
		found, err := w.Damage()
		if err != nil {
			return api.Verified{}, hint.Workload(name, err)
		}
		own, err := recordDamage(w)
		if err != nil {
			return api.Verified{}, hint.Workload(name, err)
		}
		v := api.Verified{Name: name}
		addDamage(&v, w.Dir(), found, own)
		return v, nil
	})
	return slices.DeleteFunc(all, func(v api.Verified) bool { return len(v.Damage) == 0 }), err
}

// VerifyDump reads every byte of what DumpTo wrote.
func (s Site) VerifyDump(ctx context.Context, dir string) (api.Verified, error) {
	if !isDump(dir) {
		return api.Verified{}, noDump(dir)
	}
	w, err := s.openDump(dir)
	if errors.Is(err, store.ErrDamaged) {
		return lostWorkload(dir, dir, err), nil
	}
	if err != nil {
		return api.Verified{}, hint.Store(dir, err)
	}
	found, err := w.Verify(ctx)
	if err != nil {
		return api.Verified{}, hint.Store(dir, err)
	}
	v, err := countWhole(w, dir, found)
	if err != nil {
		return api.Verified{}, hint.Store(dir, err)
	}
	addDamage(&v, dir, found)
	return v, nil
}

// isDump says whether a directory is a workload, damaged or not.
func isDump(dir string) bool {
	for _, name := range []string{"workload", "manifests"} {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			return true
		}
	}
	return false
}

func noDump(dir string) *api.Error {
	return api.Errorf(api.CodeNotFound, "`wakepoint dump --to DIR PID` makes one", "%s holds no dump", dir)
}

// look calls f for workloads. What cannot be opened because it is damaged is
// among the results too.
func (s Site) look(names []string, f func(w *store.Workload, name string) (api.Verified, error)) ([]api.Verified, error) {
	st, err := s.openStore()
	var de *store.DamageError
	if errors.As(err, &de) {
		v := api.Verified{}
		addDamage(&v, "", []store.Damage{{DamageError: *de, Follows: "no workload in it can be opened"}})
		return []api.Verified{v}, nil
	}
	if err != nil {
		return nil, hint.Store(s.StoreDir, err)
	}
	var all []api.Verified
	if found := st.Damage(); len(found) > 0 {
		v := api.Verified{}
		addDamage(&v, s.StoreDir, found)
		all = append(all, v)
	}
	if len(names) == 0 {
		if names, err = st.Names(); err != nil {
			return nil, hint.Store(s.StoreDir, err)
		}
	}
	for _, name := range names {
		w, err := st.Workload(name)
		switch {
		case errors.Is(err, store.ErrNotFound), errors.Is(err, store.ErrName):
			return nil, api.Errorf(api.CodeNotFound, "`wakepoint ps` lists the workloads", "no workload %q", name)
		case errors.Is(err, store.ErrDamaged):
			all = append(all, lostWorkload(name, filepath.Join(s.StoreDir, "workloads", name), err))
			continue
		case err != nil:
			return nil, hint.Workload(name, err)
		}
		v, err := f(w, name)
		if err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return all, nil
}

// lostWorkload is one of which too much is damaged to open it.
func lostWorkload(name, dir string, err error) api.Verified {
	v := api.Verified{Name: name}
	var de *store.DamageError
	if errors.As(err, &de) {
		addDamage(&v, dir, []store.Damage{{DamageError: *de, Follows: "no generation is left that says what it held"}})
	}
	return v
}

func addDamage(v *api.Verified, dir string, lists ...[]store.Damage) {
	for _, list := range lists {
		for _, d := range list {
			if d.Follows == "" {
				d.Follows = follow(d.Pack, v.Name, dir)
			}
			v.Damage = append(v.Damage, damageAt(dir, d))
		}
	}
}

// countWhole counts the generations, and those that nothing touches.
func countWhole(w *store.Workload, name string, found []store.Damage) (api.Verified, error) {
	infos, _, err := w.Generations()
	if err != nil {
		return api.Verified{}, err
	}
	all, touched := map[store.Generation]bool{}, map[store.Generation]bool{}
	for _, i := range infos {
		all[i.Generation] = true
	}
	for _, d := range found {
		for _, g := range d.Generations {
			all[g], touched[g] = true, true
		}
	}
	return api.Verified{Name: name, Generations: len(all), Whole: len(all) - len(touched)}, nil
}

// recordDamage returns what is damaged of our own files beyond what the store
// can see: records that must be there, and the record of the command's end.
func recordDamage(w *store.Workload) ([]store.Damage, error) {
	launched, err := wasLaunched(w)
	if err != nil || !launched {
		return nil, err
	}
	var all []store.Damage
	for _, name := range []string{recordSpec, recordPolicy, recordRun} {
		if _, err := w.Record(name); errors.Is(err, fs.ErrNotExist) {
			all = append(all, store.Damage{DamageError: *missing(name)})
		}
	}
	p, err := os.ReadFile(filepath.Join(w.Dir(), waitName))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if !plausibleEnd(p) {
		all = append(all, store.Damage{DamageError: store.DamageError{Pack: waitName, What: "not what an init writes"}})
	}
	return all, nil
}

// wasLaunched says whether all records of a workload must be there: Launch
// writes the spec last, and what has a generation had one.
func wasLaunched(w recordReader) (bool, error) {
	if _, err := w.Record(recordSpec); !errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	infos, damage, err := w.Generations()
	return len(infos)+len(damage) > 0, err
}

// missing is the damage of a record that must be there.
func missing(name string) *store.DamageError {
	return &store.DamageError{Pack: "records/" + name, What: "is missing"}
}

// damagedRecord says whether err is the damage of a record.
func damagedRecord(err error, name string) bool {
	var de *store.DamageError
	return errors.As(err, &de) && filepath.Base(de.Pack) == name
}

// plausibleEnd says whether an init can have written the record of an end: it
// is empty, or a wait status (wait(2)) and whether it is one, in four bytes
// each.
// BUG: the record has no checksum, since it is written as a program dies; a
// bit that is flipped in the status itself goes unnoticed.
func plausibleEnd(p []byte) bool {
	if len(p) == 0 {
		return true
	}
	return len(p) == 8 && binary.LittleEndian.Uint32(p) <= 0xffff && binary.LittleEndian.Uint32(p[4:]) <= 1
}

// follow says what follows from damage of a file that is ours.
func follow(file, name, dir string) string {
	switch strings.TrimPrefix(file, "records/") {
	case recordSpec:
		return "nothing says what it runs, so it is not started; `wakepoint restore --from " + dir + " --new-pidns` brings its newest generation back"
	case recordPolicy:
		return "nothing says whether a crash may roll it back, so it is not started; `wakepoint set " + name + " --on-crash restore` (or fresh) writes a new one"
	case recordRun:
		return "what it was doing is unknown: it counts as down, and comes back from its newest generation"
	case recordHistory:
		return "verdicts are forgotten: a generation from which it crashed may be tried again"
	case recordPins:
		return "which generations are pinned is unknown: none goes until `wakepoint pin " + name + "@GEN` makes a new list"
	case waitName:
		return "how its command ended is unknown: that counts as a crash"
	}
	return ""
}
