package durable

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
)

var (
	// ErrRetry says, where an error of a step wraps it, that the step is to be tried
	// again, after a while. Retry makes such errors.
	ErrRetry = errors.New("durable: try again")
	// ErrRunning says that the jobs of a kind are run already.
	ErrRunning = errors.New("durable: jobs are run already")
	// ErrNoJob says that there is no job of an id.
	ErrNoJob = errors.New("durable: no such job")
	// ErrRecorded says that Update was called in a step that is recorded, or over, or
	// of a job that was canceled.
	ErrRecorded = errors.New("durable: the step is recorded")
)

// Step is one step of a job: what it does, and how that is undone. Both may be
// called again after a crash, until they are recorded: what they do outside the
// database they do under Work.Key, by which others can tell a second time from
// another one.
//
// A Do whose first try fails for good, and has recorded nothing, leaves nothing: it
// is not undone itself, only the steps before it are. A step that may have had an
// effect is undone as well, and first: when an earlier try of its Do was to be tried
// again, or may have been cut off by a crash or the end of Run. So an Undo must also
// bear that nothing was done. Work.Recorded says what it can rely on.
type Step[S any] struct {
	// Name is kept with each job, and tells this step from another one that a later
	// version of the program has in its place. It may be empty, and is not given twice.
	Name string
	Do   func(ctx context.Context, w *Work[S]) error
	Undo func(ctx context.Context, w *Work[S]) error // nil: nothing is to be undone
}

// Job is a kind of long work, which spans several transactions and effects
// outside the database. Each job of it is done as a whole or undone, whatever
// crashes lie between. It is made once and given to Open, as a table is.
type Job[S any] struct {
	kind   string
	steps  []Step[S]
	states Codec[S]
	table  *Table[string, jobRecord]

	mu    sync.Mutex // guards the rest
	runs  map[*DB]*jobRun[S]
	waits map[jobWait]*jobWaiters
}

// jobWait is what somebody waits for.
type jobWait struct {
	db *DB
	id string
}

type jobWaiters struct {
	look chan struct{} // closed when it is time to look again
	n    int           // that wait
}

// NewJob returns a kind of jobs with their steps. Its name is not empty and has no
// slash. It has one table, job/KIND. The number of steps is kept with each job, and
// their names: one that has other steps now is not gone on with. So another list of
// steps gets another kind, and the old one is given to Open and run until its jobs
// have ended.
func NewJob[S any](kind string, steps ...Step[S]) *Job[S] {
	states := ValueOf[S]()
	return &Job[S]{
		kind: kind, steps: steps, states: states,
		table: NewTable("job/"+kind, WithValues[string](Codec[jobRecord](jobCodec{state: states.Name()}))),
		runs:  map[*DB]*jobRun[S]{}, waits: map[jobWait]*jobWaiters{},
	}
}

func (j *Job[S]) tableName() string { return j.table.name }

func (j *Job[S]) itself() AnyTable { return j.table }

func (j *Job[S]) codecs() (keys, values string, err error) {
	if j.kind == "" || strings.Contains(j.kind, "/") {
		return "", "", fmt.Errorf("job %q: a kind is not empty and has no slash", j.kind)
	}
	if len(j.steps) == 0 {
		return "", "", fmt.Errorf("job %q has no steps", j.kind)
	}
	for i, s := range j.steps {
		if s.Do == nil {
			return "", "", fmt.Errorf("job %q: step %d has no Do", j.kind, i)
		}
		if s.Name != "" && slices.Index(j.names(), s.Name) < i {
			return "", "", fmt.Errorf("job %q has two steps %q", j.kind, s.Name)
		}
	}
	return j.table.codecs()
}

// names are those of the steps; nil: none has one.
func (j *Job[S]) names() []string {
	names, named := make([]string, len(j.steps)), false
	for i, s := range j.steps {
		names[i] = s.Name
		named = named || s.Name != ""
	}
	if !named {
		return nil
	}
	return names
}

// JobPhase is where a job stands.
type JobPhase int

// The numbers are a part of the format.
const (
	JobRunning JobPhase = 1 // it goes forward
	JobUndoing JobPhase = 2 // a step failed: what was done is undone, the last step first
	JobDone    JobPhase = 3 // all steps are done
	JobUndone  JobPhase = 4 // all steps that were done, or may have been, are undone
	JobStuck   JobPhase = 5 // a step could not be undone: Resume tries it again
)

func (p JobPhase) String() string {
	if p < JobRunning || p > JobStuck {
		return fmt.Sprintf("phase %d", int(p))
	}
	return [...]string{"running", "undoing", "done", "undone", "stuck"}[p-JobRunning]
}

// JobStatus says how far a job is.
type JobStatus[S any] struct {
	State S
	Phase JobPhase
	Step  int    // that is done or undone next, from 0; all of a job that is done, 0 of one that is undone
	Why   string // it is undone: the error of a Do, at most 1 KiB of it, or "canceled"
	Stuck string // it is stuck: the error of an Undo
}

// Ended says whether a job is done or undone.
func (s JobStatus[S]) Ended() bool { return s.Phase == JobDone || s.Phase == JobUndone }

// jobRecord is what is durable of a job.
type jobRecord struct {
	Phase JobPhase `cbor:"1,keyasint"`
	Step  int      `cbor:"2,keyasint"` // how many steps are done, and not undone; one more if it is Unsure
	Steps int      `cbor:"3,keyasint"` // how many the kind has
	State []byte   `cbor:"4,keyasint"`
	Why   string   `cbor:"5,keyasint,omitempty"`
	Stuck string   `cbor:"6,keyasint,omitempty"`
	// No step was begun yet. The next step of any other job that goes forward may have
	// been: it is begun as soon as the one before it is recorded.
	Fresh bool `cbor:"7,keyasint,omitempty"`
	// The step that is undone next was begun, and is not recorded.
	Unsure bool `cbor:"8,keyasint,omitempty"`
	// Names are those of the steps; nil: nobody knows. One that is empty may get one.
	Names []string `cbor:"9,keyasint,omitempty"`
}

// check says whether this program knows what a record means.
func (r jobRecord) check() error {
	if r.Phase < JobRunning || r.Phase > JobStuck {
		return fmt.Errorf("%v: %w", r.Phase, ErrNewer)
	}
	least, most := 0, r.Steps
	switch r.Phase {
	case JobRunning:
		most--
	case JobUndoing, JobStuck:
		least++
	case JobDone:
		least = r.Steps
	case JobUndone:
		most = 0
	}
	if r.Step < least || r.Step > most {
		return fmt.Errorf("%v at step %d of %d: %w", r.Phase, r.Step, r.Steps, errCodec)
	}
	return nil
}

// going says whether there is something to do.
func (r jobRecord) going() bool { return r.Phase == JobRunning || r.Phase == JobUndoing }

// next is the step that is done or undone next.
func (r jobRecord) next() int {
	if r.Phase == JobUndoing || r.Phase == JobStuck {
		return r.Step - 1
	}
	return r.Step
}

// jobCodec is for records. Its name says what the state in them is encoded by.
type jobCodec struct {
	cborValue[jobRecord]
	state string
}

func (c jobCodec) Name() string { return "job/" + c.state }

// fail ends a closure with what is wrong with a job.
func (j *Job[S]) fail(tx *Tx, id string, err error) {
	tx.fail(fmt.Errorf("job %s/%.100q: %w", j.kind, id, err))
}

// get returns a record that this program knows.
func (j *Job[S]) get(tx *Tx, id string) (jobRecord, bool) {
	r, found := j.table.Get(tx, id)
	if found {
		if err := r.check(); err != nil {
			j.fail(tx, id, err)
		}
	}
	return r, found
}

func (j *Job[S]) state(tx *Tx, id string, b []byte) S {
	s, err := j.states.Decode(b)
	if err != nil {
		j.fail(tx, id, fmt.Errorf("its state: %w: %w", err, ErrType))
	}
	return s
}

func (j *Job[S]) encoded(tx *Tx, id string, s S) []byte {
	b, err := j.states.Append(nil, s)
	if err != nil {
		j.fail(tx, id, fmt.Errorf("its state: %w", err))
	}
	return b
}

func (j *Job[S]) status(tx *Tx, id string, r jobRecord) JobStatus[S] {
	return JobStatus[S]{State: j.state(tx, id, r.State), Phase: r.Phase, Step: r.next(), Why: r.Why, Stuck: r.Stuck}
}

// same says why a job cannot go on: its steps are others now.
func (j *Job[S]) same(id string, r jobRecord) error {
	if r.Steps != len(j.steps) {
		return fmt.Errorf("job %s/%.100q has %d steps, not %d: %w", j.kind, id, r.Steps, len(j.steps), ErrType)
	}
	for i, name := range r.Names {
		if i < len(j.steps) && name != "" && name != j.steps[i].Name {
			return fmt.Errorf("job %s/%.100q: its step %d is %.100q, not %.100q: %w", j.kind, id, i, name, j.steps[i].Name, ErrType)
		}
	}
	return nil
}

// Start starts a job, when the transaction is durable. The id is the caller's:
// where there is a job of that id already, ended or not, Start returns false and
// changes nothing. An id that was forgotten can be started again; its effects have
// the same keys as before.
func (j *Job[S]) Start(tx *Tx, id string, state S) bool {
	if id == "" {
		j.fail(tx, id, errors.New("the id is empty"))
	}
	if _, found := j.get(tx, id); found {
		return false
	}
	j.table.Put(tx, id, jobRecord{Phase: JobRunning, Steps: len(j.steps), State: j.encoded(tx, id, state), Fresh: true, Names: j.names()})
	j.poke(tx.db, id)
	return true
}

// Get says how far a job is, and whether there is one.
func (j *Job[S]) Get(tx *Tx, id string) (s JobStatus[S], found bool) {
	r, found := j.get(tx, id)
	if !found {
		return s, false
	}
	return j.status(tx, id, r), true
}

// All yields all jobs by their ids, in order.
func (j *Job[S]) All(tx *Tx) iter.Seq2[string, JobStatus[S]] {
	all := j.table.All(tx)
	return func(yield func(string, JobStatus[S]) bool) {
		for id, r := range all {
			if err := r.check(); err != nil {
				j.fail(tx, id, err)
			}
			if !yield(id, j.status(tx, id, r)) {
				return
			}
		}
	}
}

// Forget takes out a job that has ended. It says whether there was one.
func (j *Job[S]) Forget(tx *Tx, id string) bool {
	r, found := j.get(tx, id)
	if !found || r.going() || r.Phase == JobStuck {
		return false
	}
	j.table.Delete(tx, id)
	return true
}

// Cancel lets a job that goes forward be undone, as if the step at which it stands
// had failed; that is undone, too, if it was begun. A step that is running is not
// cut off, but its Update returns ErrRecorded from then on; what is undone is undone
// when it has returned. Cancel says whether there was one: a job whose steps are all
// recorded is done.
func (j *Job[S]) Cancel(tx *Tx, id string) bool {
	r, found := j.get(tx, id)
	if !found || r.Phase != JobRunning {
		return false
	}
	if err := j.same(id, r); err != nil {
		tx.fail(err)
	}
	j.table.Put(tx, id, j.failed(r, !r.Fresh, "canceled"))
	j.poke(tx.db, id)
	return true
}

// Resume lets a job that is stuck go on with its undoing: the step that could not
// be undone is tried again. It says whether there was one.
func (j *Job[S]) Resume(tx *Tx, id string) bool {
	r, found := j.get(tx, id)
	if !found || r.Phase != JobStuck {
		return false
	}
	if err := j.same(id, r); err != nil {
		tx.fail(err)
	}
	r.Phase, r.Stuck = JobUndoing, ""
	j.table.Put(tx, id, r)
	j.poke(tx.db, id)
	return true
}

// Wait returns when a job has ended, or is stuck, and that is durable. Somebody
// has to Run the jobs meanwhile.
//
// Errors: ErrNoJob, and those of View.
func (j *Job[S]) Wait(ctx context.Context, db *DB, id string) (s JobStatus[S], err error) {
	for {
		look, leave := j.watch(jobWait{db, id})
		var found bool
		err := db.View(ctx, func(tx *Tx) error {
			s, found = j.Get(tx, id)
			return nil
		})
		switch {
		case err == nil && !found:
			err = fmt.Errorf("job %s/%.100q: %w", j.kind, id, ErrNoJob)
		case err == nil && !s.Ended() && s.Phase != JobStuck:
			select {
			case <-look:
				leave()
				continue
			case <-ctx.Done():
				err = ctx.Err()
			case <-db.gate.empty:
				err = ErrClosed
			}
		}
		leave()
		return s, err
	}
}

// watch returns a channel that is closed when a job may have ended.
func (j *Job[S]) watch(w jobWait) (look <-chan struct{}, leave func()) {
	j.mu.Lock()
	defer j.mu.Unlock()
	all := j.waits[w]
	if all == nil {
		all = &jobWaiters{look: make(chan struct{})}
		j.waits[w] = all
	}
	all.n++
	return all.look, func() {
		j.mu.Lock()
		defer j.mu.Unlock()
		if all.n--; all.n == 0 && j.waits[w] == all {
			delete(j.waits, w)
		}
	}
}

// tell lets those look that wait for a job.
func (j *Job[S]) tell(w jobWait) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if all := j.waits[w]; all != nil {
		close(all.look)
		delete(j.waits, w)
	}
}

// poke says that a job may be there when the transaction that has the turn has
// ended.
func (j *Job[S]) poke(db *DB, id string) {
	j.mu.Lock()
	r := j.runs[db]
	j.mu.Unlock()
	if r != nil {
		r.push(id)
	}
}

// enter makes a run the one of a database.
func (j *Job[S]) enter(db *DB) (*jobRun[S], error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.runs[db] != nil {
		return nil, fmt.Errorf("job %s: %w", j.kind, ErrRunning)
	}
	r := &jobRun[S]{j: j, db: db, known: map[string]bool{}, asleep: map[string]func(){}, more: make(chan struct{}, 1), slots: make(chan struct{}, jobsAtOnce)}
	j.runs[db] = r
	return r, nil
}

// leave ends it, and lets all look who wait: the database may be unusable.
func (j *Job[S]) leave(db *DB) {
	j.mu.Lock()
	defer j.mu.Unlock()
	delete(j.runs, db)
	for w, all := range j.waits {
		if w.db == db {
			close(all.look)
			delete(j.waits, w)
		}
	}
}
