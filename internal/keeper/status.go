package keeper

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wakepoint/wakepoint/internal/api"
	"github.com/wakepoint/wakepoint/internal/hint"
	"github.com/wakepoint/wakepoint/internal/policy"
	"github.com/wakepoint/wakepoint/internal/store"
)

// publish brings the view that others see up to date with the records.
func (k *keeper) publish() {
	v := describe(k.rec, k.v.Dir())
	k.mu.Lock()
	defer k.mu.Unlock()
	v.EverySeconds = k.every().Seconds()
	old := k.view
	v.KeeperPID, v.Notify = os.Getpid(), old.Notify
	v.Generation, v.LastPauseSeconds = old.Generation, old.LastPauseSeconds
	v.FilesPauseSeconds, v.SlowFiles = old.FilesPauseSeconds, old.SlowFiles
	v.LastCheckpointSeconds, v.LastCheckpointAt = old.LastCheckpointSeconds, old.LastCheckpointAt
	v.Notes = k.allNotes()
	v.Checkpointing, v.Failures = old.Checkpointing, old.Failures
	v.SizeBytes, v.WrittenDayBytes = old.SizeBytes, old.WrittenDayBytes
	if k.rec.run.State == api.Running {
		v.LastError = old.LastError // of checkpoints
		v.Health = old.Health
		v.Ready, v.Says, v.HeldSince, v.WatchdogSeconds = old.Ready, old.Says, old.HeldSince, old.WatchdogSeconds
		v.IntervalSeconds, v.Stretched = old.IntervalSeconds, old.Stretched
		v.AfterCrashSeconds, v.Auto = old.AfterCrashSeconds, old.Auto
	}
	k.view = v
}

// newest sets what the view says of the newest generation.
func (k *keeper) newest() error {
	l, err := readLineage(k.v)
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	addNewest(&k.view, l)
	return nil
}

// addNewest fills in what a status says of the newest generation.
func addNewest(v *api.Status, l lineage) {
	if len(l.infos) == 0 {
		return
	}
	i := l.infos[0]
	t := taken(i)
	v.Generation, v.LastPauseSeconds, v.LastCheckpointAt = i.Generation.String(), i.Pause.Seconds(), &t
	v.Epoch = i.Epoch
	if v.Policy.EveryAuto {
		v.EverySeconds = everyOf(v.Policy, i).Seconds()
	}
}

// status is what the workload is doing now.
func (k *keeper) status() api.Status {
	k.mu.Lock()
	defer k.mu.Unlock()
	v := k.view
	if v.State == api.Running {
		v.LostWorkSeconds = sinceTaken(v)
	}
	return v
}

// sinceTaken is what a crash now would cost: the time since the newest
// generation or, when that is later, since the tree began to run.
func sinceTaken(v api.Status) float64 {
	var since time.Time
	for _, t := range []*time.Time{v.StartedAt, v.LastCheckpointAt} {
		if t != nil && t.After(since) {
			since = *t
		}
	}
	if since.IsZero() {
		return 0
	}
	return max(0, time.Since(since).Seconds())
}

// describe says what the records know.
func describe(rec records, dir string) api.Status {
	r := rec.run
	v := api.Status{
		Row: api.Row{
			Name: rec.spec.Name, State: r.State, EverySeconds: rec.policy.EverySeconds,
		},
		Command: rec.spec.Argv, Dir: rec.spec.Dir, Terminal: rec.spec.Terminal, CreatedAt: rec.spec.Created,
		Policy: rec.policy, LastError: r.Error, Recovery: r.Recovery,
		Output: filepath.Join(dir, api.OutputName),
	}
	if r.State == api.Running {
		v.PID = int(r.Handle.Command)
	}
	if !r.Started.IsZero() {
		v.StartedAt = &r.Started
	}
	if r.From != 0 {
		v.RestoredFrom = r.From.String()
	}
	if r.Ended {
		v.Ended = true
		e := policy.EndOf(true, r.Wait)
		v.ExitCode = e.Code
		if e.Signal != 0 {
			v.ExitCode, v.ExitSignal = 128+e.Signal, signalName(e.Signal)
		}
	}
	addRehearsals(&v, rec.history)
	if in := rec.history.Incident; in != nil {
		v.Incident = &api.Incident{CrashedAt: in.Crashed, Tries: len(in.Tries)}
		if n := len(in.Tries); n > 0 && r.State == api.Running {
			d := policy.Probation(in.Crashed, in.Crashed)
			if t := in.Tries[n-1]; t.Generation != 0 {
				d = policy.Probation(in.Crashed, t.Taken)
			}
			until := r.Started.Add(d)
			v.Incident.ProbationUntil = &until
		}
	}
	return v
}

// explain turns an error into one that a person can act on.
func (k *keeper) explain(err error) *api.Error { return hint.Workload(k.rec.spec.Name, err) }

// signalName returns "SIGKILL" for 9.
func signalName(n int) string {
	return cmp.Or(unix.SignalName(syscall.Signal(n)), fmt.Sprintf("signal %d", n))
}

// row describes a generation.
func row(i store.Info, verdict string) api.GenerationRow {
	r := api.GenerationRow{
		Generation: i.Generation.String(), CommittedAt: i.CommittedAt, PauseSeconds: i.Pause.Seconds(), Streamed: i.Meta[metaStreamed] != "",
		NewBytes: i.NewBytes, TotalBytes: i.TotalBytes, Verdict: verdict, Tag: i.Tag,
	}
	if i.Parent != 0 {
		r.Parent = i.Parent.String()
	}
	return r
}
