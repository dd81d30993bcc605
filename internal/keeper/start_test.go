package keeper

import (
	"fmt"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/wakepoint/wakepoint/internal/api"
	"github.com/wakepoint/wakepoint/internal/store"
)

// A start that fails leaves the workload what it was: nobody asked that it be
// tried again at the next boot.
func TestStartThatFails(t *testing.T) {
	for _, action := range []Action{ActStart, ActRestore} {
		for _, step := range []string{"restore", "run", "record run"} {
			bubble(t, api.Policy{}, func(r *rig) {
				r.begin(ActLaunch, RestoreOptions{})
				r.only().set(3)
				if e := r.ask(api.Request{Op: api.OpStop}).Error; e != nil {
					t.Fatal(e)
				}
				<-r.done
				failures := 0
				r.w.failWith(func(_ int, s string) error {
					if s == step && failures == 0 {
						failures++
						return syscall.EADDRINUSE
					}
					return nil
				})
				r.begin(action, RestoreOptions{})
				<-r.done
				r.w.failWith(nil)
				r.wantState(api.Stopped)
				if run := r.records().run; run.Wanted || !run.Frozen || run.Error == nil || failures != 1 {
					t.Fatalf("%s, %s: %+v", action, step, run)
				}
				r.begin(ActRecover, RestoreOptions{})
				<-r.done
				if l := r.w.living(); len(l) != 0 {
					t.Fatalf("%s, %s: recover started it", action, step)
				}
				r.begin(ActStart, RestoreOptions{})
				if got := r.only(); got.state != 3 {
					t.Errorf("%s, %s: state %d", action, step, got.state)
				}
			})
		}
	}
}

// A fresh start that fails leaves what had finished finished.
func TestFreshStartThatFails(t *testing.T) {
	bubble(t, api.Policy{}, func(r *rig) {
		r.begin(ActLaunch, RestoreOptions{})
		r.only().exit(0)
		<-r.done
		r.w.failWith(func(_ int, s string) error {
			if s == "start" {
				return errFake
			}
			return nil
		})
		r.begin(ActStart, RestoreOptions{})
		<-r.done
		r.wantState(api.Finished)
		if run := r.records().run; run.Wanted || !run.Ended {
			t.Errorf("%+v", run)
		}
	})
}

// A start that takes an older generation says which newer ones it passed over,
// why, and what is lost.
func TestStartPastDamage(t *testing.T) {
	bubble(t, api.Policy{}, func(r *rig) {
		r.begin(ActLaunch, RestoreOptions{})
		time.Sleep(1500 * time.Millisecond) // g1, g2
		if e := r.ask(api.Request{Op: api.OpStop}).Error; e != nil {
			t.Fatal(e)
		}
		<-r.done
		r.w.refuse[3] = &store.DamageError{Pack: "packs/7", What: "wrong checksum"}
		r.begin(ActStart, RestoreOptions{})
		rv := r.records().run.Recovery
		want := &api.Recovery{At: rv.At, Generation: "g2", Older: true, LostWorkSeconds: 0.5, AgeSeconds: 0.5,
			Words:      "restored from g2, lost at most 0.5 s; passed over g3 (packs/7: wrong checksum: damaged)",
			PassedOver: []api.PassedOver{{Generation: "g3", Why: "packs/7: wrong checksum: damaged"}}}
		if d := cmp.Diff(want, rv); d != "" {
			t.Error(d)
		}
	})
}

// Where the newest cannot even be read it is not known when it was taken: no
// later than the last sign of life, and what may come between two.
func TestStartPastLostManifest(t *testing.T) {
	bubble(t, api.Policy{}, func(r *rig) {
		r.begin(ActLaunch, RestoreOptions{})
		time.Sleep(1500 * time.Millisecond) // g1, g2
		if e := r.ask(api.Request{Op: api.OpStop}).Error; e != nil {
			t.Fatal(e)
		}
		<-r.done
		r.w.damage[3] = true
		r.begin(ActStart, RestoreOptions{})
		rv := r.records().run.Recovery
		if rv.Generation != "g2" || !rv.Older || rv.LostWorkSeconds < 0.5 || len(rv.PassedOver) != 1 {
			t.Errorf("%+v", rv)
		}
	})
}

// So does a recovery, of what cannot be read and of what died again.
func TestRecoverSaysWhatItPassedOver(t *testing.T) {
	bubble(t, api.Policy{}, func(r *rig) {
		r.begin(ActLaunch, RestoreOptions{})
		time.Sleep(3500 * time.Millisecond) // g1 .. g4
		r.w.damage[4] = true
		r.w.poison[3] = true
		r.only().exit(11)
		time.Sleep(time.Minute)
		synctest.Wait()
		rv := r.records().run.Recovery
		var got []string
		for _, p := range rv.PassedOver {
			got = append(got, p.Generation+": "+p.Why)
		}
		want := []string{"g4: : : damaged", "g3: ended with SIGSEGV after it was restored", "g2: is too near to one that died"}
		if d := cmp.Diff(want, got); d != "" || rv.Generation != "g1" {
			t.Errorf("%+v\n%s", rv, d)
		}
	})
}

// Only what lies on the line of the head was passed over, and what is damaged
// and may.
func TestPassedOver(t *testing.T) {
	l := lineage{why: map[store.Generation]string{}}
	parents := map[store.Generation]store.Generation{1: 0, 2: 1, 3: 2, 4: 2, 6: 4, 9: 6}
	for g := store.Generation(12); g > 0; g-- {
		if p, ok := parents[g]; ok {
			l.infos = append(l.infos, store.Info{Generation: g, Parent: p})
		}
	}
	for _, d := range []store.Generation{5, 7, 8, 10} {
		l.damaged, l.why[d] = append(l.damaged, d), "damaged"
	}
	for _, c := range []struct {
		g, head store.Generation
		missing store.Generation // an info that is damaged instead
		want    string
	}{
		{9, 9, 0, "[g10]"},
		{6, 9, 0, "[g10 g9]"},
		{2, 9, 0, "[g10 g9 g6 g4]"},
		{4, 9, 6, "[g10 g9 g6 g5]"}, // whether 5 lies on the line only 6 knew
		{2, 3, 0, "[g10 g3]"},       // 5, 7 and 8 lie among those of another line,
	} {
		m := lineage{damaged: l.damaged, why: l.why}
		for _, i := range l.infos {
			if i.Generation != c.missing {
				m.infos = append(m.infos, i)
			}
		}
		if c.missing != 0 {
			m.damaged = append([]store.Generation{c.missing}, m.damaged...)
		}
		var got []string
		for _, p := range m.passedOver(c.g, c.head, func(store.Generation) string { return "" }) {
			got = append(got, p.Generation)
		}
		if fmt.Sprint(got) != c.want {
			t.Errorf("g%d of g%d: %v, want %s", c.g, c.head, got, c.want)
		}
	}
	if err := (lineage{}).nothingLeft(); api.AsError(err).Code != api.CodeNotFound {
		t.Error(err)
	}
	if err := l.nothingLeft(); api.AsError(err).Code != api.CodeIntegrity {
		t.Error(err)
	}
}
