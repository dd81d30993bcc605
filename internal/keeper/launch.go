package keeper

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/wakepoint/wakepoint/internal/api"
	"github.com/wakepoint/wakepoint/internal/engine"
	"github.com/wakepoint/wakepoint/internal/files"
	"github.com/wakepoint/wakepoint/internal/hint"
	"github.com/wakepoint/wakepoint/internal/notify"
	"github.com/wakepoint/wakepoint/internal/policy"
	"github.com/wakepoint/wakepoint/internal/store"
)

// Launch makes a workload and starts it. A Name that is empty is chosen from
// the command ("web", "web-2" ...); fields of p that are empty get their
// defaults, OnCrash by the kind of command; Outcome.Status.Notes says what a
// person should know of that. It returns when the first generation is
// committed, or with an error of code 6 when it was refused (the program then
// runs on without protection, and the Outcome is valid), or when the program
// has ended before that. An error of starting the command leaves no workload;
// its cause is os.ErrNotExist or os.ErrPermission where that is why.
// With spec.Adopt it protects a process that runs already; one whose first
// generation fails is let go unharmed, and no workload is left.
func Launch(ctx context.Context, s Site, spec api.Spec, p api.Policy, progress Progress) (Outcome, error) {
	s, err := s.filled()
	if err != nil {
		return Outcome{}, err
	}
	spec.Created = time.Now()
	if spec.Adopt != 0 {
		if err := describeProcess(&spec); err != nil {
			return Outcome{}, err
		}
	}
	p, notes, err := preparePolicy(p, spec)
	if err != nil {
		return Outcome{}, err
	}
	if spec.Adopt == 0 {
		note, err := s.inherit(&spec)
		if err != nil {
			return Outcome{}, err
		}
		notes = append(notes, note...)
	}
	if spec.Stdin != "" && !filepath.IsAbs(spec.Stdin) {
		spec.Stdin = filepath.Join(spec.Dir, spec.Stdin)
	}
	st, err := s.open()
	if err != nil {
		return Outcome{}, err
	}
	if st.Volatile() {
		notes = append(notes, "the store "+s.StoreDir+" lies in memory (tmpfs): a boot or a power cut takes it away")
	}
	if free, _, err := files.Space(s.StoreDir); err == nil && p.KeepSizeBytes == 0 {
		p.KeepSizeBytes = policy.KeepSize(free)
	}
	w, err := createWorkload(st, &spec)
	if err != nil {
		return Outcome{}, err
	}
	undo := func() {
		if rerr := s.undoLaunch(ctx, st, w, spec); rerr != nil {
			progress.say("remove " + spec.Name + ": " + rerr.Error())
		}
	}
	if spec.Adopt == 0 {
		spec.Notify = notify.Name(spec.Name, w.Dir()+spec.Created.String())
	}
	if err := s.noteLaunch(w, spec, p); err != nil {
		undo()
		return Outcome{}, hint.Workload(spec.Name, err)
	}
	out, code, err := s.spawn(ctx, w.Dir(), arguments{Options: Options{Name: spec.Name, Action: ActLaunch}}, progress)
	if errors.Is(err, errKeeperDied) {
		out, err = s.successor(ctx, spec.Name, err)
	}
	out.Name = spec.Name
	out.Status.Notes = append(out.Status.Notes, notes...)
	if err != nil && out.Status.State != api.Running && ctx.Err() == nil {
		undo()
		return Outcome{}, hint.Caused(err, code)
	}
	return out, err
}

// inherit notes what the program inherits from us, whoever starts it. What a
// unit could not pass on is passed on by a guard.
func (s *Site) inherit(spec *api.Spec) (notes []string, err error) {
	in, err := engine.Heritage()
	if err != nil {
		return nil, fmt.Errorf("what it inherits: %w", err)
	}
	spec.Inherit = (*api.Inherited)(in)
	if s.Units == nil {
		return nil, nil
	}
	what, err := s.Units.Foreign()
	if err == nil && what != "" {
		s.Units = nil
		notes = []string{"it has " + what + ", which no unit could give it: it ends with the session that started it, and `wakepoint recover` brings it back outside of that"}
	}
	return notes, err
}

// noteLaunch writes the records of a new workload, the spec last: without one
// it was never launched.
func (s Site) noteLaunch(w *store.Workload, spec api.Spec, p api.Policy) error {
	run := runRecord{Wanted: true, State: api.Starting}
	if spec.Adopt != 0 {
		free, err := s.reserve(&run, spec)
		if err != nil {
			return err
		}
		defer free()
	}
	return errors.Join(putRecord(w, recordPolicy, p), putRecord(w, recordRun, run), putRecord(w, recordSpec, spec))
}

// undoLaunch removes a workload whose launch failed, with what a keeper that
// died left half started. An adopted program is not touched.
func (s Site) undoLaunch(ctx context.Context, st *store.Store, w *store.Workload, spec api.Spec) error {
	if spec.Adopt == 0 {
		if err := endTree(ctx, w); err != nil {
			return err
		}
	}
	return remove(ctx, st, w, spec.Name)
}

const (
	successorWait  = 15 * time.Second // for a guard to start another keeper
	successorAgain = 50 * time.Millisecond
)

// successor waits for what the next keeper makes of a launch whose keeper
// died: what was started runs on, and is not to be forgotten.
func (s Site) successor(ctx context.Context, name string, died error) (Outcome, error) {
	wait := successorWait
	if errors.Is(died, errGuardDied) {
		wait = 0
	}
	for end := time.Now().Add(wait); ; {
		v, err := StatusOf(ctx, s, name)
		out := Outcome{Name: name, Status: v, Words: "started"}
		failed := v.LastError != nil && (v.LastError.Code == api.CodeRefused || v.Failures >= firstTries)
		switch {
		case err != nil:
			return Outcome{}, err
		case v.State == api.Stopped, v.State == api.Finished, v.State == api.Failed, failed:
			switch {
			case v.Ended:
				return out, nil
			case failed:
				return out, v.LastError
			}
			return out, api.Errorf(api.CodeFailed, "nothing of it is left: give the command again", "%w before the program ran", errKeeperDied)
		case v.KeeperPID != 0 && v.Generation != "":
			return out, nil
		case time.Now().After(end) && v.State == api.Running:
			return out, api.Errorf(api.CodeFailed, "`wakepoint recover` gives it a new one", "%w", died)
		case time.Now().After(end):
			return out, api.Errorf(api.CodeFailed, "nothing of it is left: give the command again", "%w", died)
		}
		select {
		case <-ctx.Done():
			return out, ctx.Err()
		case <-time.After(successorAgain):
		}
	}
}

// ExplainExec gives an error of executing a command the exit code and the hint
// that it has when Launch meets it; any other stays as it is.
func ExplainExec(err error) error { return hint.Exec(err) }

// createWorkload makes the workload, under a free name when none was wanted.
func createWorkload(st *store.Store, spec *api.Spec) (*store.Workload, error) {
	if spec.Name != "" {
		w, err := st.Create(spec.Name)
		switch {
		case errors.Is(err, store.ErrExist):
			return nil, api.Errorf(api.CodeFailed, "take another --name, or `wakepoint rm "+spec.Name+"`", "there is a workload %s already", spec.Name)
		case errors.Is(err, store.ErrName):
			return nil, api.Errorf(api.CodeUsage, "", "%w", err)
		case err != nil:
			return nil, hint.Workload(spec.Name, err)
		}
		return w, nil
	}
	base := baseName(spec.Argv)
	for n := 1; ; n++ {
		spec.Name = base
		if n > 1 {
			spec.Name += "-" + strconv.Itoa(n)
		}
		w, err := st.Create(spec.Name)
		if errors.Is(err, store.ErrExist) && n < 10000 {
			continue
		}
		if err != nil {
			return nil, hint.Workload(spec.Name, err)
		}
		return w, nil
	}
}

// baseName makes a workload's name of a command.
func baseName(argv []string) string {
	var b strings.Builder
	for _, c := range filepath.Base(argv[0]) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '_':
		case b.Len() > 0 && (c == '.' || c == '-'):
		default:
			c = '_'
		}
		b.WriteRune(c)
	}
	name := b.String()
	return name[:min(len(name), 56)]
}

// preparePolicy fills in the defaults and says what a person should know.
func preparePolicy(p api.Policy, spec api.Spec) (api.Policy, []string, error) {
	var notes []string
	put := func(s *string, v string) {
		if *s == "" {
			*s = v
		}
	}
	if p.EverySeconds == 0 {
		p.EverySeconds = 1
	}
	if db := policy.KeepsState(spec.Argv); db != "" && p.OnCrash == "" {
		p.OnCrash = api.OnFresh
		notes = append(notes, db+" keeps its own durable state: after a crash it is started afresh on its files, not rolled back (--on-crash restore changes that)")
	}
	if p.WriteLimitBytes == 0 {
		p.WriteLimitBytes = policy.WriteMax
	}
	put(&p.OnCrash, api.OnRestore)
	put(&p.Files, api.FilesRollback)
	put(&p.OnExit, api.OnFinish)
	put(&p.GiveUp, api.GiveUpStop)
	var err error
	if p.Data, err = dataDirs(p.Data, spec.Dir); err != nil {
		return p, nil, err
	}
	return p, notes, errors.Join(checkPolicy(p), p.Hears(spec))
}

// dataDirs makes the data directories absolute and free of symbolic links,
// since neither captures nor put-backs follow any.
func dataDirs(list []string, base string) ([]string, error) {
	var out []string
	for _, d := range list {
		if !filepath.IsAbs(d) {
			d = filepath.Join(base, d)
		}
		real, err := filepath.EvalSymlinks(d)
		if err != nil {
			return nil, api.Errorf(api.CodeUsage, "", "data directory: %w", err)
		}
		st, err := os.Stat(real)
		if err != nil {
			return nil, api.Errorf(api.CodeUsage, "", "data directory: %w", err)
		}
		if !st.IsDir() || real == "/" {
			return nil, api.Errorf(api.CodeUsage, "", "data directory %s is not one", d)
		}
		out = append(out, real)
	}
	return out, nil
}
