package keeper

import (
	"context"
	"errors"
	"flag"
	"io"
	"log/slog"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/wakepoint/wakepoint/internal/api"
	"github.com/wakepoint/wakepoint/internal/health"
	"github.com/wakepoint/wakepoint/internal/policy"
	"github.com/wakepoint/wakepoint/internal/store"
)

var (
	faultsN      = flag.Int("faults.n", 1, "faults for each server")
	faultsSeed   = flag.Uint64("faults.seed", 1, "where they begin")
	faultsEvery  = flag.Duration("faults.every", time.Second, "interval between checkpoints")
	faultsOnly   = flag.String("faults.only", "", "the name of one server; empty: all")
	faultsNewest = flag.Int("faults.newest", 0, "tries of always restoring the newest, for each tenth fault; 0: none")
)

// The faults.
const (
	latencyMin      = 10 * time.Millisecond
	latencyMax      = 10 * time.Minute
	livedMin        = 10 * time.Second // before the fault
	livedMax        = 2 * time.Hour
	attemptsMax     = 8
	lossFactor      = 2.5
	denseMax        = 30 // with more checkpoints than this, those that retention would let go are not taken
	tickParts       = 16 // least number of ticks between two checkpoints that are far apart
	checkpointTries = 10
	newestEach      = 10 // for each so many faults the newest alone is tried too
)

// TestFaults injects faults into real servers and has a keeper bring them back.
//
// Only time is simulated: a request to a server stands for a piece of time, by
// which it moves the clock in the server's own state. The server, its
// checkpoints, the store, what retention drops, the records, the search, each
// restore and each death are the real ones, by the keeper's own functions, which
// are told the simulated instants of checkpoints and crashes.
//
// Once in a server's life its state is spoilt. It works on until its clock has
// moved as far as the fault's latency says, and then fails by itself, in every
// life that was restored from a spoilt state as well.
func TestFaults(t *testing.T) {
	sums := &faultSums{n: *faultsN, newest: *faultsNewest, every: *faultsEvery, seed: *faultsSeed, began: time.Now()}
	for i, b := range breeds {
		if *faultsOnly == "" || *faultsOnly == b.name {
			t.Run(b.name, func(t *testing.T) { sums.inject(t, i, b) })
		}
	}
	if sums.n > 1 {
		sums.print()
	}
}

// BenchmarkFaults is a short share of TestFaults, with its table.
func BenchmarkFaults(b *testing.B) {
	sums := &faultSums{n: 3, newest: 10, every: time.Second, seed: 1, began: time.Now()}
	for i, kind := range breeds {
		b.Run(kind.name, func(b *testing.B) {
			b.ReportMetric(0, "ns/op")
			sums.inject(b, i, kind)
		})
	}
	sums.print()
}

// inject injects faults into one server.
func (s *faultSums) inject(tb testing.TB, i int, b breed) {
	tb.Helper()
	if os.Geteuid() != 0 {
		tb.Skip("skip: needs root: process trees are started in namespaces of their own")
	}
	top := tb.TempDir()
	if err := errors.Join(os.Chmod(filepath.Dir(top), 0o755), os.Chmod(top, 0o755)); err != nil { // a server may be another user's
		tb.Fatal(err)
	}
	sum := faultSum{breed: b}
	for j := range s.n {
		newest := 0
		if j%newestEach == 0 {
			newest = s.newest
		}
		r := rand.New(rand.NewPCG(s.seed, uint64(i)<<32|uint64(j)))
		sum.add(injectFault(tb, b, top, r, s.every, newest), s.every)
	}
	s.list = append(s.list, sum)
}

// fault is one server, and one fault in it.
type fault struct {
	tb     testing.TB
	name   string
	k      *keeper
	lock   io.Closer
	c      victim
	health health.Check
	asked  time.Time // when its health was asked last
	pulse  policy.Pulse
	every  time.Duration

	now     time.Time     // the simulated time
	clock   time.Duration // the server's own, as it should stand
	spoilAt time.Time
	latency time.Duration
	spoilt  bool
}

// faultEpoch is when they are started.
var faultEpoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// outcome is what came of one fault.
type outcome struct {
	latency, age, lost time.Duration
	attempts           int
	recovered          bool
	foretold           bool // the tries are those of the search alone, in a model
	newest             int  // tries of always restoring the newest
	newestLived        bool
}

// injectFault is the life of one server.
func injectFault(tb testing.TB, b breed, top string, r *rand.Rand, every time.Duration, newest int) outcome {
	tb.Helper()
	between := func(low, high time.Duration) time.Duration {
		l, h := math.Log(low.Seconds()), math.Log(high.Seconds())
		return time.Duration(math.Exp(l+r.Float64()*(h-l)) * float64(time.Second)).Truncate(time.Microsecond)
	}
	dir, err := os.MkdirTemp(top, "fault")
	if err != nil {
		tb.Fatal(err)
	}
	defer os.RemoveAll(dir)
	must(tb, os.Chmod(dir, 0o755))
	f := &fault{tb: tb, name: b.name, every: every, now: faultEpoch, latency: between(latencyMin, latencyMax)}
	f.spoilAt = faultEpoch.Add(between(livedMin, livedMax))
	f.start(b, dir)
	defer func() {
		f.end()
		f.lock.Close()
	}()
	f.live(kept(f.every, f.spoilAt.Sub(faultEpoch)+f.latency))
	out := outcome{latency: f.latency, age: f.now.Sub(f.spoilAt)}
	l, err := readLineage(f.k.v)
	if err != nil {
		tb.Fatal(err)
	}
	list, crashed, end := candidates(l.infos), f.now, f.ended()
	f.alwaysNewest(l.infos[0], crashed, newest, &out)
	f.recover(crashed, end, &out)
	out.foretold = slices.Equal(f.tried(), foretell(list, crashed, f.spoilAt, f.every))
	tb.Logf("%s: latency %v, %d tries, lost %v, the fault's age %v; as foretold: %v", b.name, f.latency, out.attempts, out.lost, out.age, out.foretold)
	switch {
	case !out.recovered:
		tb.Errorf("%s: latency %v: not recovered: %+v", b.name, f.latency, f.k.rec.history.Past)
	case out.attempts > attemptsMax:
		tb.Errorf("%s: latency %v: %d tries", b.name, f.latency, out.attempts)
	case !out.foretold:
		tb.Errorf("%s: latency %v: tried %v, foretold %v", b.name, f.latency, f.tried(), foretell(list, crashed, f.spoilAt, f.every))
	}
	return out
}

// start launches the server under a keeper that nothing runs but what is called.
func (f *fault) start(b breed, dir string) {
	f.tb.Helper()
	port, work := freePort(f.tb), filepath.Join(dir, "work")
	if err := os.Mkdir(work, 0o755); err != nil {
		f.tb.Fatal(err)
	}
	p := b.prepare(f.tb, work, port)
	f.c = p.client
	var err error
	f.health, err = health.Parse(p.health)
	must(f.tb, err)
	s, err := Site{StoreDir: filepath.Join(dir, "store")}.filled()
	must(f.tb, err)
	st, err := s.open()
	must(f.tb, err)
	spec := p.spec("victim", work)
	pol, _, err := preparePolicy(api.Policy{EverySeconds: f.every.Seconds(), OnCrash: api.OnRestore, Data: p.data, KeepSizeBytes: -1}, spec)
	must(f.tb, err)
	w, err := createWorkload(st, &spec)
	must(f.tb, err)
	must(f.tb, s.noteLaunch(w, spec, pol))
	lock, err := w.Lock()
	must(f.tb, err)
	f.lock = lock
	f.k = newKeeper(lateMachine{now: &f.now}, realVault{w}, s, slog.New(slog.DiscardHandler))
	must(f.tb, f.k.load())
	must(f.tb, f.k.startFresh(context.Background()))
	must(f.tb, listens(port))
	f.tick(0) // PostgreSQL makes its clock in it, before the first checkpoint
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// end ends what is left of the server.
func (f *fault) end() {
	f.tb.Helper()
	f.c.hangUp()
	if f.k.tree == nil {
		return
	}
	if err := f.k.tree.Kill(context.Background()); err != nil {
		f.tb.Error(err)
	}
	f.k.dropTree(nil)
}

// live has the server live until it has died of its fault, with checkpoints at
// so many instants since its start, and then at every interval.
func (f *fault) live(instants []time.Duration) {
	f.tb.Helper()
	for i := 0; ; i++ {
		at := f.now.Add(f.every)
		if i < len(instants) {
			at = faultEpoch.Add(instants[i])
		}
		if !f.spoilt && f.spoilAt.Before(at) {
			if f.advance(f.spoilAt) {
				f.tb.Fatalf("%s: died before its fault", f.name)
			}
			if err := f.c.spoil(f.latency); err != nil {
				f.tb.Fatal(err)
			}
			f.spoilt = true
		}
		if due := f.spoilAt.Add(f.latency); f.spoilt && f.now.Before(due) && due.Before(at) && f.advance(due) || f.advance(at) {
			return
		}
		if f.now.Sub(f.spoilAt) > f.latency+time.Minute {
			f.tb.Fatalf("%s: lives %v after a fault of latency %v", f.name, f.now.Sub(f.spoilAt), f.latency)
		}
		f.checkpoint()
	}
}

// checkpoint takes a generation. On a busy machine a freeze may miss its
// deadline: a keeper would try again.
func (f *fault) checkpoint() {
	f.tb.Helper()
	var err error
	for range checkpointTries {
		if _, err = f.k.checkpoint(context.Background(), checkpointOptions{}); err == nil {
			return
		}
	}
	f.tb.Fatalf("%s: %v", f.name, err)
}

// advance lets time pass; dead says that the server has died on the way.
func (f *fault) advance(to time.Time) (dead bool) {
	f.tb.Helper()
	step := max(f.every/4, to.Sub(f.now)/tickParts).Truncate(time.Microsecond)
	for f.now.Before(to) && !dead {
		dead = f.tick(min(step, to.Sub(f.now)))
	}
	return dead
}

// tick lets a little time pass.
func (f *fault) tick(d time.Duration) (dead bool) {
	f.tb.Helper()
	clock, err := f.c.tick(d)
	for errors.Is(err, errSilent) && f.ask() == nil { // it is slow
		clock, err = f.c.tick(d)
	}
	f.now, f.clock = f.now.Add(d), f.clock+d
	if err == nil && clock != f.clock {
		f.tb.Fatalf("%s: its clock stands at %v, not at %v: that is another state", f.name, clock, f.clock)
	}
	if f.health != (health.Check{}) && f.now.Sub(f.asked) >= checkEvery {
		f.asked = f.now
		f.pulse, dead = f.pulse.Answer(f.now, f.ask() == nil)
		return dead
	}
	if err == nil || errors.Is(err, errSilent) {
		return false
	}
	select {
	case <-f.k.tree.CommandDone():
	case <-time.After(30 * time.Second):
		said, _ := os.ReadFile(f.k.path(api.OutputName))
		f.tb.Fatalf("%s: it has not ended and does not answer: %v\n%s", f.name, err, said)
	}
	return true
}

// ask asks whether the server is well, as a keeper does.
func (f *fault) ask() error {
	ctx, end := context.WithTimeout(context.Background(), checkTime)
	defer end()
	return f.k.m.Ask(ctx, f.health)
}

// ended is how the server has died.
func (f *fault) ended() policy.End {
	f.tb.Helper()
	f.c.hangUp()
	if f.health != (health.Check{}) {
		f.k.rec.run.Ended = false
		return policy.End{Known: true, Code: 1}
	}
	wait, known := f.k.wait()
	f.k.rec.run.Ended, f.k.rec.run.Wait = known, wait
	end := policy.EndOf(known, wait)
	if end.Clean() || end.Outside() {
		f.tb.Fatalf("%s: it ended with %s", f.name, describeEnd(known, wait))
	}
	return end
}

// restored notes that the server goes on where it was at an instant.
func (f *fault) restored(taken time.Time) {
	f.clock, f.asked, f.pulse = taken.Sub(faultEpoch), f.now, policy.Pulse{Since: f.now}
}

// recover has the keeper bring the server back until it lives or is given up.
func (f *fault) recover(crashed time.Time, end policy.End, out *outcome) {
	f.tb.Helper()
	ctx := context.Background()
	for dead := true; dead; {
		if err := f.k.crashed(ctx, end, f.now, "of its fault"); err != nil {
			f.tb.Fatal(err)
		}
		if f.k.tree == nil {
			return // given up
		}
		in := f.k.rec.history.Incident
		try := in.Tries[len(in.Tries)-1]
		out.attempts, out.lost = len(in.Tries), crashed.Sub(try.Taken)
		f.restored(try.Taken)
		if dead = f.probation(policy.Probation(in.Crashed, try.Taken), true); dead {
			end = f.ended()
		}
	}
	f.k.lived()
	out.recovered = f.k.rec.history.Incident == nil
}

// probation lets a restored server live for so long, and while it is ill. The
// checkpoints that are due meanwhile are taken at growing distances: what died is
// not tried again by way of what was restored from it.
func (f *fault) probation(d time.Duration, checkpoints bool) (dead bool) {
	f.tb.Helper()
	until := f.now.Add(d)
	for gap := f.every; f.now.Before(until); gap *= 4 {
		if f.advance(earlier(f.now.Add(gap), until)) {
			return true
		}
		if checkpoints {
			f.checkpoint()
		}
	}
	for f.health != (health.Check{}) && (!f.pulse.Well || f.pulse.Failed > 0) && !dead {
		dead = f.advance(f.now.Add(checkEvery))
	}
	return dead
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// alwaysNewest brings the server back as one would who knows of no fault: the
// newest generation, until it lives or patience ends.
func (f *fault) alwaysNewest(newest store.Info, crashed time.Time, tries int, out *outcome) {
	f.tb.Helper()
	ctx := context.Background()
	for out.newest < tries && !out.newestLived {
		f.end()
		if err := f.k.restoreGeneration(ctx, newest.Generation); err != nil {
			f.tb.Fatal(err)
		}
		f.now = crashed
		f.restored(taken(newest))
		out.newest++
		out.newestLived = !f.probation(policy.Probation(crashed, taken(newest)), false)
	}
	f.c.hangUp()
	f.now = crashed
}

// tried is what was tried in the incident, in turn.
func (f *fault) tried() []policy.Generation {
	var out []policy.Generation
	if n := len(f.k.rec.history.Past); n > 0 {
		for _, t := range f.k.rec.history.Past[n-1].Tries {
			out = append(out, t.Generation)
		}
	}
	return out
}

// foretell is what policy alone tries when a state dies that is younger than
// the fault, and no other.
func foretell(list []policy.Candidate, crashed, spoilAt time.Time, every time.Duration) (tries []policy.Generation) {
	in, bad := policy.Incident{Crashed: crashed}, []policy.Generation(nil)
	for {
		d := policy.Next(policy.Rules{Every: every}, in, list, bad)
		if d.Do != policy.Restore {
			return tries
		}
		tries = append(tries, d.Generation)
		c := list[slices.IndexFunc(list, func(c policy.Candidate) bool { return c.Generation == d.Generation })]
		if c.Taken.Before(spoilAt) {
			return tries
		}
		in.Tries = append(in.Tries, policy.Try{Generation: c.Generation, Taken: c.Taken, Fate: policy.Died})
		bad = append(bad, c.Generation)
	}
}

// kept returns the instants, since the start of a server, at which checkpoints
// are due that are still there in the end: retention lets the others go. Where
// they are few it is all of them, and retention has something to do.
func kept(every, until time.Duration) []time.Duration {
	var held []policy.Held
	for at := time.Duration(0); at <= until; at += every {
		held = append(held, policy.Held{Generation: policy.Generation(at/every) + 1, At: faultEpoch.Add(at), Sound: true})
		if gone := policy.Drop(held); len(gone) >= dropBatch && until/every > denseMax {
			held = slices.DeleteFunc(held, func(h policy.Held) bool { return slices.Contains(gone, h.Generation) })
		}
	}
	var out []time.Duration
	for _, h := range held {
		out = append(out, h.At.Sub(faultEpoch))
	}
	return out
}
