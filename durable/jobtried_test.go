package durable

import (
	"context"
	"fmt"
	"runtime"
	"testing"
)

func goexit(context.Context, *Work[trip]) error { runtime.Goexit(); return nil }

func bursts(context.Context, *Work[trip]) error { panic("out of range") }

func inClosure(ctx context.Context, w *Work[trip]) error {
	return w.Update(ctx, func(*Tx, *trip) error { panic("out of range") })
}

// recorded is a hook that says no where Work.Recorded is not as it should be, and
// notes that it was there.
func recorded(want bool) hook {
	return func(ctx context.Context, w *Work[trip]) error {
		if w.Recorded() != want {
			return fmt.Errorf("%s: recorded is %v", w.Key(), w.Recorded())
		}
		return seen(nil)(ctx, w)
	}
}

// TestJobTried: a step that may have had an effect is undone, too, when it fails at
// a later try.
func TestJobTried(t *testing.T) {
	const forward, back = "0/do 1/do 2/do", "0/do 1/do 2/do 0/undo"
	for name, c := range map[string]jobCase{
		"tried first, then fails": {map[string]hook{"0/do": times(1, again, fails), "0/undo": recorded(false)}, "0/do 0/do 0/undo",
			JobStatus[trip]{State: trip{[]string{"trip/id/0/undo"}}, Phase: JobUndone, Why: "boom"}},
		"tried last, then fails": {map[string]hook{"2/do": times(2, again, fails), "2/undo": recorded(false), "0/undo": recorded(true)},
			"0/do 1/do 2/do 2/do 2/do 2/undo 0/undo",
			JobStatus[trip]{State: trip{[]string{"trip/id/2/undo", "trip/id/0/undo"}}, Phase: JobUndone, Why: "boom"}},
		"full, then fails": {map[string]hook{"2/do": times(1, full, fails)}, "0/do 1/do 2/do 2/do 2/undo 0/undo", JobStatus[trip]{Phase: JobUndone, Why: "boom"}},
		"others retried, fails last": {map[string]hook{"0/do": times(1, again, nothing), "1/do": times(1, again, nothing), "2/do": fails},
			"0/do 0/do 1/do 1/do 2/do 0/undo", JobStatus[trip]{Phase: JobUndone, Why: "boom"}},
		"tried, fails, and stuck": {map[string]hook{"0/do": times(1, again, fails), "0/undo": fails}, "0/do 0/do 0/undo",
			JobStatus[trip]{Phase: JobStuck, Why: "boom", Stuck: "boom"}},
		"panics": {map[string]hook{"0/do": times(2, bursts, nothing)}, "0/do 0/do 0/do 1/do 2/do", JobStatus[trip]{Phase: JobDone, Step: 3}},
		"panics in a closure": {map[string]hook{"0/do": times(1, inClosure, seen(nil))}, "0/do 0/do 1/do 2/do",
			JobStatus[trip]{State: trip{[]string{"trip/id/0/do"}}, Phase: JobDone, Step: 3}},
		"panics, then fails": {map[string]hook{"0/do": times(1, bursts, fails)}, "0/do 0/do 0/undo", JobStatus[trip]{Phase: JobUndone, Why: "boom"}},
		"panics behind its record": {map[string]hook{"0/do": func(ctx context.Context, w *Work[trip]) error {
			must(t, seen(nil)(ctx, w))
			panic("behind")
		}}, forward, JobStatus[trip]{State: trip{[]string{"trip/id/0/do"}}, Phase: JobDone, Step: 3}},
		"undo panics": {map[string]hook{"2/do": fails, "0/undo": times(1, bursts, nothing)}, back + " 0/undo", JobStatus[trip]{Phase: JobUndone, Why: "boom"}},
	} {
		t.Run(name, func(t *testing.T) { c.run(t, false) })
	}
}

// TestJobCut: a step that was cut off is called again, and undone, too, when it
// fails then.
func TestJobCut(t *testing.T) {
	for name, c := range map[string]jobCase{
		"cut off": {map[string]hook{"1/do": times(1, goexit, nothing)},
			"0/do 1/do 1/do 2/do", JobStatus[trip]{Phase: JobDone, Step: 3}},
		"cut off, then fails": {map[string]hook{"2/do": times(1, goexit, fails), "2/undo": recorded(false)}, "0/do 1/do 2/do 2/do 2/undo 0/undo",
			JobStatus[trip]{State: trip{[]string{"trip/id/2/undo"}}, Phase: JobUndone, Why: "boom"}},
		"cut off first, then fails": {map[string]hook{"0/do": times(1, goexit, fails)}, "0/do 0/do 0/undo", JobStatus[trip]{Phase: JobUndone, Why: "boom"}},
		"cut off in its undoing": {map[string]hook{"0/do": times(1, again, fails), "0/undo": times(1, goexit, recorded(false))}, "0/do 0/do 0/undo 0/undo",
			JobStatus[trip]{State: trip{[]string{"trip/id/0/undo"}}, Phase: JobUndone, Why: "boom"}},
	} {
		t.Run(name, func(t *testing.T) { c.run(t, true) })
	}
}
