package keeper

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/wakepoint/wakepoint/internal/api"
	"github.com/wakepoint/wakepoint/internal/engine"
	"github.com/wakepoint/wakepoint/internal/files"
	"github.com/wakepoint/wakepoint/internal/pocket"
	"github.com/wakepoint/wakepoint/internal/policy"
	"github.com/wakepoint/wakepoint/internal/store"
	"github.com/wakepoint/wakepoint/internal/terminal"
)

// errLeave ends the loop while the tree runs on.
var errLeave = errors.New("leaving the workload as it is")

// keeper is the state machine of one workload. One goroutine, the one that
// runs bring and loop, owns all fields but those that mu guards; it makes all
// calls on the tree, one at a time. Requests come to it over a channel.
type keeper struct {
	m       machine
	v       vault
	log     *slog.Logger
	helper  string // program of an init
	site    Site
	rec     records
	say     func(words string) // progress of the action; never nil
	waits   func(Outcome)      // told that something is waited for; never nil
	onFirst func(error)        // told once how the first checkpoint of a launch went; may be nil
	unfit   error              // why an adopted program cannot be looked after; nil: nothing is known against it

	tree    tree
	hub     *terminal.Hub
	shown   terminal.Options // with what the next hub begins
	handed  []byte           // the screen, by the keeper before; nil: not
	pocket  *pocket.Pocket   // for the keeper after this one; nil: none
	record  *os.File         // the init records the command's end in it
	inherit bool             // this very tree's last generation was committed
	parent  store.Generation // of the next generation; 0: none
	index   *files.Index     // of parent; nil: its files are taken anew
	kept    *files.Kept      // of parent; nil: what it keeps is kept anew
	unkept  map[string]bool  // what could not be kept the last time
	written watching         // what the tree writes and closes
	known   *lineage         // the generations; nil: to be read
	meter   policy.Meter     // of what is written
	stood   policy.Pause     // for its files, in the last checkpoint
	choice  policy.Chosen    // the interval, where it is auto
	size    int64            // of the generations on the disk; -1: to be measured
	quiet   bool             // the command has ended cleanly and left processes behind

	due      *time.Timer // the next checkpoint
	scrubDue *time.Timer
	roomFor  int64               // the buffer for which the collector makes room
	scrubbed chan []store.Damage // what a scrub has found
	endScrub func()              // ends the scrub that goes on, and waits for it; never nil

	rehearsing rehearsing
	probation  *time.Timer // when a restored state counts as sound; stopped when none is on trial
	beat       *time.Timer // the next heartbeat
	failures   int         // checkpoints in a row

	pulse     policy.Pulse
	answers   chan answer // of health checks
	endChecks func()      // ends them, and waits for the last one; never nil

	spoken spoken
	silent *time.Timer                    // when it is looked whether the program is
	last   struct{ start, end time.Time } // of the last checkpoint

	upgrade  <-chan os.Signal // asks for the program as it is installed now; may be nil
	requests chan *request
	released chan struct{} // closed when the keeper has let go of the workload

	mu   sync.Mutex // guards what follows; taken alone
	view api.Status
	live tree          // nil when none runs
	seen *terminal.Hub // nil when there is no terminal
	// what the owner should know; shared with views, only appended to
	notes  []string
	unseen []string // what is not captured of the files that the tree writes; replaced
}

// request is one that the loop answers.
type request struct {
	api.Request
	reply    chan api.Reply     // buffered: gets exactly one
	progress func(words string) // never nil
	gone     func() bool        // the caller does not wait any more; may be nil
	stays    bool               // set before the answer: the keeper goes on, though nothing runs
}

// dropped says that the caller has gone before it was its request's turn:
// whoever was told that it failed must not find it done later.
func (r *request) dropped() bool {
	if r.gone == nil || !r.gone() {
		return false
	}
	r.reply <- api.Reply{Done: true}
	return true
}

func newKeeper(m machine, v vault, site Site, log *slog.Logger) *keeper {
	k := &keeper{
		m: m, v: v, site: site, log: log, helper: site.Program, size: -1,
		say:      func(string) {},
		waits:    func(Outcome) {},
		requests: make(chan *request),
		released: make(chan struct{}),
		scrubbed: make(chan []store.Damage),
		endScrub: func() {},
		answers:  make(chan answer), endChecks: func() {},
		rehearsing: rehearsing{done: make(chan policy.Rehearsal), end: func() {}},
	}
	for _, t := range []**time.Timer{&k.due, &k.probation, &k.beat, &k.scrubDue, &k.rehearsing.due, &k.silent} {
		*t = time.NewTimer(time.Hour)
		(*t).Stop()
	}
	return k
}

// load reads the workload's records.
func (k *keeper) load() error {
	rec, err := readRecords(k.v)
	if err != nil {
		return fmt.Errorf("read the records: %w", err)
	}
	k.rec = rec
	k.publish()
	return nil
}

// every is the interval between checkpoints that was asked for or, where that
// is auto, chosen.
func (k *keeper) every() time.Duration {
	if k.rec.policy.EveryAuto {
		return max(k.choice.Every, policy.ChosenMin)
	}
	return seconds(k.rec.policy.EverySeconds)
}

// interval is the one that is in force: every, or less after a crash, of which
// it says how long ago it was.
func (k *keeper) interval(now time.Time) (every, since time.Duration) {
	every = k.every()
	rv := k.rec.run.Recovery
	if rv == nil || rv.CrashedAt == nil || k.rec.run.Started.IsZero() {
		return every, 0
	}
	since = now.Sub(k.rec.run.Started)
	return policy.Sooner(every, since), since
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// path names a file of ours in the workload's directory.
func (k *keeper) path(name string) string { return filepath.Join(k.v.Dir(), name) }

// setTree makes t the tree that the keeper looks after, with its next
// checkpoint due after a while.
func (k *keeper) setTree(t tree, due time.Duration) {
	k.due.Reset(due)
	k.beat.Reset(0)
	k.scrubDue.Reset(scrubFirst)
	k.rehearseIn(rehearseFirst)
	k.hold(t)
	k.watchTree(t.Handle())
}

// hold makes t the tree; nil is none.
func (k *keeper) hold(t tree) {
	k.tree, k.inherit, k.quiet = t, false, false
	k.hub = nil
	if t != nil && t.Terminal() != nil {
		hub, err := terminal.NewHub(t.Terminal(), k.shown)
		if err != nil {
			k.log.Error("relay the terminal", "err", err)
		}
		k.hub = hub
	}
	k.mu.Lock()
	k.live, k.seen = t, k.hub
	k.view.Ready, k.view.Says = false, ""
	k.mu.Unlock()
	k.startChecks()
}

// dropTree lets go of the tree, which has ended or is to run on.
func (k *keeper) dropTree(wait *uint32) {
	if k.hub != nil {
		if wait != nil {
			_ = k.hub.End(*wait)
		} else {
			_ = k.hub.Close()
		}
	}
	k.unwatch()
	k.listenTo(nil, 0, false)
	t := k.tree
	k.hold(nil)
	if t != nil {
		if err := t.Close(); err != nil {
			k.log.Error("let the tree go", "err", err)
		}
	}
	if k.record != nil {
		_ = k.record.Close()
		k.record = nil
	}
	k.due.Stop()
	k.probation.Stop()
	k.beat.Stop()
	k.scrubDue.Stop()
	k.rehearsing.due.Stop()
	k.rehearsing.end()
	k.endScrub()
}

// loop looks after the tree until it has ended for good (nil), the keeper is
// asked to leave (errLeave), or nothing can be written any more.
func (k *keeper) loop(ctx context.Context) error {
	for k.tree != nil {
		if k.unfit != nil {
			return k.letGo()
		}
		command, due, requests := k.tree.CommandDone(), k.due.C, k.requests
		if k.quiet {
			command = nil
		}
		select {
		case <-command: // which comes before all that would take what it leaves behind for it
			due, requests = nil, nil
		default:
		}
		select {
		case <-ctx.Done():
			return k.told(ctx)
		case <-k.upgrade:
			if k.renewable(ctx) {
				k.handOver()
				return errUpgrade
			}
		case <-due:
			if err := k.scheduled(ctx); err != nil {
				return err
			}
		case <-k.beat.C:
			k.heartbeat()
		case <-k.scrubDue.C:
			k.scrub(ctx)
		case found := <-k.scrubbed:
			k.mend(found)
		case <-k.rehearsing.due.C:
			k.rehearseNext(ctx)
		case r := <-k.rehearsing.done:
			k.rehearsed(r)
		case a := <-k.answers:
			if err := k.answered(ctx, a); err != nil {
				return err
			}
		case <-k.words():
			if err := k.heard(ctx); err != nil {
				return err
			}
		case <-k.silent.C:
			if err := k.looked(ctx); err != nil {
				return err
			}
		case <-k.probation.C:
			k.lived()
		case <-command:
			if err := k.commandEnded(ctx); err != nil {
				return err
			}
		case <-k.tree.Done():
			if err := k.treeEnded(ctx); err != nil {
				return err
			}
		case r := <-requests:
			if err := k.serve(ctx, r); err != nil {
				return err
			}
		}
	}
	return nil
}

// handOver leaves the tree to the keeper that goes on as this process, with the
// terminal as it stands.
func (k *keeper) handOver() {
	if k.hub != nil {
		p, err := k.hub.Leave()
		if err = errors.Join(err, k.pocket.Note(screenName, p)); err != nil {
			k.log.Error("hand the terminal over", "err", err)
		}
	}
	k.dropTree(nil)
}

// leave lets the tree run on without a keeper.
func (k *keeper) leave() error {
	k.dropTree(nil)
	return errLeave
}

// letGo gives an adopted program back that could not be saved even once: it
// runs on as if nobody had ever looked, and nothing here names it any more.
func (k *keeper) letGo() error {
	k.dropTree(nil)
	r := &k.rec.run
	r.Wanted, r.State, r.Handle, r.Error = false, api.Failed, engine.Handle{}, k.explain(k.unfit)
	err := k.putRun()
	k.launched(k.unfit)
	return err
}

// heartbeat notes on the disk, without haste, that the tree lives.
func (k *keeper) heartbeat() {
	k.beat.Reset(heartbeat)
	now := time.Now()
	if err := os.Chtimes(k.path(beatName), now, now); errors.Is(err, os.ErrNotExist) {
		if f, err := os.OpenFile(k.path(beatName), os.O_CREATE|os.O_WRONLY, 0o600); err == nil {
			_ = f.Close()
		}
	}
}

// scheduled takes the checkpoint that is due. A failure is noted and tried
// again later; only a lost right to write ends the loop.
func (k *keeper) scheduled(ctx context.Context) error {
	if k.held() {
		return nil
	}
	_, err := k.checkpoint(ctx, checkpointOptions{})
	if errors.Is(err, store.ErrStale) {
		k.log.Error("another keeper has taken over")
		_ = k.leave()
		return err
	}
	return nil
}

// putRun makes the run record durable, and then visible.
func (k *keeper) putRun() error {
	if err := putRecord(k.v, recordRun, k.rec.run); err != nil {
		return fmt.Errorf("note what runs: %w", err)
	}
	k.publish()
	return nil
}

func (k *keeper) putHistory() error {
	if err := putRecord(k.v, recordHistory, k.rec.history); err != nil {
		return fmt.Errorf("note the history: %w", err)
	}
	k.publish()
	return nil
}

// lived ends the incident: the restored state has outlived its probation, and
// was found well if that is asked.
func (k *keeper) lived() {
	h := &k.rec.history
	if h.Incident == nil {
		return
	}
	if k.checked() && (!k.pulse.Well || k.pulse.Failed > 0) || !k.checked() && k.spoken.dog.Armed && !k.spoken.well {
		k.probation.Reset(checkEvery)
		return
	}
	if n := len(h.Incident.Tries); n > 0 {
		t := &h.Incident.Tries[n-1]
		t.Fate = policy.Lived
		if t.Generation != 0 {
			h.Proven = append(h.Proven, t.Generation)
		}
	}
	k.endIncident()
}

// endIncident closes the incident and notes that, so that its tries do not count
// against what comes next, whoever looks after it then.
func (k *keeper) endIncident() {
	if k.rec.history.Incident == nil {
		return
	}
	k.closeIncident()
	if err := k.putHistory(); err != nil {
		k.log.Error("close the incident", "err", err)
	}
}

func (k *keeper) closeIncident() {
	h := &k.rec.history
	if h.Incident == nil {
		return
	}
	h.Past = append(h.Past, *h.Incident)
	if n := len(h.Past) - pastMax; n > 0 {
		h.Past = h.Past[n:]
	}
	h.Incident = nil
	k.probation.Stop()
	k.rehearseIn(rehearseSoon)
}
