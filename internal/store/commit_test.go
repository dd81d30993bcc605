package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/wakepoint/wakepoint/internal/disk"
	"github.com/wakepoint/wakepoint/internal/disk/crashfs"
)

// recorder is a watcher that writes down what happens, and makes one
// operation fail.
type recorder struct {
	mu      sync.Mutex // guards all: packs are fsynced by the side
	dir     string
	trace   []string
	at      int // the operation to fail, from 1; 0: none
	verdict disk.Verdict
	seen    int
}

func (r *recorder) watch(op disk.Op) disk.Verdict {
	r.mu.Lock()
	defer r.mu.Unlock()
	line := strings.ReplaceAll(op.String(), r.dir+"/", "")
	line = strings.ReplaceAll(line, r.dir, ".")
	if len(r.trace) == 0 || r.trace[len(r.trace)-1] != line || op.Verb != "write" {
		r.trace = append(r.trace, line)
	}
	if r.seen++; r.seen == r.at {
		return r.verdict
	}
	return disk.Do
}

// reset begins a new trace, in which operation at fails.
func (r *recorder) reset(at int, v disk.Verdict) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.trace, r.at, r.verdict, r.seen = nil, at, v, 0
}

func change1(s *SectionWriter) error { return s.Put(0, page(1)) }
func change2(s *SectionWriter) error { return errors.Join(s.Put(0, page(2)), s.Put(high, page(3))) }
func change3(s *SectionWriter) error { return s.Zero(0, PageSize) }

// TestCommitTrace holds the order in which a commit and a removal touch the
// disk. Each line is there for a reason; see Draft.publish and
// Workload.remove.
func TestCommitTrace(t *testing.T) {
	r := &recorder{dir: filepath.Join(t.TempDir(), "w")}
	w := lockedWorkload(t, disk.Watch(disk.OS{}, r.watch), r.dir)
	write(t, w, 0, false, change1)
	check := func(what, want string) {
		t.Helper()
		if diff := cmp.Diff(strings.Fields(want), strings.Fields(strings.Join(r.trace, "\n"))); diff != "" {
			t.Errorf("%s: %s", what, diff)
		}
		r.reset(0, disk.Do)
	}
	r.reset(0, disk.Do)
	write(t, w, 1, true, change2)
	check("commit", `
		create packs/.tmp-g2.0
		create packs/.tmp-g2.c0
		write packs/.tmp-g2.0
		sync packs/.tmp-g2.0
		write packs/.tmp-g2.c0
		sync packs/.tmp-g2.c0
		rename packs/.tmp-g2.0 packs/g2.0
		rename packs/.tmp-g2.c0 packs/g2.c0
		syncdir packs
		create manifests/.tmp-g2
		write manifests/.tmp-g2
		sync manifests/.tmp-g2
		rename manifests/.tmp-g2 manifests/g2
		syncdir manifests`)
	write(t, w, 2, true, func(*SectionWriter) error { return nil })
	check("commit without a change", `
		create packs/.tmp-g3.c0
		write packs/.tmp-g3.c0
		sync packs/.tmp-g3.c0
		rename packs/.tmp-g3.c0 packs/g3.c0
		syncdir packs
		create manifests/.tmp-g3
		write manifests/.tmp-g3
		sync manifests/.tmp-g3
		rename manifests/.tmp-g3 manifests/g3
		syncdir manifests`)
	must(t, w.Forget(1)) // all of its pages but the blob's were replaced
	check("forget", `
		remove manifests/g1
		syncdir manifests`)
	must(t, w.Forget(3))
	check("forget the newest", `
		create .tmp-state
		write .tmp-state
		sync .tmp-state
		rename .tmp-state state
		syncdir .
		remove manifests/g3
		syncdir manifests
		remove packs/g3.c0`)
	forgetLast(t, w, check)
}

func forgetLast(t *testing.T, w *Workload, check func(what, want string)) {
	must(t, w.Forget(2))
	check("forget the last", `
		create .tmp-state
		write .tmp-state
		sync .tmp-state
		rename .tmp-state state
		syncdir .
		remove manifests/g2
		syncdir manifests
		remove packs/g1.0
		remove packs/g1.c0
		remove packs/g2.0
		remove packs/g2.c0`)
	must(t, w.PutRecord("policy", []byte("x")))
	check("record", `
		create records/.tmp-policy
		write records/.tmp-policy
		sync records/.tmp-policy
		rename records/.tmp-policy records/policy
		syncdir records`)
}

// step is one thing that a writer does, with what must hold after it failed.
type step struct {
	name string
	do   func(w *Workload) error
}

var steps = []step{
	{"commit", func(w *Workload) error {
		_, err := tryWrite(w, 2, true, change3)
		return err
	}},
	{"commit several packs", func(w *Workload) error {
		_, err := tryWrite(w, 2, false, func(s *SectionWriter) error {
			for i := range 64 {
				if err := s.Put(int64(i)*PageSize, page(100+i)); err != nil {
					return err
				}
			}
			return nil
		})
		return err
	}},
	{"abort", func(w *Workload) error {
		d, err := w.Begin(2)
		if err != nil {
			return err
		}
		err = d.Blob("large", page(4))
		return errors.Join(err, d.Abort())
	}},
	{"retain", func(w *Workload) error {
		_, err := w.Retain(1)
		return err
	}},
	{"drop", func(w *Workload) error {
		_, err := w.Drop([]Generation{1, 77})
		return err
	}},
	{"forget the newest", func(w *Workload) error { return w.Forget(2) }},
	{"lock", func(w *Workload) error {
		if err := w.own.Close(); err != nil {
			return err
		}
		w.own = nil
		_, err := w.Lock()
		return err
	}},
	{"record", func(w *Workload) error { return w.PutRecord("policy", []byte("new")) }},
}

// TestCommitFaults makes each operation of each step fail, both ways: not
// done, and done but reported as an error. Whatever fails, nothing that was
// committed is lost, no number is used twice, and the next commit works.
func TestCommitFaults(t *testing.T) {
	points := 0
	for _, s := range steps {
		for _, v := range []disk.Verdict{disk.Fail, disk.Lie} {
			for at := 1; ; at++ {
				f := &fault{T: t, step: s, name: fmt.Sprintf("%s/%d/%d", s.name, v, at)}
				if !f.run(at, v) {
					break
				}
				points++
			}
		}
	}
	t.Logf("%d points", points)
}

// fault is one step with one failure in it.
type fault struct {
	*testing.T
	step step
	name string
	rec  recorder

	committed bool
	tried     Generation // the highest number that was used
}

func (f *fault) open() *Workload {
	o := Options{FS: disk.Watch(unsynced{}, f.rec.watch), limits: defaultLimits}
	o.limits.packSize = 64 << 10
	w, err := openWorkload(f.rec.dir, [16]byte{}, o.filled())
	if err == nil {
		_, err = w.Lock()
	}
	if err != nil {
		f.Fatalf("%s: %v", f.name, err)
	}
	return w
}

// run returns false when the step has fewer operations.
func (f *fault) run(at int, v disk.Verdict) bool {
	f.rec.dir = filepath.Join(f.TempDir(), "w")
	w := f.open()
	write(f, w, 0, false, change1)
	write(f, w, 1, true, change2)
	must(f, w.PutRecord("policy", []byte("old")))

	f.rec.reset(at, v)
	err := f.step.do(w)
	if f.rec.seen < at {
		if err != nil {
			f.Fatalf("%s: without a failure: %v", f.name, err)
		}
		must(f, w.own.Close())
		return false
	}
	f.rec.reset(0, disk.Do)
	f.tried = 2
	if writes := strings.HasPrefix(f.step.name, "commit"); writes || f.step.name == "abort" {
		f.tried, f.committed = 3, writes && err == nil
	}
	if w.own != nil {
		if at%2 == 0 { // the same writer goes on, or another one takes over
			f.check(w)
		}
		must(f, w.own.Close())
	}
	w = f.open()
	f.check(w)
	if _, err := w.Retain(1); err != nil {
		f.Fatalf("%s: %v", f.name, err)
	}
	if _, err := contents(w, f.tried); err != nil {
		f.Fatalf("%s: after gc: %v", f.name, err)
	}
	noLeftovers(f.T, f.name, w)
	must(f, w.own.Close())
	return true
}

// check compares what must be there and commits another generation.
func (f *fault) check(w *Workload) {
	f.Helper()
	gens := f.generations(w)
	before := []map[int64][]byte{nil, {0: page(1)}, {0: page(2), high / PageSize: page(3)}}
	for _, g := range gens {
		pages, err := contents(w, g)
		if err != nil {
			f.Fatalf("%s: %v: %v", f.name, g, err)
		}
		if int(g) < len(before) && !maps.EqualFunc(pages, before[g], bytes.Equal) {
			f.Fatalf("%s: %v differs", f.name, g)
		}
	}
	text, err := w.Record("policy")
	if err != nil || string(text) != "old" && (f.step.name != "record" || string(text) != "new") {
		f.Fatalf("%s: record %q, %v", f.name, text, err)
	}
	info, err := tryWrite(w, gens[0], true, change2)
	if err != nil {
		f.Fatalf("%s: the next commit: %v", f.name, err)
	}
	if info.Generation <= f.tried {
		f.Fatalf("%s: number %v was used before", f.name, info.Generation)
	}
	f.tried = info.Generation
}

// generations returns those that there are, after checking that none is lost.
func (f *fault) generations(w *Workload) []Generation {
	f.Helper()
	infos, damages, err := w.Generations()
	if err != nil || len(damages) > 0 {
		f.Fatalf("%s: generations: %v, %v", f.name, damages, err)
	}
	var gens []Generation
	for _, i := range infos {
		gens = append(gens, i.Generation)
	}
	for g, gone := range map[Generation]bool{
		1: f.step.name == "retain" || f.step.name == "drop",
		2: f.step.name == "forget the newest",
		3: !f.committed,
	} {
		if !slices.Contains(gens, g) && !gone {
			f.Fatalf("%s: %v is lost, there are %v", f.name, g, gens)
		}
	}
	return gens
}

// noLeftovers checks that nothing lies there that nobody refers to.
func noLeftovers(t *testing.T, name string, w *Workload) {
	t.Helper()
	gens, err := w.list()
	must(t, err)
	used := map[string]bool{}
	for _, g := range gens {
		m, err := w.manifest(g)
		must(t, err)
		for i := range m.Copies {
			used[packID(g, copiesIndex+i).String()] = true
		}
		for _, p := range m.Packs {
			used[p.Pack.String()] = true
			used[packID(p.Pack.Generation(), copiesIndex).String()] = true
		}
	}
	packs, err := w.packs.List()
	must(t, err)
	for _, p := range packs {
		if !used[p] {
			t.Fatalf("%s: pack %s was left behind", name, p)
		}
	}
	for _, d := range []interface{ Leftovers() ([]string, error) }{w.packs, w.manifests} {
		left, err := d.Leftovers()
		if err != nil || len(left) > 0 {
			t.Fatalf("%s: left behind: %v, %v", name, left, err)
		}
	}
}

func TestCommitRefusals(t *testing.T) {
	w := newWorkload(t, disk.OS{})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	d, err := w.Begin(0)
	must(t, err)
	if _, err := w.Begin(0); err == nil {
		t.Error("a second draft was begun")
	}
	if _, err := d.Section("mem", true); !errors.Is(err, ErrNotFound) {
		t.Errorf("inherit from nothing: %v", err)
	}
	s, err := d.Section("mem", false)
	must(t, err)
	for _, r := range [][2]int64{{1, PageSize}, {-PageSize, PageSize}, {0, 1}, {sizeMax, PageSize}, {0, -PageSize}} {
		if err := s.Zero(r[0], r[1]); err == nil {
			t.Errorf("bad range %v was taken", r)
		}
	}
	if _, err := d.Section("mem", false); !errors.Is(err, ErrExist) {
		t.Errorf("second section of one name: %v", err)
	}
	must(t, s.Put(0, page(1)))
	if _, err := d.Commit(context.Background(), CommitInfo{}); err == nil {
		t.Error("committed with an open section")
	}
	if _, err := d.Commit(context.Background(), CommitInfo{}); !errors.Is(err, errEnded) {
		t.Errorf("second commit: %v", err)
	}
	d, err = w.Begin(0)
	must(t, err)
	if _, err := d.Commit(ctx, CommitInfo{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if _, err := w.Begin(7); !errors.Is(err, ErrNotFound) {
		t.Errorf("unknown parent: %v", err)
	}
	// Another writer, where locks do not reach.
	d, err = w.Begin(0)
	must(t, err)
	b, err := encodeCBOR(state{Epoch: 9})
	must(t, err)
	must(t, writeRecord(w.fs, w.keys, filepath.Join(w.dir, stateFile), b))
	if _, err := d.Commit(context.Background(), CommitInfo{}); !errors.Is(err, ErrStale) {
		t.Errorf("stale writer: %v", err)
	}
}

// TestStaleWriter takes the workload away from a draft while an fsync goes on
// by the side: the draft ends after it.
func TestStaleWriter(t *testing.T) {
	d := crashfs.New()
	w := lockedWorkload(t, d, "/w")
	w.o.limits = tiny
	b, err := w.BeginBuffered(0, 1)
	must(t, err)
	other, err := encodeCBOR(state{Epoch: 9})
	must(t, err)
	must(t, writeRecord(w.fs, w.keys, filepath.Join(w.dir, stateFile), other))
	began := make(chan bool, 100)
	var going atomic.Int32
	d.Watch(func(op disk.Op) (disk.Verdict, error) {
		if op.Verb == "sync" {
			going.Add(1)
			began <- true
			time.Sleep(50 * time.Millisecond) // whoever does not wait is told below
			going.Add(-1)
		}
		return disk.Do, nil
	})
	s, err := b.Section("mem", false)
	must(t, err)
	for i := range int64(300) { // more than the buffer, and many packs
		must(t, s.Put(i*PageSize, page(2*int(i))))
	}
	<-began
	if err := b.Abort(); !errors.Is(err, ErrStale) {
		t.Errorf("stale writer: %v", err)
	}
	if n := going.Load(); n != 0 {
		t.Errorf("%d fsyncs go on after the draft has ended", n)
	}
}
