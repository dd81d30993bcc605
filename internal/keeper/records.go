package keeper

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/wakepoint/wakepoint/internal/api"
	"github.com/wakepoint/wakepoint/internal/engine"
	"github.com/wakepoint/wakepoint/internal/policy"
	"github.com/wakepoint/wakepoint/internal/store"
)

// The records of a workload. Each is JSON, written durably before it is
// acted on.
const (
	recordSpec    = "spec"    // api.Spec: what it runs
	recordPolicy  = "policy"  // api.Policy: how it is looked after
	recordRun     = "run"     // runRecord: what it is doing
	recordHistory = "history" // policy.History: crashes, tries and verdicts
	recordPins    = "pins"    // pinsRecord: generations that stay
)

// runRecord is what a workload is doing and should be doing.
type runRecord struct {
	// Wanted is set as long as the workload should run: `recover` brings it
	// back. A stop, a clean end and a failure clear it.
	Wanted bool             `json:"wanted"`
	State  api.State        `json:"state"`
	Run    uint64           `json:"run"`  // how often it was started or restored
	From   store.Generation `json:"from"` // the generation that this run was restored from; 0: started afresh
	// Head is what the workload stands on as long as this run has made no
	// generation: From, and while a run is being brought up what it stood on
	// before. 0: nothing.
	Head store.Generation `json:"head"`
	// PutBack is the generation whose files are being put back: until that has
	// been done, or another's were put back, nothing may run on what is there.
	PutBack store.Generation `json:"put_back,omitempty"`
	Handle  engine.Handle    `json:"handle"`
	Started time.Time        `json:"started"`
	// Frozen says of a workload that was stopped, or halted with its machine,
	// that its newest generation is the state in which it was ended; without,
	// it ended by itself.
	Frozen   bool          `json:"frozen"`
	Ended    bool          `json:"ended"`  // Wait is valid
	Daemon   bool          `json:"daemon"` // the command ended cleanly and left processes behind
	Wait     uint32        `json:"wait"`
	Error    *api.Error    `json:"error,omitempty"`
	Recovery *api.Recovery `json:"recovery,omitempty"`
}

// headUnknown stands for whatever is newest.
const headUnknown = ^store.Generation(0)

// pastMax bounds the closed incidents that are remembered.
const pastMax = 20

// files of a keeper in its workload's directory, beside the store's.
const (
	waitName  = "wait"       // the init records the command's end in it
	beatName  = "heartbeat"  // its mtime is when the keeper last saw the tree alive
	logName   = "keeper.log" // what keeper and guard say
	heartbeat = 2 * time.Second
)

type recorder interface {
	PutRecord(name string, data []byte) error
	Record(name string) ([]byte, error)
}

// recordReader is what the records are read from.
type recordReader interface {
	recorder
	Generations() ([]store.Info, []store.Damage, error)
}

func putRecord(r recorder, name string, v any) error {
	p, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("record %s: %w", name, err)
	}
	return r.PutRecord(name, p)
}

func getRecord(r recorder, name string, v any) error {
	p, err := r.Record(name)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(p, v); err != nil {
		return fmt.Errorf("record %s: %w", name, err)
	}
	return nil
}

// records is all of a workload's records.
type records struct {
	spec    api.Spec
	policy  api.Policy
	run     runRecord
	history policy.History
	pins    pinsRecord
}

// lostRun is the record of a run that was lost, as far as generations tell:
// what runs, or ran, most likely made those of the last run. Where all that
// there is was imported, nobody has started it here yet.
func lostRun(r recordReader) (runRecord, error) {
	l, err := readLineage(r)
	out := runRecord{Wanted: true, State: api.Down, Head: headUnknown}
	for _, i := range l.infos {
		if n := metaNumber(i, metaRun); n > out.Run {
			out.Run, out.From = n, store.Generation(metaNumber(i, metaFrom))
		}
	}
	if len(l.infos) > 0 && len(l.damaged) == 0 && !slices.ContainsFunc(l.infos, func(i store.Info) bool { return i.Meta[metaImported] == "" }) {
		out.Wanted, out.State, out.Frozen = false, api.Stopped, true
	}
	return out, err
}

// readRecords reads them all. A workload without a spec and without
// generations was never launched: fs.ErrNotExist; of any other the spec and
// the policy must be there and whole. A missing or damaged history is an empty
// one: it says what to avoid, and nothing that is needed to restore. Without the pins
// nothing is removed. Of a run
// that is missing or damaged it is not known what it did; that it was there is.
// Damaged says so to whoever acts on it.
func readRecords(r recordReader) (records, error) {
	var out records
	launched, err := wasLaunched(r)
	if err != nil {
		return out, err
	}
	for _, c := range []struct {
		name string
		into any
	}{{recordSpec, &out.spec}, {recordPolicy, &out.policy}} {
		err := getRecord(r, c.name, c.into)
		if errors.Is(err, fs.ErrNotExist) && launched {
			err = missing(c.name)
		}
		if err != nil {
			return out, err
		}
	}
	switch err := getRecord(r, recordRun, &out.run); {
	case errors.Is(err, store.ErrDamaged), errors.Is(err, fs.ErrNotExist):
		if out.run, err = lostRun(r); err != nil {
			return out, err
		}
	case err != nil:
		return out, err
	}
	if err := getRecord(r, recordHistory, &out.history); err != nil {
		out.history = policy.History{}
	}
	out.pins = readPins(r)
	return out, nil
}
