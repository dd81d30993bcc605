package keeper

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wakepoint/wakepoint/internal/api"
	"github.com/wakepoint/wakepoint/internal/store"
)

// refused asks for something that must fail, and checks what is said.
func (r *rig) refused(q api.Request, code api.Code, words, hint string) {
	r.Helper()
	e := r.ask(q).Error
	if e == nil || e.Code != code || !strings.Contains(e.Message, words) || !strings.Contains(e.Hint, hint) {
		r.Errorf("%s %s: %+v, want code %d, %q, hint %q", q.Op, q.Generation, e, code, words, hint)
	}
}

func (r *rig) granted(q api.Request) api.Reply {
	r.Helper()
	out := r.ask(q)
	if out.Error != nil {
		r.Errorf("%s %s: %v", q.Op, q.Generation, out.Error)
	}
	return out
}

// What is pinned stays until it is let go by name, also with another keeper.
func TestPin(t *testing.T) {
	bubble(t, api.Policy{}, func(r *rig) {
		r.begin(ActLaunch, RestoreOptions{})
		time.Sleep(100500 * time.Millisecond)
		gens := r.w.generations()
		one, two := gens[len(gens)-2], gens[len(gens)-3]
		r.granted(api.Request{Op: api.OpPin, Generation: one.String()})
		r.granted(api.Request{Op: api.OpPin, Generation: two.String()})
		r.refused(api.Request{Op: api.OpPin, Generation: "g9999"}, api.CodeNotFound, "no generation g9999", "wakepoint log web")
		r.refused(api.Request{Op: api.OpPin, Generation: "x"}, api.CodeUsage, "x", "wakepoint log web")
		r.kill()
		r.begin(ActRecover, RestoreOptions{})
		time.Sleep(1000 * time.Second)
		if gens = r.w.generations(); !slices.Contains(gens, one) || !slices.Contains(gens, two) {
			t.Errorf("%v and %v are pinned, and there are %v", one, two, gens)
		}
		r.refused(api.Request{Op: api.OpForget, Generation: one.String()}, api.CodeFailed, "is pinned", "pin --remove web@"+one.String())
		r.granted(api.Request{Op: api.OpPin, Generation: one.String(), Remove: true})
		r.granted(api.Request{Op: api.OpForget, Generation: one.String()})
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if gens = r.w.generations(); slices.Contains(gens, one) || !slices.Contains(gens, two) {
			t.Errorf("%v was let go and %v was not, and there are %v", one, two, gens)
		}
	})
}

// Where the list of pins is damaged nothing goes, until there is a new one.
func TestPinsLost(t *testing.T) {
	bubble(t, api.Policy{}, func(r *rig) {
		r.w.records[recordPins] = []byte("{")
		r.begin(ActLaunch, RestoreOptions{})
		time.Sleep(30500 * time.Millisecond)
		if n := len(r.w.generations()); n != 31 {
			t.Fatalf("%d generations", n)
		}
		if out := r.granted(api.Request{Op: api.OpCollect}); len(out.Dropped) != 0 {
			t.Errorf("%v went", out.Dropped)
		}
		r.refused(api.Request{Op: api.OpForget, Generation: "g7"}, api.CodeIntegrity, "may be", "pin web@GEN")
		r.granted(api.Request{Op: api.OpPin, Generation: "g7"})
		out := r.granted(api.Request{Op: api.OpCollect})
		if len(out.Dropped) < 15 || slices.Contains(out.Dropped, "g7") {
			t.Errorf("%v went", out.Dropped)
		}
	})
}

func TestForget(t *testing.T) {
	bubble(t, api.Policy{}, func(r *rig) {
		r.w.genSize = 1000
		r.begin(ActLaunch, RestoreOptions{})
		time.Sleep(5500 * time.Millisecond)
		r.refused(api.Request{Op: api.OpForget, Generation: "g6"}, api.CodeFailed, "the newest", "wakepoint checkpoint web")
		if out := r.granted(api.Request{Op: api.OpForget, Generation: "g4", DryRun: true}); !slices.Contains(r.w.generations(), 4) || len(out.Dropped) != 1 {
			t.Errorf("a dry run left %v, and said %v", r.w.generations(), out.Dropped)
		}
		if out := r.granted(api.Request{Op: api.OpForget, Generation: "g4"}); slices.Contains(r.w.generations(), 4) || out.FreedBytes != 1000 {
			t.Errorf("%v, %+v", r.w.generations(), out)
		}
		r.w.damage[3] = true // is needed by nothing
		r.granted(api.Request{Op: api.OpForget, Generation: "g3"})

		// In an incident all that is older stays; then what was proven does.
		r.only().exit(11)
		time.Sleep(1500 * time.Millisecond)
		r.refused(api.Request{Op: api.OpForget, Generation: "g5"}, api.CodeFailed, "has crashed", "wakepoint status web")
		time.Sleep(60 * time.Second)
		r.refused(api.Request{Op: api.OpForget, Generation: "g6"}, api.CodeFailed, "proven", "by itself")
	})
}

// What a run was restored from stays until the run has a generation of its own,
// then like any other; what it was restored over is kept as the undo.
func TestWhatARunCameFrom(t *testing.T) {
	bubble(t, api.Policy{EverySeconds: 3600}, func(r *rig) {
		r.begin(ActLaunch, RestoreOptions{})
		time.Sleep(7 * time.Hour)
		r.granted(api.Request{Op: api.OpRestore, Generation: "g3"})
		gens := r.w.generations()
		undo := gens[len(gens)-1]
		r.refused(api.Request{Op: api.OpForget, Generation: "g3"}, api.CodeFailed, "g3 is the newest", "wakepoint checkpoint web")
		r.refused(api.Request{Op: api.OpForget, Generation: undo.String()}, api.CodeFailed, "is the newest", "wakepoint checkpoint web")
		time.Sleep(61 * time.Minute)
		r.granted(api.Request{Op: api.OpForget, Generation: "g3"})
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		if !slices.Contains(r.w.generations(), undo) {
			t.Errorf("the undo, %v, went within a day", undo)
		}
	})
}

// While nothing runs and another try is awaited the generations are cared for,
// and the answer comes at once.
func TestCareWhileDown(t *testing.T) {
	w, done := serveWorld(t, t.TempDir())
	call := func(q api.Request) (api.Reply, error) { return api.Call(context.Background(), w.dir, q, nil) }
	w.mu.Lock()
	for g := range store.Generation(1000) {
		w.refuse[g] = errFake
	}
	w.mu.Unlock()
	w.living()[0].exit(11)
	for len(w.trace("restore")) == 0 {
		time.Sleep(time.Millisecond)
	}
	newest := w.generations()[len(w.generations())-1]
	if _, err := call(api.Request{Op: api.OpPin, Generation: newest.String()}); err != nil {
		t.Error(err)
	}
	if _, err := call(api.Request{Op: api.OpStatus}); err != nil {
		t.Errorf("after the answer: %v", err)
	}
	if _, err := call(api.Request{Op: api.OpStop}); err != nil {
		t.Error(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}
