package keeper

import (
	"context"
	"errors"
	"flag"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wakepoint/wakepoint/internal/api"
	"github.com/wakepoint/wakepoint/internal/disk"
	"github.com/wakepoint/wakepoint/internal/disk/crashfs"
	"github.com/wakepoint/wakepoint/internal/engine"
	"github.com/wakepoint/wakepoint/internal/generation"
	"github.com/wakepoint/wakepoint/internal/policy"
	"github.com/wakepoint/wakepoint/internal/store"
)

var (
	powerCuts = flag.Int("power.n", 30, "how often TestPowerCuts cuts the power")
	powerSeed = flag.Uint64("power.seed", 1, "of TestPowerCuts")
)

// power is a machine whose programs are fakes and whose store is a real one, on
// a disk that forgets what was not synced.
type power struct {
	*world
	disk *crashfs.FS

	pm       sync.Mutex // guards what follows
	after    int        // changes of the disk until the power goes; -1: it stays
	gone     bool
	left     *crashfs.FS // what the cut has left
	seed     uint64
	dumped   map[int]bool // states that were dumped
	promised int          // the newest of which it was said that it is committed
	gaveUp   bool         // at the end: each generation was cut too often while it was brought back
}

func (p *power) ask(op disk.Op) (disk.Verdict, error) {
	p.pm.Lock()
	defer p.pm.Unlock()
	if !p.gone && p.after >= 0 && crashfs.Changes(op) {
		if p.after--; p.after < 0 {
			p.gone, p.left = true, p.disk.Crash(p.seed)
		}
	}
	if p.gone {
		return disk.Fail, nil
	}
	return disk.Do, nil
}

// poweredTree says what was committed of it.
type poweredTree struct {
	*fakeTree
	p      *power
	dumped int
}

func (t *poweredTree) Freeze(ctx context.Context) (frozen, error) {
	f, err := t.fakeTree.Freeze(ctx)
	if err != nil {
		return nil, err
	}
	return poweredFrozen{f.(*fakeFrozen), t}, nil
}

func (t *poweredTree) Committed() {
	t.fakeTree.Committed()
	t.p.pm.Lock()
	defer t.p.pm.Unlock()
	if !t.p.gone {
		t.p.promised = t.dumped
	}
}

type poweredFrozen struct {
	*fakeFrozen
	t *poweredTree
}

func (f poweredFrozen) Dump(ctx context.Context, s engine.Sink, inherit bool) error {
	f.t.dumped = f.fakeFrozen.t.state
	f.t.p.pm.Lock()
	f.t.p.dumped[f.t.dumped] = true
	f.t.p.pm.Unlock()
	return f.fakeFrozen.Dump(ctx, s, inherit)
}

type poweredRestored struct {
	*fakeRestored
	p *power
}

func (r poweredRestored) Run() (tree, error) {
	t, err := r.fakeRestored.Run()
	if err != nil {
		return nil, err
	}
	return &poweredTree{fakeTree: t.(*fakeTree), p: r.p}, nil
}

func (p *power) Start(ctx context.Context, o engine.StartOptions) (tree, error) {
	t, err := p.world.Start(ctx, o)
	if err != nil {
		return nil, err
	}
	return &poweredTree{fakeTree: t.(*fakeTree), p: p}, nil
}

func (p *power) Open(ctx context.Context, h engine.Handle) (tree, error) {
	t, err := p.world.Open(ctx, h)
	if err != nil {
		return nil, err
	}
	return &poweredTree{fakeTree: t.(*fakeTree), p: p}, nil
}

func (p *power) Restore(_ context.Context, s engine.Source, o engine.RestoreOptions) (restored, error) {
	text, err := s.Blob("state")
	if err != nil {
		return nil, err
	}
	n, err := strconv.Atoi(string(text))
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return poweredRestored{&fakeRestored{p.newTree(n, dup(o.Record)), &fakeGen{}}, p}, nil
}

// powerVault is a workload of the real store; what a keeper keeps beside it
// lies in dir, which no cut harms: it says nothing that matters.
type powerVault struct {
	*store.Workload
	dir string
}

func (v powerVault) Dir() string                         { return v.dir }
func (v powerVault) Space() (free, total int64, e error) { return 1 << 40, 1 << 41, nil }
func (v powerVault) Lock() (io.Closer, error)            { return v.Workload.Lock() }
func (v powerVault) Begin(parent store.Generation, buffer int64) (draft, error) {
	return realVault{v.Workload}.Begin(parent, buffer)
}

func (v powerVault) OpenGeneration(g store.Generation) (reader, error) {
	return generation.Open(v.Workload, g)
}

// TestPowerCuts cuts the power again and again, wherever a keeper is: in
// commits, in gc, in recoveries. Nothing of which it was said that it is committed
// is lost, what runs is a state that was dumped, and at the end it lives.
func TestPowerCuts(t *testing.T) {
	const series = 20
	rnd := rand.New(rand.NewPCG(*powerSeed, 11))
	done, gaveUp := 0, 0
	for n := 0; done < *powerCuts && !t.Failed(); n++ {
		synctest.Test(t, func(t *testing.T) {
			p := &power{world: newWorld(t.TempDir()), disk: crashfs.New(), dumped: map[int]bool{0: true}, after: -1}
			r := &rig{T: t, w: p.world}
			defer func() {
				if r.cancel != nil {
					r.cancel()
					synctest.Wait()
				}
			}()
			for cut := range series + 1 {
				last := cut == series || done == *powerCuts
				p.run(r, rnd, cut == 0, last)
				if last && p.gaveUp {
					gaveUp++
				}
				if last || t.Failed() {
					return
				}
				done++
			}
		})
	}
	t.Logf("seed %d: %d of %d power cuts; %d times each generation was cut too often while it was brought back, and the workload waits for a person", *powerSeed, done, *powerCuts, gaveUp)
	if gaveUp > 1+*powerCuts/series/10 {
		t.Error("that is too often")
	}
}

// run lets a keeper work on the disk until the power is cut or, at last, for
// good, and compares.
func (p *power) run(r *rig, rnd *rand.Rand, first, last bool) {
	w := p.boot(r, first)
	p.pm.Lock()
	p.gone, p.left, p.seed, p.after = false, nil, rnd.Uint64(), -1
	before := p.promised
	if !last && rnd.IntN(2) == 0 {
		p.after = rnd.IntN(60) // in the recovery, most likely
	}
	p.pm.Unlock()
	p.disk.Watch(p.ask)
	action := Action(ActRecover)
	if first {
		action, p.after = ActLaunch, -1
	} else if rec, err := readRecords(w); err == nil && rec.run.State == api.Failed {
		action = ActStart // as a person would
	}
	p.begin(r, powerVault{w, p.dir}, action)
	for range rnd.IntN(5) {
		p.advance()
		time.Sleep(time.Duration(rnd.IntN(3000)) * time.Millisecond)
		if rnd.IntN(4) == 0 && !p.off() && len(p.living()) == 1 {
			r.ask(api.Request{Op: []string{api.OpCheckpoint, api.OpCollect}[rnd.IntN(2)]})
		}
	}
	p.pm.Lock()
	whole := !p.gone && p.after < 0
	p.pm.Unlock()
	if whole && rnd.IntN(4) > 0 {
		time.Sleep(30 * time.Second) // what was restored is on probation no more
	}
	p.pm.Lock()
	if !last && whole {
		p.after = rnd.IntN(60)
	}
	p.pm.Unlock()
	p.advance()
	time.Sleep(5 * time.Second)
	if last {
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		s := r.k.status()
		if s.State == api.Failed && p.interrupted(r) {
			p.gaveUp = true
			return
		}
		if in := s.Incident; s.State != api.Running || in != nil && !in.ProbationUntil.After(time.Now()) {
			r.Errorf("at the end it is %s: %+v", s.State, in)
		}
	}
	synctest.Wait()
	for _, t := range p.living() {
		if t.frozen {
			r.Error("it was left frozen")
		}
		if !p.dumped[t.state] && t.state != p.count() {
			r.Errorf("state %d was never dumped", t.state)
		}
	}
	if !last {
		p.cut(r, before)
	}
}

// boot opens the store on what is there of the disk.
func (p *power) boot(r *rig, first bool) *store.Workload {
	s, err := store.Open("/store", store.Options{FS: p.disk, Heads: "/heads"})
	if err != nil {
		r.Fatal("open the store:", err)
	}
	if !first {
		w, err := s.Workload("web")
		if err != nil {
			r.Fatal("open the workload:", err)
		}
		return w
	}
	w, err := s.Create("web")
	if err != nil {
		r.Fatal(err)
	}
	policy, _, err := preparePolicy(api.Policy{RehearseSeconds: -1, EverySeconds: 2}, api.Spec{Argv: []string{"prog"}, Dir: "/"})
	if err != nil {
		r.Fatal(err)
	}
	l, err := w.Lock()
	if err != nil {
		r.Fatal(err)
	}
	defer l.Close()
	spec := api.Spec{Name: "web", Argv: []string{"prog"}, Dir: "/", Notify: "web"}
	err = errors.Join(putRecord(w, recordSpec, spec), putRecord(w, recordPolicy, policy), putRecord(w, recordRun, runRecord{Wanted: true, State: api.Starting}))
	if err != nil {
		r.Fatal(err)
	}
	return w
}

// begin starts a keeper.
func (p *power) begin(r *rig, v powerVault, a Action) {
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel, r.done = cancel, make(chan error, 1)
	lock, err := v.Lock()
	if err != nil && p.off() { // as early as that
		r.done <- err
		return
	}
	if err != nil {
		r.Fatal("lock:", err)
	}
	r.k = newKeeper(p, v, Site{}, slog.New(slog.DiscardHandler))
	k := r.k
	go func() {
		err := k.load()
		if err == nil {
			err = k.work(ctx, Options{Name: "web", Action: a}, newReporter(nil))
		}
		_ = lock.Close()
		close(k.released)
		r.done <- err
	}()
	synctest.Wait()
}

// count is the newest state that any program has had.
func (p *power) count() int {
	p.pm.Lock()
	defer p.pm.Unlock()
	top := 0
	for n := range p.dumped {
		top = max(top, n)
	}
	return top + 1
}

// advance lets the program work.
func (p *power) advance() {
	n := p.count()
	for _, t := range p.living() {
		t.set(n)
	}
}

// off says that the power is gone.
func (p *power) off() bool {
	p.pm.Lock()
	defer p.pm.Unlock()
	return p.gone
}

// interrupted says that nothing but power cuts made a workload give up.
func (p *power) interrupted(r *rig) bool {
	h := r.k.rec.history
	n := len(h.Past)
	return n > 0 && !slices.ContainsFunc(h.Past[n-1].Tries, func(t policy.Try) bool { return t.Fate != policy.Interrupted })
}

// cut ends everything, and looks whether what was promised is there.
func (p *power) cut(r *rig, before int) {
	p.pm.Lock()
	if !p.gone {
		p.gone, p.left = true, p.disk.Crash(p.seed)
	}
	p.pm.Unlock()
	r.kill()
	p.vanish()
	if err := os.RemoveAll(p.path(waitName)); err != nil {
		r.Fatal(err)
	}
	p.disk = p.left
	s, err := store.Open("/store", store.Options{FS: p.disk, Heads: "/heads"})
	if err != nil {
		r.Fatal("open what was left:", err)
	}
	w, err := s.Workload("web")
	if err != nil {
		r.Fatal("open the workload:", err)
	}
	infos, damage, err := w.Generations()
	if err != nil || len(damage) > 0 {
		r.Fatal("after a cut:", damage, err)
	}
	newest := 0
	for _, i := range infos {
		g, err := generation.Open(w, i.Generation)
		if err != nil {
			r.Fatalf("%v: %v", i.Generation, err)
		}
		text, err := g.Blob("state")
		if err != nil {
			r.Fatalf("%v: %v", i.Generation, err)
		}
		n, _ := strconv.Atoi(string(text))
		if newest = max(newest, n); !p.dumped[n] {
			r.Errorf("%v holds state %d, which was never dumped", i.Generation, n)
		}
		_ = g.Close()
	}
	if newest < p.promised {
		r.Errorf("state %d was committed, and the newest that is left is %d (before this run: %d)", p.promised, newest, before)
	}
}

func (p *power) path(name string) string { return p.dir + "/" + name }
