package keeper

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/wakepoint/wakepoint/internal/api"
	"github.com/wakepoint/wakepoint/internal/store"
)

// ages returns how old the generations are, in seconds, the newest first.
func (r *rig) ages() []int {
	r.Helper()
	l, err := readLineage(r.w)
	if err != nil {
		r.Fatal(err)
	}
	var out []int
	for _, i := range l.infos {
		out = append(out, int(taken(l.infos[0]).Sub(taken(i)).Seconds()))
	}
	return out
}

// What a keeper takes it lets go again, but for what is tagged, at distances
// that grow with the age.
func TestRetain(t *testing.T) {
	bubble(t, api.Policy{}, func(r *rig) {
		r.begin(ActLaunch, RestoreOptions{})
		time.Sleep(100 * time.Second)
		if e := r.ask(api.Request{Op: api.OpCheckpoint, Tag: "mine"}).Error; e != nil {
			t.Fatal(e)
		}
		tagged := r.k.parent
		time.Sleep(900 * time.Second)
		synctest.Wait()
		ages := r.ages()
		if len(ages) > 2+2*11+dropBatch || len(ages) < 10 || ages[len(ages)-1] < 995 {
			t.Errorf("%d generations: %v", len(ages), ages)
		}
		for i := 1; i < len(ages); i++ {
			if young, old := ages[i-1], ages[i]; old > 2*young+2 {
				t.Errorf("nothing between %d and %d s", young, old)
			}
		}
		if !slices.Contains(r.w.generations(), tagged) {
			t.Errorf("%v, which was tagged, is gone", tagged)
		}
	})
}

// In an incident nothing goes that was taken before it, however many the
// present run takes.
func TestRetainInAnIncident(t *testing.T) {
	bubble(t, api.Policy{}, func(r *rig) {
		r.begin(ActLaunch, RestoreOptions{})
		time.Sleep(300500 * time.Millisecond)
		before := r.w.generations()
		for _, g := range before[len(before)-6:] {
			r.w.poison[g] = true
		}
		r.only().exit(11)
		synctest.Wait()
		time.Sleep(9 * time.Second)
		synctest.Wait()
		if in := r.records().history.Incident; in == nil || len(in.Tries) < 3 {
			t.Fatalf("incident %+v", in)
		}
		after := r.w.generations()
		if d := cmp.Diff(before, after[:min(len(before), len(after))]); d != "" {
			t.Error(d)
		}
		time.Sleep(1000 * time.Second)
		synctest.Wait()
		if after = r.w.generations(); r.records().history.Incident != nil || slices.Contains(after, before[len(before)-2]) {
			t.Errorf("when it is over: %v, of %v", after, before)
		}
		proven := r.records().history.Proven
		if len(proven) != 1 || !slices.Contains(after, store.Generation(proven[0])) {
			t.Errorf("proven %v is not among %v", proven, after)
		}
	})
}

// A run of which the record was lost is one with the generations that it has
// made: recovery goes back behind those that are taken later.
func TestLineOfALostRun(t *testing.T) {
	bubble(t, api.Policy{}, func(r *rig) {
		r.begin(ActLaunch, RestoreOptions{})
		time.Sleep(2500 * time.Millisecond)
		r.kill()
		r.w.orphan = r.only().handle
		delete(r.w.records, recordRun)
		r.begin(ActRecover, RestoreOptions{})
		time.Sleep(100 * time.Second)
		synctest.Wait()
		if n := len(r.w.trace("restore")); n != 0 {
			t.Fatalf("%d restores of what runs", n)
		}
		l, err := readLineage(r.w)
		if err != nil {
			t.Fatal(err)
		}
		if line := l.line(l.head(r.records().run)); line[len(line)-1].Generation != 1 {
			t.Errorf("the line ends at %v, of %v", line[len(line)-1].Generation, r.w.generations())
		}
	})
}

// When the first generation of a run has gone, what was abandoned for that run
// is not on its line.
func TestLineWithoutItsFirst(t *testing.T) {
	info := func(g, parent store.Generation, run, from string) store.Info {
		return store.Info{Generation: g, Parent: parent, Meta: map[string]string{metaRun: run, metaFrom: from}}
	}
	l := lineage{infos: []store.Info{
		info(9, 8, "3", "0"),                       // afresh; g8 was its first
		info(7, 6, "2", "3"), info(6, 5, "2", "3"), // g5 was the first
		info(4, 3, "1", "0"), info(3, 2, "1", "0"), info(1, 0, "1", "0"),
	}}
	for head, want := range map[store.Generation][]store.Generation{9: {9}, 7: {7, 6, 3, 1}, 4: {4, 3, 1}, 0: nil} {
		var got []store.Generation
		for _, i := range l.line(head) {
			got = append(got, i.Generation)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%v: %s", head, d)
		}
	}
}
