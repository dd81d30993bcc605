package durable_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wakepoint/wakepoint/durable"
	"github.com/wakepoint/wakepoint/durable/durabletest"
)

// outside is who jobs have effects on: it survives what becomes of the database,
// and knows an effect by its key. It keeps the calls in order, a line for each:
// "call KEY", "no KEY" (what was not done), "acknowledged KEY".
type outside struct {
	mu    sync.Mutex // guards the rest
	lines []string
	file  io.Writer // gets them, too; nil: none
}

// say adds a line, and returns how often it was there before.
func (o *outside) say(what, key string) (before int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	line := what + " " + key
	for _, l := range o.lines {
		if l == line {
			before++
		}
	}
	o.lines = append(o.lines, line)
	if o.file != nil {
		if _, err := io.WriteString(o.file, line+"\n"); err != nil {
			panic(err)
		}
	}
	return before
}

// knows says whether there was a line.
func (o *outside) knows(what, key string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Contains(o.lines, what+" "+key)
}

// twice says whether a Do has had its effect already, where the end of the id says
// that it fails then.
func (o *outside) twice(w *durable.Work[transfer], with string) bool {
	return ends(w.ID(), with) && !strings.HasSuffix(w.Key(), "/2/do") && o.knows("call", w.Key()) && strings.HasSuffix(w.Key(), "/do")
}

// refund takes back the effect of a Do, if it had one.
func (o *outside) refund(w *durable.Work[transfer]) error {
	if o.knows("call", strings.TrimSuffix(w.Key(), "undo")+"do") {
		o.say("call", w.Key())
	}
	return nil
}

// transfer is a job that moves money from one account to another, by way of a
// third one.
type transfer struct {
	Amount int64    `cbor:"1,keyasint"`
	Passed []string `cbor:"2,keyasint"`
}

// bank is a program with jobs. What goes wrong with a transfer says the end of its
// id: "f", its last step fails before it has an effect; "r", those without money are
// tried again; "b", both: each for the first time that the outside knows of. "c", its
// second step has its effect, is tried again, and fails; "p", the same with a panic; "x", those with an undoing
// have theirs, and fail if a crash lets them be called again.
type bank struct {
	*durable.DB
	out      *outside
	accounts *durable.Table[string, int64]
	jobs     *durable.Job[transfer]
}

const (
	bankSteps = 4
	bankMoney = 1000
	bankOther = 2 // the step with nothing to undo
)

// bankOf opens a bank. A loose one moves money in a transaction of its own, for
// TestJobsTeeth.
func bankOf(out *outside, loose bool, o durable.Options) (*bank, error) {
	b := &bank{out: out, accounts: durable.NewTable[string, int64]("accounts")}
	type work = *durable.Work[transfer]
	move := func(from, to string) func(context.Context, work) error {
		return func(ctx context.Context, w work) error {
			if out.twice(w, "x") {
				return errOwn
			}
			if !w.Recorded() && strings.HasSuffix(w.Key(), "/undo") {
				return out.refund(w) // no money has moved
			}
			if ends(w.ID(), "fb") && strings.HasSuffix(w.Key(), "/3/do") && out.say("no", w.Key()) == 0 {
				return errOwn
			}
			out.say("call", w.Key())
			pay := func(tx *durable.Tx) error {
				f, _ := b.accounts.Get(tx, from)
				t, _ := b.accounts.Get(tx, to)
				b.accounts.Put(tx, from, f-w.State().Amount)
				b.accounts.Put(tx, to, t+w.State().Amount)
				return nil
			}
			if loose {
				if err := b.Update(ctx, pay); err != nil {
					return err
				}
			}
			err := w.Update(ctx, func(tx *durable.Tx, s *transfer) error {
				if !loose {
					_ = pay(tx)
				}
				s.Passed = append(s.Passed, to)
				return nil
			})
			if err == nil {
				out.say("acknowledged", w.Key())
			}
			return err
		}
	}
	notify := func(_ context.Context, w work) error {
		if ends(w.ID(), "rb") && out.say("no", w.Key()) == 0 {
			return durable.Retry(errOwn, 0)
		}
		if out.twice(w, "cpx") {
			return errOwn
		}
		if strings.HasSuffix(w.Key(), "/undo") {
			return out.refund(w)
		}
		out.say("call", w.Key())
		if ends(w.ID(), "cp") && strings.HasSuffix(w.Key(), "/1/do") {
			if ends(w.ID(), "p") {
				panic(errOwn)
			}
			return durable.Retry(errOwn, 0)
		}
		return nil
	}
	type step = durable.Step[transfer]
	b.jobs = durable.NewJob("transfer",
		step{Do: move("from", "way"), Undo: move("way", "from")},
		step{Do: notify, Undo: notify},
		step{Do: notify},
		step{Do: move("way", "to"), Undo: move("to", "way")})
	var err error
	b.DB, _, err = durable.Open(context.Background(), o, b.accounts, b.jobs)
	return b, err
}

func ends(id, with string) bool { return strings.ContainsAny(id[len(id)-1:], with) }

// begin starts jobs, and fills the accounts.
func (b *bank) begin(ids ...string) error {
	return b.Update(context.Background(), func(tx *durable.Tx) error {
		if _, found := b.accounts.Get(tx, "from"); !found {
			b.accounts.Put(tx, "from", bankMoney)
		}
		for i, id := range ids {
			b.jobs.Start(tx, id, transfer{Amount: int64(i + 1)})
		}
		return nil
	})
}

// patience is how long jobs are run on a disk that is cut: they wait for room.
const patience = time.Minute

// finish runs the jobs until all have ended that there are.
func (b *bank) finish(within time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	over := make(chan error, 1)
	go func() { over <- b.jobs.Run(ctx, b.DB) }()
	var ids []string
	err := b.View(ctx, func(tx *durable.Tx) error {
		for id := range b.jobs.All(tx) {
			ids = append(ids, id)
		}
		return nil
	})
	for _, id := range ids {
		if err == nil {
			_, err = b.jobs.Wait(ctx, b.DB, id)
		}
	}
	cancel()
	if ran := <-over; !errors.Is(ran, context.Canceled) {
		err = errors.Join(err, ran)
	}
	return err
}

// whole says what is wrong when all jobs have ended.
func (b *bank) whole() error {
	have, money, done := map[string]durable.JobStatus[transfer]{}, map[string]int64{}, int64(0)
	err := b.View(context.Background(), func(tx *durable.Tx) error {
		for id, s := range b.jobs.All(tx) {
			have[id] = s
			if s.Phase == durable.JobDone {
				done += s.State.Amount
			}
		}
		for name, n := range b.accounts.All(tx) {
			money[name] = n
		}
		return nil
	})
	if err != nil {
		return err
	}
	if len(have) > 0 && (money["from"] != bankMoney-done || money["way"] != 0 || money["to"] != done) {
		return fmt.Errorf("the accounts are %v, and %d was moved", money, done)
	}
	effects, err := b.out.effects()
	if err != nil {
		return err
	}
	for id, s := range have {
		if err := ended(id, s, effects[id]); err != nil {
			return err
		}
		delete(effects, id)
	}
	if len(effects) > 0 {
		return fmt.Errorf("there were effects of jobs that were never started: %v", effects)
	}
	return nil
}

// undoneAt is what the last step with an effect may be of a transfer that is undone, by
// the end of its id. One of "c" or "p" is never done, those that are not here always.
var undoneAt = map[byte]string{'f': "2", 'b': "2", 'c': "1", 'p': "1", 'x': "013"}

// ended says what is wrong with a job and its effects: when it is done each step
// has had its own, when it is undone all are taken back that there were, in
// steps without a gap.
func ended(id string, s durable.JobStatus[transfer], effects map[string]bool) error {
	key := func(step int, way string) string { return fmt.Sprintf("transfer/%s/%d/%s", id, step, way) }
	passed, want, last := "[way to]", map[string]bool{}, bankSteps-1
	right := s.Phase == durable.JobDone && !ends(id, "cp")
	if s.Phase == durable.JobUndone {
		for passed = "[way from]"; last > 0 && !effects[key(last, "do")]; {
			last--
		}
		if last == 0 {
			passed = "[]"
		}
		right = strings.Contains(undoneAt[id[len(id)-1]], fmt.Sprint(last)) // there is none for the others
	}
	for step := range last + 1 {
		want[key(step, "do")] = true
		if s.Phase == durable.JobUndone && step != bankOther {
			want[key(step, "undo")] = true
		}
	}
	if !right || fmt.Sprint(want) != fmt.Sprint(effects) || fmt.Sprint(s.State.Passed) != passed {
		return fmt.Errorf("job %s is %v, its state %v, its effects %v", id, s.Phase, s.State, effects)
	}
	return nil
}

// effects are what keys the jobs had effects under, by id. It is an error when a
// step was called that was acknowledged, or that others came after.
func (o *outside) effects() (map[string]map[string]bool, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	effects, at, closed := map[string]map[string]bool{}, map[string]int{}, map[string]bool{}
	for i, line := range o.lines {
		what, key, _ := strings.Cut(line, " ")
		part := strings.Split(key, "/")
		if len(part) < 4 {
			return nil, fmt.Errorf("line %d is cut: %q", i, line)
		}
		id, place := part[1], int(part[2][0]-'0')
		if part[3] == "undo" {
			place = 2*bankSteps - place
		}
		switch what {
		case "acknowledged":
			closed[key] = true
		case "call":
			if closed[key] || place < at[id] {
				return nil, fmt.Errorf("%s was called when it was recorded: %q", key, o.lines[:i+1])
			}
			if at[id] = place; effects[id] == nil {
				effects[id] = map[string]bool{}
			}
			effects[id][key] = true
		}
	}
	return effects, nil
}

// bankTest is a life of a bank.
type bankTest struct {
	out   *outside
	loose bool
	acked bool // the jobs were started
}

var bankIDs = []string{"1", "2f", "3r", "4b", "5c", "6p", "7x", "8"}

func (c *bankTest) run(fs durable.FS) error {
	return c.with(fs, func(b *bank) error {
		if err := b.begin(bankIDs[:7]...); err != nil {
			return err
		}
		c.acked = true
		if err := b.Checkpoint(context.Background()); err != nil {
			return err
		}
		over := make(chan error)
		go func() { over <- b.finish(patience) }()
		err := b.begin(bankIDs...) // one more, while the others are run
		err = errors.Join(err, <-over)
		if err == nil {
			err = b.finish(patience)
		}
		return err
	})
}

func (c *bankTest) with(fs durable.FS, do func(b *bank) error) error {
	b, err := bankOf(c.out, c.loose, durable.Options{Dir: dir, FS: fs}.WithSegments(segments))
	if err != nil {
		return err
	}
	return errors.Join(do(b), b.Close())
}

func (c *bankTest) check(fs durable.FS) error {
	return c.with(fs, func(b *bank) error {
		err := b.finish(patience)
		if err == nil {
			err = b.whole()
		}
		if err == nil && c.acked {
			err = b.View(context.Background(), func(tx *durable.Tx) error {
				for _, id := range bankIDs[:7] {
					if _, found := b.jobs.Get(tx, id); !found {
						return fmt.Errorf("job %s was started, and is not there", id)
					}
				}
				return nil
			})
		}
		return err
	})
}

// banks is the trial of a bank.
func banks(t durabletest.TB, o durabletest.Options, loose, slow bool) durabletest.Report {
	o.Disk = func() *durabletest.Disk {
		d := durabletest.NewDisk()
		if slow {
			d.SetDelay(3 * time.Millisecond)
		}
		return d
	}
	return durabletest.Crash(t, o, func() durabletest.Test {
		c := &bankTest{out: &outside{}, loose: loose}
		return durabletest.Test{Run: c.run, Check: c.check}
	})
}

// TestJobsCrash cuts the power, and kills, at any call while jobs are run that go
// forward, fail and are tried again. Each is done or undone then, has had each
// effect under one key, and taken it back when it is undone; nothing that was
// recorded was done or undone again.
func TestJobsCrash(t *testing.T) {
	for _, c := range []struct {
		cuts int // 0: at each call
		slow bool
	}{{0, false}, {*crashN / 6, false}, {*crashN / 6, true}} {
		synctest.Test(t, func(t *testing.T) {
			r := banks(t, durabletest.Options{Seed: *crashSeed, Cuts: c.cuts}, false, c.slow)
			if r.Of < 60 || c.cuts == 0 && r.Points < r.Of {
				t.Errorf("only %d of %d calls", r.Points, r.Of)
			}
		})
	}
}

// loud is a test that may fail.
type loud struct {
	testing.TB
	errors []string
}

func (l *loud) Errorf(format string, args ...any) {
	l.errors = append(l.errors, fmt.Sprintf(format, args...))
}
func (l *loud) Logf(string, ...any) {}

// TestJobsTeeth: it is noticed when what a step does is not durable together with
// its record.
func TestJobsTeeth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &loud{TB: t}
		banks(l, durabletest.Options{Seed: *crashSeed}, true, false)
		if len(l.errors) == 0 || !strings.Contains(l.errors[0], "the accounts are") || strings.HasPrefix(l.errors[0], "without") {
			t.Errorf("what is noticed is: %q", l.errors)
		}
	})
}

// childJobs says to this program that it is a bank to be killed, and where.
const childJobs = "WAKEPOINT_TEST_DURABLE_JOBS"

// bankIn opens a bank in a directory, with what the outside knows in a file.
func bankIn(dir string) (*bank, error) {
	known, err := os.ReadFile(dir + ".outside")
	if err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	f, err := os.OpenFile(dir+".outside", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	out := &outside{file: f}
	if known = bytes.TrimSpace(known); len(known) > 0 {
		out.lines = strings.Split(string(known), "\n")
	}
	return bankOf(out, false, durable.Options{Dir: dir}.WithSegments(1<<20))
}

// bankUntilKilled starts jobs, eight at a time, and says so each time.
func bankUntilKilled(dir string) error {
	b, err := bankIn(dir)
	for n := len(b.out.lines); err == nil; n++ {
		var ids []string
		for i := range 8 {
			ids = append(ids, fmt.Sprintf("%d-%d%c", n, i, "-frbcxpx"[i]))
		}
		if err = b.begin(ids...); err == nil {
			_, err = fmt.Println(n)
		}
		if err == nil {
			err = b.finish(time.Hour)
		}
	}
	return err
}

// TestJobsKills kills a bank at any instant, again and again, and lets the next
// one finish what it has begun.
func TestJobsKills(t *testing.T) {
	dir, jobs := t.TempDir()+"/db", 0
	for kill := range *killsN {
		killedAs(t, childJobs, dir, time.Duration(kill*7%30)*time.Millisecond)
		b, err := bankIn(dir)
		if err == nil {
			err = b.finish(time.Hour)
		}
		if err == nil {
			err = b.whole()
		}
		if err == nil {
			err = b.View(context.Background(), func(tx *durable.Tx) error {
				jobs = 0
				for range b.jobs.All(tx) {
					jobs++
				}
				return nil
			})
		}
		if err != nil {
			t.Fatalf("kill %d: %v", kill, err)
		}
		if err := b.Close(); err != nil {
			t.Fatalf("kill %d: %v", kill, err)
		}
	}
	t.Logf("%d kills, %d jobs, all done or undone as a whole", *killsN, jobs)
}
