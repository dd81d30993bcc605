package durabletest

import (
	"fmt"
	"math/rand/v2"

	"github.com/wakepoint/wakepoint/durable"
)

// TB is what a test must be able to do: *testing.T is one.
type TB interface {
	Helper()
	Logf(format string, args ...any)
	Errorf(format string, args ...any)
}

// A Test is one life of a ledger: what a client of the program does, and what it
// expects afterwards.
//
// Run opens the program on a disk, does what a client does, and notes in the
// ledger what was asked for and what was acknowledged. When a call on the disk
// fails it ends the program, all its goroutines too, and returns an error.
//
// Check opens the program on what is left of the disk, and returns an error when
// that is not what the ledger allows. What it was told goes into the ledger: what
// is there must be there after the next cut, and what is not never comes. Run may
// be called again then, to go on.
type Test struct {
	Run, Check func(fs durable.FS) error
}

// Options says how much is tried.
type Options struct {
	// Seed draws all that is drawn. Of a program that uses the disk from one
	// goroutine at a time the same seed tries the same.
	Seed uint64
	// Cuts is how often the power is cut, about; kills come besides. 0: at each
	// call of Run six times, of which five are the extremes, and a kill, and each
	// once more with another cut or kill behind it.
	Cuts int
	// Disk returns the disk with which a try begins. nil: NewDisk.
	Disk func() *Disk
	// Only is a failed try, as it was reported: nothing else is tried.
	Only string
}

// Report says how much was tried.
type Report struct {
	Seed   uint64
	Points int // calls of Run at which something was tried
	Of     int // calls that Run makes, and the end
	Tries  int
	Cuts   int // power cuts
	Kills  int
	Failed int // tries
}

// String returns the report as a line.
func (r Report) String() string {
	return fmt.Sprintf("seed %d: %d of %d cut points, %d tries, %d power cuts, %d kills, %d failed", r.Seed, r.Points, r.Of, r.Tries, r.Cuts, r.Kills, r.Failed)
}

// Crash tries what becomes of a program when the power is cut at any call that
// changes the disk, or the program is killed. Every try begins with a new ledger
// and a new disk: Run, ended by a cut; perhaps Check, ended by another one, or
// Run again behind a Check; and Check at the end.
//
// A try that fails is reported by what was done, which Options.Only repeats.
func Crash(t TB, o Options, begin func() Test) Report {
	t.Helper()
	return newTrial(t, o, nil, begin).all(crashes)
}

// Fail lets each call of Run that changes the disk fail with err, for once and
// from then on, not done and done; then the program is killed or the power is
// cut. Run may return an error or not.
func Fail(t TB, o Options, err error, begin func() Test) Report {
	t.Helper()
	return newTrial(t, o, err, begin).all(faults)
}

// failedMax is how many tries may fail before no other one is made.
const failedMax = 5

// trial is what is tried.
type trial struct {
	TB
	o      Options
	err    error
	begin  func() Test
	rand   *rand.Rand
	calls  int // of Run
	points map[int]bool
	Report
}

func newTrial(t TB, o Options, err error, begin func() Test) *trial {
	if o.Disk == nil {
		o.Disk = NewDisk
	}
	return &trial{TB: t, o: o, err: err, begin: begin, rand: rand.New(rand.NewPCG(o.Seed, 0x6375747320)),
		points: map[int]bool{}, Report: Report{Seed: o.Seed}}
}

// all tries what is in the plan.
func (t *trial) all(plan func(t *trial, round int) []step) Report {
	t.Helper()
	if t.o.Only != "" {
		if path, err := parsePath(t.o.Only); err != nil {
			t.Errorf("%v", err)
		} else {
			t.try(path)
		}
		return t.Report
	}
	if t.whole() {
		for round := 0; t.more(round); round++ {
			for _, s := range plan(t, round) {
				if t.more(round) {
					t.further(path{s})
				}
			}
		}
	}
	t.Points, t.Of = len(t.points), t.calls+1
	t.Logf("%v", t.Report)
	return t.Report
}

// more reports whether there is to be another try.
func (t *trial) more(round int) bool {
	if t.Failed >= failedMax {
		return false
	}
	return t.o.Cuts == 0 && round == 0 || t.Cuts < t.o.Cuts
}

// whole runs the test without any cut, and counts.
func (t *trial) whole() bool {
	t.Helper()
	test, d := t.begin(), t.o.Disk()
	before := d.Calls()
	err := test.Run(d)
	t.calls = d.Calls() - before
	if err == nil {
		err = test.Check(d)
	}
	if err != nil {
		t.Failed++
		t.Errorf("without any cut: %v", err)
	}
	return err == nil
}

// crashes are the cuts and kills that are tried in a round, in any order.
func crashes(t *trial, round int) []step {
	var all []step
	for call := 1; call <= t.calls+1; call++ {
		for keep := LoseAll; round == 0 && keep < Drawn; keep++ {
			all = append(all, step{who: "run", call: call, keep: keep})
		}
		all = append(all, step{who: "run", call: call, keep: t.draw()}, step{who: "run", call: call, kill: true})
	}
	t.rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all
}

// faults are the calls that are let fail in a round.
func faults(t *trial, _ int) []step {
	var all []step
	for call := 1; call <= t.calls; call++ {
		for _, how := range []string{"fail", "fail-on", "lie", "lie-on"} {
			s := step{who: "run", call: call, fault: how}
			s.kill = true
			all = append(all, s)
			s.kill, s.keep = false, []Survivors{LoseAll, t.draw()}[t.rand.IntN(2)]
			all = append(all, s)
		}
	}
	t.rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all
}

// draw draws what survives, without the extremes.
func (t *trial) draw() Survivors { return Drawn + Survivors(t.rand.Uint64N(1e6)) }

// further tries a path, and one that goes on where it ends, now and then two.
func (t *trial) further(p path) {
	t.Helper()
	calls, ok := t.try(p)
	for n := 1; ok && (n == 1 || t.rand.IntN(4) == 0); n++ {
		s := step{who: "check", call: 1 + t.rand.IntN(calls+1), keep: t.draw()}
		if t.rand.IntN(3) == 0 {
			s.who, s.call = "run", 1+t.rand.IntN(t.calls+t.calls/4+1)
		}
		switch t.rand.IntN(8) {
		case 0:
			s.kill = true
		case 1, 2, 3:
			s.keep = Survivors(t.rand.IntN(int(Drawn)))
		}
		p = append(p[:len(p):len(p)], s)
		calls, ok = t.try(p)
	}
}

// try goes a path, and reports it if it fails. It returns how many calls the
// check at the end made.
func (t *trial) try(p path) (calls int, ok bool) {
	t.Helper()
	t.Tries++
	over := false
	defer func() {
		if !over { // a panic, or the test is over
			t.Logf("in the try %q", p.String())
		}
	}()
	calls, trail, err := t.play(p)
	if over = true; err == nil {
		return calls, true
	}
	t.Failed++
	t.Errorf("%sit is not as promised: %v\nto repeat it: Options{Only: %q}", trail, err, p.String())
	return calls, false
}

// play goes a path. The trail says what was done.
func (t *trial) play(p path) (calls int, trail string, err error) {
	test, d := t.begin(), t.o.Disk()
	for _, s := range p {
		do := test.Run
		if s.who == "check" {
			do = test.Check
		}
		if s.who == "run" && len(trail) == 0 {
			t.points[s.call] = true
		}
		if s.who == "run" && len(trail) > 0 {
			if err := test.Check(d); err != nil {
				return 0, trail, err
			}
		}
		before := d.Calls()
		s.prepare(d, t.err)
		err := do(d)
		if err != nil && s.fault == "" && !d.isOff() {
			return 0, trail, fmt.Errorf("%s: %w", s.who, err)
		}
		trail += s.happened(d, before)
		if d = s.after(d); s.kill {
			t.Kills++
		} else {
			t.Cuts++
		}
	}
	before := d.Calls()
	err = test.Check(d)
	return d.Calls() - before, trail, err
}
