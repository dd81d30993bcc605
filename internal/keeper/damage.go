package keeper

import (
	"errors"
	"io/fs"

	"github.com/wakepoint/wakepoint/internal/api"
	"github.com/wakepoint/wakepoint/internal/hint"
	"github.com/wakepoint/wakepoint/internal/store"
)

// damagedError says that a workload's own files, not its generations, are
// damaged: it cannot be started, but it can be removed.
func damagedError(name string, err error) *api.Error {
	return api.Errorf(api.CodeIntegrity, "`wakepoint verify "+name+"` shows all damage, and what can be done; `wakepoint rm "+name+" --yes` deletes it", "%w", err)
}

// recordsOf reads the records of a workload. Damage is an error of code 7; a
// workload whose launch was cut short before anything ran is none, code 4.
func recordsOf(w *store.Workload, name string) (records, error) {
	rec, err := readRecords(w)
	switch {
	case err == nil:
		return rec, nil
	case errors.Is(err, store.ErrDamaged):
		return rec, damagedError(name, err)
	case !errors.Is(err, fs.ErrNotExist):
		return rec, hint.Workload(name, err)
	}
	return rec, api.Errorf(api.CodeNotFound, "`wakepoint rm "+name+"` frees the name", "the launch of %s was cut short", name)
}

// salvage opens what there is of a workload, damaged or not.
func (s Site) salvage(name string) (*store.Workload, error) {
	st, err := s.open()
	if err != nil {
		return nil, err
	}
	w, err := st.Salvage(name)
	if errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrName) {
		return nil, noWorkload(name)
	}
	if err != nil {
		return nil, hint.Store(s.StoreDir, err)
	}
	return w, nil
}

// damagedStatus is what can still be said of a workload that is damaged and
// has no keeper.
func damagedStatus(w *store.Workload, name string) api.Status {
	var rec records
	_ = getRecord(w, recordSpec, &rec.spec) // each as far as it can be read
	_ = getRecord(w, recordPolicy, &rec.policy)
	_ = getRecord(w, recordRun, &rec.run)
	v := describe(rec, w.Dir())
	v.Name, v.State, v.PID = name, api.Damaged, 0
	if (realMachine{}).Alive(rec.run.Handle) {
		v.PID = int(rec.run.Handle.Command)
	}
	if l, err := readLineage(realVault{w}); err == nil {
		addNewest(&v, l)
	}
	v.SizeBytes, _ = w.Size()
	return v
}
