package durable

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wakepoint/wakepoint/internal/disk/crashfs"
)

// TestJobRefused: what cannot be is refused by name.
func TestJobRefused(t *testing.T) {
	do := Step[int]{Do: func(context.Context, *Work[int]) error { return nil }}
	for want, j := range map[string]*Job[int]{
		"not empty":     NewJob("", do),
		"no slash":      NewJob("a/b", do),
		"no steps":      NewJob[int]("none"),
		"two steps":     NewJob("same", Step[int]{Name: "a", Do: do.Do}, do, Step[int]{Name: "a", Do: do.Do}),
		"has no Do":     NewJob("half", do, Step[int]{Undo: do.Do}),
		"a name has":    NewJob(strings.Repeat("k", KeyMax), do),
		"was given twi": NewJob("twice", do),
	} {
		_, _, err := Open(ctx, Options{Dir: "/db", FS: crashfs.New(), segment: 1 << 18}, j, NewJob("twice", do))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	j := NewJob("j", do)
	db := withJob(t, crashfs.New(), j)
	call := func(f func(tx *Tx)) error {
		return db.Update(ctx, func(tx *Tx) error { f(tx); return nil })
	}
	if err := call(func(tx *Tx) { j.Start(tx, "", 1) }); err == nil || !strings.Contains(err.Error(), "empty") {
		t.Errorf("no id: %v", err)
	}
	if err := call(func(tx *Tx) { j.Start(tx, strings.Repeat("i", KeyMax+1), 1) }); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a long id: %v", err)
	}
	must(t, call(func(tx *Tx) { j.Start(tx, strings.Repeat("i", KeyMax), 1) }))
	if err := db.View(ctx, func(tx *Tx) error { j.Start(tx, "view", 1); return nil }); !errors.Is(err, ErrReadOnly) {
		t.Errorf("in a view: %v", err)
	}
	foreign := NewJob("foreign", do)
	if err := call(func(tx *Tx) { foreign.Start(tx, "id", 1) }); err == nil || !strings.Contains(err.Error(), "job/foreign") {
		t.Errorf("Start of one that Open does not know: %v", err)
	}
	if err := foreign.Run(ctx, db); err == nil || !strings.Contains(err.Error(), "job/foreign") {
		t.Errorf("Run of one that Open does not know: %v", err)
	}
	if _, err := j.Wait(ctx, db, "none"); !errors.Is(err, ErrNoJob) {
		t.Errorf("Wait for none: %v", err)
	}
	own, cancel := context.WithCancel(ctx)
	cancel()
	if err := j.Run(own, db); err != context.Canceled {
		t.Errorf("Run until yesterday: %v", err)
	}
	if Retry(nil, 0) != nil || !errors.Is(Retry(errBoom, 0), errBoom) {
		t.Error("Retry is not what it was made of")
	}
}

// TestJobRunTwice: one run at a time; and it ends when the database is closed, as
// does who waits.
func TestJobRunTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := NewJob("j", Step[int]{Do: func(ctx context.Context, _ *Work[int]) error { return Retry(errBoom, time.Hour) }})
		db := withJob(t, crashfs.New(), j)
		startJob(t, db, j, "id")
		over, waited := make(chan error), make(chan error)
		go func() { over <- j.Run(ctx, db) }()
		go func() { _, err := j.Wait(ctx, db, "id"); waited <- err }()
		synctest.Wait()
		if err := j.Run(ctx, db); !errors.Is(err, ErrRunning) {
			t.Errorf("a second run: %v", err)
		}
		own, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		if _, err := j.Wait(own, db, "id"); err != context.DeadlineExceeded {
			t.Errorf("Wait for a minute: %v", err)
		}
		must(t, db.Close())
		if err := <-over; !errors.Is(err, ErrClosed) {
			t.Errorf("Run: %v", err)
		}
		if err := <-waited; !errors.Is(err, ErrClosed) {
			t.Errorf("Wait: %v", err)
		}
		if len(j.runs)+len(j.waits) > 0 {
			t.Error("something is left of it")
		}
	})
}

// refused checks for an error, and that it says of what it is.
func refused(t *testing.T, err, want error, name string) {
	t.Helper()
	if !errors.Is(err, want) || !strings.Contains(fmt.Sprint(err), name) {
		t.Errorf("%v", err)
	}
}

// TestJobOther: jobs of other programs are refused by name, and stay as they are.
func TestJobOther(t *testing.T) {
	do := Step[int]{Do: func(context.Context, *Work[int]) error { return nil }, Undo: func(context.Context, *Work[int]) error { return nil }}
	narrow := Step[int8]{Do: func(context.Context, *Work[int8]) error { return nil }}
	d := crashfs.New()
	two := NewJob("j", do, do)
	db := withJob(t, d, two)
	startJob(t, db, two, "id")
	must(t, db.Update(ctx, func(tx *Tx) error {
		two.table.Put(tx, "stuck", jobRecord{Phase: JobStuck, Step: 1, Steps: 2, State: []byte{0}})
		two.table.Put(tx, "done", jobRecord{Phase: JobDone, Step: 2, Steps: 2, State: []byte{0}})
		two.table.Put(tx, "wide", jobRecord{Phase: JobRunning, Steps: 2, State: []byte{0x19, 1, 0}}) // 256
		return nil
	}))
	must(t, db.Close())
	for _, n := range []int{1, 3} {
		other := NewJob("j", slices.Repeat([]Step[int]{do}, n)...)
		db = withJob(t, d, other)
		refused(t, other.Run(ctx, db), ErrType, `job j/"id" has 2 steps`)
		refused(t, db.Update(ctx, func(tx *Tx) error { other.Resume(tx, "stuck"); return nil }), ErrType, "stuck")
		must(t, db.View(ctx, func(tx *Tx) error {
			if s, found := other.Get(tx, "done"); !found || s.Phase != JobDone || s.Step != 2 {
				t.Errorf("%+v, %v", s, found)
			}
			return nil
		}))
		must(t, db.Close())
	}
	state := NewJob("j", narrow, narrow)
	db = withJob(t, d, state)
	refused(t, state.Run(ctx, db), ErrType, `job j/"wide": its state`)
	must(t, db.Close())
	strung := NewJob("j", Step[string]{Do: func(context.Context, *Work[string]) error { return nil }})
	_, _, err := Open(ctx, Options{Dir: "/db", FS: d, segment: 1 << 18}, strung)
	refused(t, err, ErrType, "job/j")
	db = withJob(t, d, NewJob("k", do)) // j is not given: it stays
	must(t, db.Close())
	db = withJob(t, d, two)
	stop := running(db, two)
	if s, err := two.Wait(ctx, db, "id"); err != nil || s.Phase != JobDone {
		t.Errorf("%+v, %v", s, err)
	}
	stop()
}

// TestJobNames: steps that others have taken the place of are noticed by their
// names, those that have none by nothing, and jobs from before names go on.
func TestJobNames(t *testing.T) {
	type names [2]string
	made := func(n names, said *calls) *Job[int] {
		step := func(name string) Step[int] {
			return Step[int]{Name: name, Do: func(context.Context, *Work[int]) error { said.add(name); return nil }}
		}
		return NewJob("j", step(n[0]), step(n[1]))
	}
	for _, c := range []struct {
		was, is names
		wrong   string
	}{
		{names{"reserve", "pay"}, names{"reserve", "pay"}, ""},
		{names{"reserve", "pay"}, names{"pay", "reserve"}, `its step 0 is "reserve", not "pay"`},
		{names{"reserve", "pay"}, names{"reserve", "mail"}, `its step 1 is "pay", not "mail"`},
		{names{"reserve", "pay"}, names{"", "pay"}, `its step 0 is "reserve", not ""`},
		{names{"", "pay"}, names{"reserve", "pay"}, ""},
		{names{"", ""}, names{"reserve", "pay"}, ""}, // as from before names
	} {
		d, said := crashfs.New(), &calls{}
		before := made(c.was, said)
		db := withJob(t, d, before)
		startJob(t, db, before, "id")
		must(t, db.Update(ctx, func(tx *Tx) error {
			r, _ := before.get(tx, "id")
			r.Phase, r.Step, r.Stuck = JobStuck, 1, "boom"
			before.table.Put(tx, "stuck", r)
			return nil
		}))
		must(t, db.Close())
		after := made(c.is, said)
		db = withJob(t, d, after)
		if c.wrong != "" {
			refused(t, after.Run(ctx, db), ErrType, `job j/"id": `+c.wrong)
			refused(t, db.Update(ctx, func(tx *Tx) error { after.Resume(tx, "stuck"); return nil }), ErrType, c.wrong)
			if said.String() != "" {
				t.Errorf("%v as %v: %v were called", c.was, c.is, said)
			}
		} else {
			stop := running(db, after)
			if s, err := after.Wait(ctx, db, "id"); err != nil || s.Phase != JobDone || said.String() != strings.Join(c.is[:], " ") {
				t.Errorf("%v as %v: %+v, %v after %v", c.was, c.is, s, err, said)
			}
			stop()
		}
		must(t, db.Close())
	}
}

// TestJobRecords: those that mean nothing, or nothing yet, are refused by name.
func TestJobRecords(t *testing.T) {
	do := Step[int]{Do: func(context.Context, *Work[int]) error { return nil }}
	d, j := crashfs.New(), NewJob("j", do, do)
	var db *DB
	for name, c := range map[string]struct {
		jobRecord
		want error
	}{
		"newer": {jobRecord{Phase: 6, Steps: 2}, ErrNewer}, "zero": {jobRecord{Steps: 2}, ErrNewer},
		"beyond": {jobRecord{Phase: JobRunning, Step: 2, Steps: 2}, errCodec}, "before": {jobRecord{Phase: JobUndoing, Steps: 2}, errCodec},
		"less": {jobRecord{Phase: JobDone, Step: 1, Steps: 2}, errCodec}, "more": {jobRecord{Phase: JobUndone, Step: 1, Steps: 2}, errCodec},
	} {
		db = withJob(t, d, j)
		must(t, db.Update(ctx, func(tx *Tx) error { j.table.Put(tx, name, c.jobRecord); return nil }))
		for _, f := range []func(tx *Tx){
			func(tx *Tx) { j.Get(tx, name) }, func(tx *Tx) { j.Start(tx, name, 1) }, func(tx *Tx) { j.Forget(tx, name) },
			func(tx *Tx) {
				for range j.All(tx) {
				}
			},
		} {
			refused(t, db.Update(ctx, func(tx *Tx) error { f(tx); return nil }), c.want, name)
		}
		refused(t, j.Run(ctx, db), c.want, name)
		must(t, db.Update(ctx, func(tx *Tx) error { j.table.Delete(tx, name); return nil }))
		must(t, db.Close())
	}
}

// TestJobAnew: a job that is started under an id whose last one ended is another
// one, also when the last step of that is still busy.
func TestJobAnew(t *testing.T) {
	for name, end := range map[string]hook{"nil": nothing, "error": fails, "retry": again, "recorded": seen(nil)} {
		synctest.Test(t, func(t *testing.T) {
			first, on := make(chan bool), make(chan bool)
			j := NewJob("trip", Step[trip]{Do: times(1, func(ctx context.Context, w *Work[trip]) error {
				must(t, seen(nil)(ctx, w))
				first <- true
				<-on
				return end(ctx, w)
			}, nothing)})
			db := withJob(t, crashfs.New(), j)
			startJob(t, db, j, "id")
			stop := running(db, j)
			<-first
			must(t, db.Update(ctx, func(tx *Tx) error {
				if !j.Forget(tx, "id") || !j.Start(tx, "id", trip{[]string{name}}) {
					t.Error("it has not ended")
				}
				return nil
			}))
			on <- true
			s, err := j.Wait(ctx, db, "id")
			if got := fmt.Sprint(s.State.Seen, s.Phase, s.Why, err); got != "["+name+"] done<nil>" {
				t.Errorf("%s: %s", name, got)
			}
			stop()
			must(t, db.Close())
		})
	}
}

// TestJobWork: what a step has kept of its work is of no use behind it.
func TestJobWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var kept *Work[trip]
		j := planned(&calls{}, map[string]hook{"0/do": times(1, func(_ context.Context, w *Work[trip]) error {
			kept = w
			return Retry(errBoom, time.Hour)
		}, nothing)})
		db := withJob(t, crashfs.New(), j)
		startJob(t, db, j, "id")
		stop := running(db, j)
		synctest.Wait()
		if err := seen(nil)(ctx, kept); !errors.Is(err, ErrRecorded) {
			t.Errorf("Update of a step that is over: %v", err)
		}
		if s, err := j.Wait(ctx, db, "id"); err != nil || s.Phase != JobDone || len(s.State.Seen) > 0 {
			t.Errorf("%+v, %v", s, err)
		}
		stop()
		must(t, db.Close())
	})
}
