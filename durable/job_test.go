package durable

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wakepoint/wakepoint/internal/disk/crashfs"
)

// trip is the state of the jobs of these tests.
type trip struct {
	Seen []string `cbor:"1,keyasint"`
}

// calls are what steps were called, in order.
type calls struct {
	mu  sync.Mutex // guards all
	all []string
}

func (c *calls) add(s string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all = append(c.all, s)
}

func (c *calls) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.Join(c.all, " ")
}

// hook is what a step of a plan does beside noting that it was called.
type hook func(ctx context.Context, w *Work[trip]) error

// planned makes a job of three steps: each does what a hook says for its key
// without kind and id ("1/do").
func planned(c *calls, hooks map[string]hook) *Job[trip] {
	way := func(ctx context.Context, w *Work[trip]) error {
		name := strings.TrimPrefix(w.Key(), "trip/"+w.ID()+"/")
		c.add(name)
		if h := hooks[name]; h != nil {
			return h(ctx, w)
		}
		return nil
	}
	return NewJob("trip", Step[trip]{Do: way, Undo: way}, Step[trip]{Do: way}, Step[trip]{Do: way, Undo: way})
}

// withJob opens a database with a job.
func withJob[S any](t *testing.T, d FS, j *Job[S]) *DB {
	t.Helper()
	db, _, err := Open(ctx, Options{Dir: "/db", FS: d, segment: 1 << 18}, j)
	must(t, err)
	t.Cleanup(func() { db.Close() })
	return db
}

func startJob[S any](t *testing.T, db *DB, j *Job[S], id string) {
	t.Helper()
	must(t, db.Update(ctx, func(tx *Tx) error {
		var s S
		if !j.Start(tx, id, s) {
			return errors.New("it was there")
		}
		return nil
	}))
}

// running runs the jobs until stop is called, which returns why they ended.
func running[S any](db *DB, j *Job[S]) (stop func() error) {
	own, cancel := context.WithCancel(ctx)
	over := make(chan error, 1)
	go func() { over <- j.Run(own, db) }()
	return func() error {
		cancel()
		return <-over
	}
}

// fails is a hook that says no.
func fails(context.Context, *Work[trip]) error { return errBoom }

// seen is a hook that notes in the state that it was there, and then returns err.
func seen(err error) hook {
	return func(ctx context.Context, w *Work[trip]) error {
		return errors.Join(w.Update(ctx, func(_ *Tx, s *trip) error {
			s.Seen = append(s.Seen, w.Key())
			return nil
		}), err)
	}
}

// times is a hook that does one thing n times, and then another.
func times(n int, first, then hook) hook {
	var called atomic.Int64
	return func(ctx context.Context, w *Work[trip]) error {
		if called.Add(1) <= int64(n) {
			return first(ctx, w)
		}
		return then(ctx, w)
	}
}

func nothing(context.Context, *Work[trip]) error { return nil }

func again(context.Context, *Work[trip]) error { return Retry(errBoom, 0) }

func full(context.Context, *Work[trip]) error { return fmt.Errorf("no room: %w", ErrFull) }

func long(context.Context, *Work[trip]) error {
	return errors.New("\xff" + strings.Repeat("ü", whyMax))
}

// swallowed has an Update that fails, and says nothing.
func swallowed(ctx context.Context, w *Work[trip]) error {
	_ = w.Update(ctx, func(*Tx, *trip) error { return errBoom })
	return nil
}

// jobCase is what becomes of a job of three steps, by what they return.
type jobCase struct {
	hooks map[string]hook
	calls string
	want  JobStatus[trip]
}

// run runs the job; one that is cut off stays where it is, and another run goes on.
func (c jobCase) run(t *testing.T, cut bool) {
	synctest.Test(t, func(t *testing.T) {
		said := &calls{}
		j := planned(said, c.hooks)
		db := withJob(t, crashfs.New(), j)
		startJob(t, db, j, "id")
		stop := running(db, j)
		if cut {
			time.Sleep(time.Minute)
			if err := stop(); !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
			stop = running(db, j)
		}
		got, err := j.Wait(ctx, db, "id")
		must(t, err)
		if fmt.Sprint(got) != fmt.Sprint(c.want) || said.String() != c.calls {
			t.Errorf("it is %+v after %v", got, said)
		}
		if err := stop(); !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
		must(t, db.Close())
	})
}

// TestJob: what becomes of a job, by what its steps return.
func TestJob(t *testing.T) {
	const forward, back = "0/do 1/do 2/do", "0/do 1/do 2/do 0/undo"
	twice := func(ctx context.Context, w *Work[trip]) error {
		if err := w.Update(ctx, func(*Tx, *trip) error { return errBoom }); err != errBoom {
			return err
		}
		must(t, seen(nil)(ctx, w))
		if err := seen(nil)(ctx, w); !errors.Is(err, ErrRecorded) {
			t.Errorf("a second Update: %v", err)
		}
		if s := w.State(); len(s.Seen) != 1 {
			t.Errorf("the state is %v", s)
		}
		return nil
	}
	for name, c := range map[string]jobCase{
		"done":         {nil, forward, JobStatus[trip]{Phase: JobDone, Step: 3}},
		"fails first":  {map[string]hook{"0/do": fails}, "0/do", JobStatus[trip]{Phase: JobUndone, Why: "boom"}},
		"fails second": {map[string]hook{"1/do": fails}, "0/do 1/do 0/undo", JobStatus[trip]{Phase: JobUndone, Why: "boom"}},
		"fails last":   {map[string]hook{"2/do": fails}, back, JobStatus[trip]{Phase: JobUndone, Why: "boom"}},
		"in the state": {map[string]hook{"0/do": seen(nil), "2/do": fails, "0/undo": seen(nil)}, back,
			JobStatus[trip]{State: trip{[]string{"trip/id/0/do", "trip/id/0/undo"}}, Phase: JobUndone, Why: "boom"}},
		"fails behind its record": {map[string]hook{"0/do": seen(errBoom), "2/do": seen(Retry(errBoom, 0))}, forward,
			JobStatus[trip]{State: trip{[]string{"trip/id/0/do", "trip/id/2/do"}}, Phase: JobDone, Step: 3}},
		"undone, and fails behind": {map[string]hook{"2/do": fails, "0/undo": seen(errBoom)}, back,
			JobStatus[trip]{State: trip{[]string{"trip/id/0/undo"}}, Phase: JobUndone, Why: "boom"}},
		"retried":      {map[string]hook{"1/do": times(2, again, nothing)}, "0/do 1/do 1/do 1/do 2/do", JobStatus[trip]{Phase: JobDone, Step: 3}},
		"retried full": {map[string]hook{"1/do": times(1, full, nothing)}, "0/do 1/do 1/do 2/do", JobStatus[trip]{Phase: JobDone, Step: 3}},
		"retried, then fails": {map[string]hook{"1/do": times(1, again, fails)}, "0/do 1/do 1/do 0/undo",
			JobStatus[trip]{Phase: JobUndone, Why: "boom"}},
		"undo retried": {map[string]hook{"2/do": fails, "0/undo": times(1, again, nothing)}, back + " 0/undo", JobStatus[trip]{Phase: JobUndone, Why: "boom"}},
		"stuck":        {map[string]hook{"2/do": fails, "0/undo": fails}, back, JobStatus[trip]{Phase: JobStuck, Why: "boom", Stuck: "boom"}},
		"swallowed":    {map[string]hook{"0/do": swallowed}, "0/do", JobStatus[trip]{Phase: JobUndone, Why: "boom"}},
		"twice":        {map[string]hook{"1/do": twice}, forward, JobStatus[trip]{State: trip{[]string{"trip/id/1/do"}}, Phase: JobDone, Step: 3}},
		"long error": {map[string]hook{"0/do": long}, "0/do",
			JobStatus[trip]{Phase: JobUndone, Why: strings.Repeat("ü", (whyMax-2)/2)}},
	} {
		t.Run(name, func(t *testing.T) { c.run(t, false) })
	}
}

// TestJobResume: a job that is stuck waits for a person, also over a start.
func TestJobResume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		said, d := &calls{}, crashfs.New()
		j := planned(said, map[string]hook{"1/do": fails, "0/undo": times(1, fails, nothing)})
		db := withJob(t, d, j)
		startJob(t, db, j, "id")
		stop := running(db, j)
		_, err := j.Wait(ctx, db, "id")
		must(t, err)
		must(t, db.Update(ctx, func(tx *Tx) error {
			if j.Forget(tx, "id") || j.Resume(tx, "other") || j.Start(tx, "id", trip{}) {
				t.Error("one that is stuck is forgotten, or another one goes on")
			}
			return nil
		}))
		stop()
		must(t, db.Close())
		db = withJob(t, d, j)
		stop = running(db, j)
		synctest.Wait()
		if s := said.String(); s != "0/do 1/do 0/undo" {
			t.Errorf("calls: %s", s)
		}
		must(t, db.Update(ctx, func(tx *Tx) error {
			if !j.Resume(tx, "id") || j.Resume(tx, "id") {
				t.Error("it was not stuck, or is still")
			}
			return nil
		}))
		s, err := j.Wait(ctx, db, "id")
		if err != nil || s.Phase != JobUndone || s.Stuck != "" || said.String() != "0/do 1/do 0/undo 0/undo" {
			t.Errorf("%+v, %v, after %v", s, err, said)
		}
		must(t, db.Update(ctx, func(tx *Tx) error {
			if !j.Forget(tx, "id") || j.Forget(tx, "id") {
				t.Error("it was not forgotten, or twice")
			}
			return nil
		}))
		if _, err := j.Wait(ctx, db, "id"); !errors.Is(err, ErrNoJob) {
			t.Errorf("Wait for one that was forgotten: %v", err)
		}
		startJob(t, db, j, "id") // anew
		if s, err := j.Wait(ctx, db, "id"); err != nil || s.Phase != JobUndone {
			t.Errorf("%+v, %v", s, err)
		}
		stop()
		must(t, db.Close())
	})
}

// TestJobMany: jobs are at work together, as many as there may be, and those that
// wait to be tried again hold up nobody.
func TestJobMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var at, most atomic.Int64
		var waiting atomic.Bool
		waiting.Store(true)
		j := NewJob("many", Step[int]{Do: func(ctx context.Context, w *Work[int]) error {
			if strings.HasPrefix(w.ID(), "0") && waiting.Load() {
				return Retry(errBoom, time.Hour)
			}
			most.Store(max(most.Load(), at.Add(1)))
			defer at.Add(-1)
			time.Sleep(time.Second)
			return nil
		}})
		db := withJob(t, crashfs.New(), j)
		must(t, db.Update(ctx, func(tx *Tx) error {
			for i := range 50 {
				j.Start(tx, fmt.Sprintf("0%02d", i), i)
			}
			return nil
		}))
		stop := running(db, j)
		synctest.Wait()
		must(t, db.Update(ctx, func(tx *Tx) error {
			for i := range 50 {
				j.Start(tx, fmt.Sprintf("1%02d", i), i)
			}
			return nil
		}))
		began := time.Now()
		for i := range 50 {
			if _, err := j.Wait(ctx, db, fmt.Sprintf("1%02d", i)); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(began); took > time.Minute || most.Load() != jobsAtOnce {
			t.Errorf("%d at once, after %v", most.Load(), took)
		}
		waiting.Store(false)
		for i := range 50 {
			if s, err := j.Wait(ctx, db, fmt.Sprintf("0%02d", i)); err != nil || s.State != i {
				t.Fatal(s, err)
			}
		}
		must(t, db.View(ctx, func(tx *Tx) error {
			var ids []string
			for id, s := range j.All(tx) {
				if ids = append(ids, id); s.Phase != JobDone {
					t.Errorf("%s is %v", id, s.Phase)
				}
			}
			if len(ids) != 100 || !slices.IsSorted(ids) {
				t.Errorf("there are %v", ids)
			}
			return nil
		}))
		stop()
		must(t, db.Close())
	})
}

// TestJobStops: a context that ends at any instant leaves the job where it is, and
// the next run goes on with it.
func TestJobStops(t *testing.T) {
	for _, back := range []bool{false, true} {
		for point := 1; ; point++ {
			reached := false
			synctest.Test(t, func(t *testing.T) {
				var own context.Context
				var cancel context.CancelFunc
				n := 0
				tick := func() {
					if n++; n == point {
						reached = true
						cancel()
					}
				}
				way := func(ctx context.Context, w *Work[trip]) error {
					if tick(); n != point && ctx.Err() != nil {
						t.Errorf("point %d: a step begins later", point)
					}
					err := w.Update(ctx, func(_ *Tx, s *trip) error {
						s.Seen = append(s.Seen, w.Key())
						tick()
						return nil
					})
					if tick(); err != nil {
						return err
					}
					return nil
				}
				last := way
				if back {
					last = func(context.Context, *Work[trip]) error { tick(); return errBoom }
				}
				j := NewJob("trip", Step[trip]{Do: way, Undo: way}, Step[trip]{Do: way, Undo: way}, Step[trip]{Do: last, Undo: way})
				db := withJob(t, crashfs.New(), j)
				startJob(t, db, j, "id")
				own, cancel = context.WithCancel(ctx)
				over := make(chan error)
				go func() { over <- j.Run(own, db) }()
				synctest.Wait()
				cancel()
				if err := <-over; !errors.Is(err, context.Canceled) {
					t.Errorf("point %d: Run: %v", point, err)
				}
				own, cancel = context.WithCancel(ctx)
				stop := running(db, j)
				s, err := j.Wait(ctx, db, "id")
				want := "[trip/id/0/do trip/id/1/do trip/id/2/do] done"
				if back {
					want = "[trip/id/0/do trip/id/1/do trip/id/1/undo trip/id/0/undo] undone"
				}
				if point >= 5 && point <= 7 { // step 1 was recorded: who knows what the last one had done
					want = strings.Replace(want, "trip/id/1/undo", "trip/id/2/undo trip/id/1/undo", 1)
				}
				if got := fmt.Sprint(s.State.Seen, " ", s.Phase); got != want || err != nil {
					t.Errorf("point %d: %s, %v", point, got, err)
				}
				cancel()
				stop()
				must(t, db.Close())
			})
			if !reached {
				if point < 10 {
					t.Errorf("only %d points", point)
				}
				break
			}
		}
	}
}

// TestJobStarts: one that is started while jobs are run, by a transaction that is
// taken back, is not there; and no step is done before that is durable.
func TestJobStarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		said := &calls{}
		j := planned(said, nil)
		db := withJob(t, crashfs.New(), j)
		stop := running(db, j)
		err := db.Update(ctx, func(tx *Tx) error {
			if !j.Start(tx, "id", trip{}) || j.Start(tx, "id", trip{}) {
				t.Error("it is there, or twice")
			}
			if s, found := j.Get(tx, "id"); !found || s.Phase != JobRunning || s.Step != 0 {
				t.Errorf("%+v, %v", s, found)
			}
			time.Sleep(10 * time.Millisecond) // the run is at work already
			return errBoom
		})
		synctest.Wait()
		if err != errBoom || said.String() != "" {
			t.Errorf("%v, calls: %v", err, said)
		}
		stop()
		for id, running := range map[string]bool{"before": false, "meanwhile": true} {
			over := make(chan error)
			own, cancel := context.WithCancel(ctx)
			run := func() { over <- j.Run(own, db) }
			if running {
				go run()
				synctest.Wait()
			}
			must(t, db.Update(ctx, func(tx *Tx) error {
				j.Start(tx, id, trip{})
				if !running {
					go run()
				}
				time.Sleep(10 * time.Millisecond)
				return nil
			}))
			_, err = j.Wait(ctx, db, id)
			must(t, err)
			cancel()
			<-over
		}
		must(t, db.Close())
	})
}

// TestJobPause: it grows, within bounds, and what is said counts.
func TestJobPause(t *testing.T) {
	for before := range 100 {
		want := retryLast
		if before < 10 {
			want = retryFirst << before
		}
		if d := pause(errBoom, before); d > want || d < want/2 {
			t.Errorf("pause %d is %v", before, d)
		}
	}
	if d := pause(fmt.Errorf("it says: %w", Retry(errBoom, time.Hour)), 3); d != time.Hour {
		t.Errorf("it is %v", d)
	}
}

// TestJobLog: what a person has to do something about is an error in the log.
func TestJobLog(t *testing.T) {
	for want, hooks := range map[string]map[string]hook{
		"trip/id/0/undo":         {"1/do": fails, "0/undo": fails},
		"trip/id/0/do":           {"0/do": times(1, bursts, nothing)},
		"durable.bursts":         {"0/do": times(1, bursts, nothing)}, // the stack
		"panic=\"out of range\"": {"0/do": times(1, bursts, nothing)},
	} {
		var b strings.Builder
		j := planned(&calls{}, hooks)
		db, _, err := Open(ctx, Options{Dir: "/db", FS: crashfs.New(), segment: 1 << 18, Logger: slog.New(slog.NewTextHandler(&b, nil))}, j)
		must(t, err)
		startJob(t, db, j, "id")
		stop := running(db, j)
		_, err = j.Wait(ctx, db, "id")
		must(t, err)
		stop()
		must(t, db.Close())
		if !strings.Contains(b.String(), "level=ERROR") || !strings.Contains(b.String(), want) {
			t.Errorf("the log does not say %s: %s", want, &b)
		}
	}
}
