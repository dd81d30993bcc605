package durable

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wakepoint/wakepoint/internal/disk/crashfs"
)

// canceled cancels a job, and says whether there was one.
func canceled(t *testing.T, db *DB, j *Job[trip], id string) (was bool) {
	t.Helper()
	must(t, db.Update(ctx, func(tx *Tx) error { was = j.Cancel(tx, id); return nil }))
	return was
}

// undone waits for a job to be, and checks what was called.
func undone(t *testing.T, db *DB, j *Job[trip], said *calls, want string) {
	t.Helper()
	s, err := j.Wait(ctx, db, "id")
	if err != nil || s.Phase != JobUndone || s.Why != "canceled" || said.String() != want {
		t.Errorf("%+v, %v after %v", s, err, said)
	}
	if canceled(t, db, j, "id") {
		t.Error("one that is undone was canceled")
	}
}

// TestJobCancel: a job is canceled before its first step, while one waits to be
// tried again, and when it has ended; and each time with a start in between.
func TestJobCancel(t *testing.T) {
	later := func(context.Context, *Work[trip]) error { return Retry(errBoom, 1000*time.Hour) }
	for _, crash := range []bool{false, true} {
		for at, want := range map[string]string{"": "", "0/do": "0/do 0/undo", "1/do": "0/do 1/do 0/undo", "2/do": "0/do 1/do 2/do 2/undo 0/undo"} {
			synctest.Test(t, func(t *testing.T) {
				said, d := &calls{}, crashfs.New()
				j := planned(said, map[string]hook{at: later})
				db := withJob(t, d, j)
				if canceled(t, db, j, "id") {
					t.Error("one that is not there was canceled")
				}
				startJob(t, db, j, "id")
				stop := func() error { return nil }
				if at != "" {
					stop = running(db, j)
				}
				synctest.Wait()
				began := time.Now()
				if crash {
					stop()
				}
				if !canceled(t, db, j, "id") {
					t.Error("it was not there")
				}
				if crash {
					after := d.Crash(crashfs.LoseAll)
					_ = db.Close()
					db = withJob(t, after, j)
				}
				if crash || at == "" {
					stop = running(db, j)
				}
				undone(t, db, j, said, want)
				if time.Since(began) > time.Hour {
					t.Error("it has slept on")
				}
				stop()
				must(t, db.Close())
			})
		}
	}
	said := &calls{}
	j := planned(said, nil)
	db := withJob(t, crashfs.New(), j)
	startJob(t, db, j, "id")
	stop := running(db, j)
	if s, err := j.Wait(ctx, db, "id"); err != nil || canceled(t, db, j, "id") || s.Phase != JobDone {
		t.Errorf("%+v, %v", s, err)
	}
	stop()
}

// TestJobCanceledStep: a job is canceled while a step of it runs, and while one that
// is recorded has not returned; or by the step itself.
func TestJobCanceledStep(t *testing.T) {
	for name, c := range map[string]struct {
		before hook // the cancel
		ends   hook
		want   string
	}{
		"runs":            {nothing, nothing, "0/do 0/undo"},
		"records":         {nothing, seen(nil), "0/do 0/undo"},
		"fails":           {nothing, fails, "0/do 0/undo"},
		"is tried again":  {nothing, again, "0/do 0/undo"},
		"panics":          {nothing, bursts, "0/do 0/undo"},
		"is recorded":     {seen(nil), nothing, "0/do 0/undo"},
		"recorded, fails": {seen(nil), fails, "0/do 0/undo"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				said, at, on := &calls{}, make(chan bool), make(chan bool)
				j := planned(said, map[string]hook{"0/do": func(ctx context.Context, w *Work[trip]) error {
					must(t, c.before(ctx, w))
					at <- true
					<-on
					err := c.ends(ctx, w)
					if name == "records" && !errors.Is(err, ErrRecorded) {
						t.Errorf("Update when it was canceled: %v", err)
					}
					return err
				}})
				db := withJob(t, crashfs.New(), j)
				stop := running(db, j)
				startJob(t, db, j, "id")
				<-at
				if !canceled(t, db, j, "id") {
					t.Error("it was not there")
				}
				synctest.Wait()
				if s := said.String(); s != "0/do" {
					t.Errorf("while the step runs: %s", s)
				}
				on <- true
				undone(t, db, j, said, c.want)
				stop()
				must(t, db.Close())
			})
		})
	}
	t.Run("by itself", func(t *testing.T) {
		said := &calls{}
		var j *Job[trip]
		j = planned(said, map[string]hook{"2/do": func(ctx context.Context, w *Work[trip]) error {
			return w.Update(ctx, func(tx *Tx, _ *trip) error { j.Cancel(tx, w.ID()); return nil })
		}})
		db := withJob(t, crashfs.New(), j)
		startJob(t, db, j, "id")
		stop := running(db, j)
		s, err := j.Wait(ctx, db, "id")
		if err != nil || s.Phase != JobUndone || !strings.Contains(s.Why, "recorded") || said.String() != "0/do 1/do 2/do 0/undo" {
			t.Errorf("%+v, %v after %v", s, err, said)
		}
		stop()
	})
}

// TestJobCanceledAnew: a step of a job that was canceled, and is over while it
// still runs, has no part in the next one of its id.
func TestJobCanceledAnew(t *testing.T) {
	for name, ends := range map[string]hook{"nil": nothing, "error": fails, "retry": again, "recorded": seen(nil)} {
		synctest.Test(t, func(t *testing.T) {
			at, on := make(chan bool), make(chan bool)
			j := NewJob("trip", Step[trip]{Do: times(1, func(ctx context.Context, w *Work[trip]) error {
				at <- true
				<-on
				return ends(ctx, w)
			}, nothing)})
			db := withJob(t, crashfs.New(), j)
			startJob(t, db, j, "id")
			stop := running(db, j)
			<-at
			must(t, db.Update(ctx, func(tx *Tx) error {
				if !j.Cancel(tx, "id") || !j.Forget(tx, "id") || !j.Start(tx, "id", trip{[]string{name}}) {
					t.Error("it was not there, or not undone")
				}
				return nil
			}))
			on <- true
			s, err := j.Wait(ctx, db, "id")
			if err != nil || s.Phase != JobDone || s.Why != "" || strings.Join(s.State.Seen, " ") != name {
				t.Errorf("%s: %+v, %v", name, s, err)
			}
			stop()
			must(t, db.Close())
		})
	}
}
