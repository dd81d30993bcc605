package keeper

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/wakepoint/wakepoint/internal/api"
	"github.com/wakepoint/wakepoint/internal/engine"
	"github.com/wakepoint/wakepoint/internal/generation"
	"github.com/wakepoint/wakepoint/internal/hint"
	"github.com/wakepoint/wakepoint/internal/policy"
	"github.com/wakepoint/wakepoint/internal/store"
)

// DumpTo writes the process tree below pid into dir, which is made, or
// exists and is empty. The tree is ended when the generation is committed,
// or, with leaveRunning, goes on. On an error it runs on as before, and dir
// is as it was.
func (s Site) DumpTo(ctx context.Context, dir string, pid int, leaveRunning bool) (err error) {
	spec := api.Spec{Name: filepath.Base(dir), Adopt: pid, Created: time.Now()}
	if err := describeProcess(&spec); err != nil {
		return err
	}
	made, err := emptyDir(dir)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			clearDir(dir, made)
		}
	}()
	w, err := s.openDump(dir)
	if err != nil {
		return hint.Dump(dir, err)
	}
	lock, err := w.Lock()
	if err != nil {
		return hint.Dump(dir, err)
	}
	defer lock.Close()
	spec.Env = nil // the image has it
	p := api.Policy{EverySeconds: 1, Files: api.FilesRollback, OnCrash: api.OnRestore, OnExit: api.OnFinish, GiveUp: api.GiveUpStop}
	if err := errors.Join(putRecord(w, recordSpec, spec), putRecord(w, recordPolicy, p)); err != nil {
		return hint.Dump(dir, err)
	}
	k := newKeeper(realMachine{}, realVault{w}, Site{}, slog.New(slog.DiscardHandler))
	k.rec.spec, k.rec.policy = spec, p
	h, err := k.m.HandleOf(engine.PID(pid))
	if err != nil {
		return hint.Dump(dir, err)
	}
	t, err := k.m.Open(ctx, h)
	if err != nil {
		return hint.Dump(dir, err)
	}
	defer t.Close()
	k.tree = t
	o := checkpointOptions{hold: !leaveRunning, held: frozen.Kill, anyone: true} // it has no --files to choose
	if _, err := k.take(ctx, o); err != nil {
		return hint.Dump(dir, err)
	}
	return nil
}

// emptyDir sees to it that dir is a directory with nothing in it, mode 0700.
func emptyDir(dir string) (made bool, err error) {
	list, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := os.Mkdir(dir, 0o700); err != nil {
			return false, api.Errorf(api.CodeFailed, hint.Dir(dir, err), "%w", err)
		}
		return true, nil
	case err != nil:
		return false, api.Errorf(api.CodeFailed, hint.Dir(dir, err), "%w", err)
	case len(list) > 0:
		return false, api.Errorf(api.CodeUsage, "name one that is empty or does not exist", "%s is not empty", dir)
	}
	return false, os.Chmod(dir, 0o700)
}

// clearDir undoes a dump that failed.
func clearDir(dir string, made bool) {
	if made {
		_ = os.RemoveAll(dir)
		return
	}
	list, _ := os.ReadDir(dir)
	for _, e := range list {
		_ = os.RemoveAll(filepath.Join(dir, e.Name()))
	}
}

// RestoreFromOptions says how a dumped tree comes back.
type RestoreFromOptions struct {
	Detach   bool   // return when it runs; else when it has ended
	PIDFile  string // gets the root's PID as the caller sees it; may be empty
	NewPIDNS bool   // into namespaces of its own instead of the host's same PIDs
}

// RestoreFrom brings back the tree that DumpTo wrote into dir. Without Detach
// it returns when the tree has ended, with the exit code of its root: 128+n
// for a signal. When ctx ends first the tree runs on.
func (s Site) RestoreFrom(ctx context.Context, dir string, o RestoreFromOptions) (exitCode int, err error) {
	if !isDump(dir) {
		return 0, noDump(dir)
	}
	w, err := s.openDump(dir)
	if err != nil {
		return 0, hint.Dump(dir, err)
	}
	record, err := os.CreateTemp(dir, ".wait-")
	if err != nil {
		return 0, hint.Dump(dir, err)
	}
	defer record.Close()
	defer os.Remove(record.Name())
	t, err := restoreDump(ctx, realMachine{}, realVault{w}, engine.RestoreOptions{Record: record, HostPIDs: !o.NewPIDNS, Helper: s.Program})
	if err != nil {
		return 0, hint.Dump(dir, err)
	}
	defer t.Close()
	if o.PIDFile != "" {
		text := strconv.Itoa(int(t.Handle().Command)) + "\n"
		if err := os.WriteFile(o.PIDFile, []byte(text), 0o644); err != nil {
			return 0, hint.Dump(dir, fmt.Errorf("it runs, but its number could not be written: %w", err))
		}
	}
	if o.Detach {
		return 0, nil
	}
	select {
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-t.Done():
	}
	k := keeper{tree: t}
	wait, known := k.wait()
	e := policy.EndOf(known, wait)
	if e.Signal != 0 {
		return 128 + e.Signal, nil
	}
	return e.Code, nil
}

// restoreDump brings back the generation that a dump holds.
func restoreDump(ctx context.Context, m machine, v vault, o engine.RestoreOptions) (tree, error) {
	l, err := readLineage(v)
	switch {
	case err != nil:
		return nil, err
	case len(l.infos) == 0 && len(l.damaged) > 0:
		return nil, &store.DamageError{Pack: "manifests/" + l.damaged[0].String(), What: "manifest"}
	case len(l.infos) == 0:
		return nil, api.Errorf(api.CodeNotFound, "a dump that was cut short holds none: dump the process again, into an empty directory", "the dump holds no generation")
	}
	r, err := v.OpenGeneration(l.infos[0].Generation)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	if _, err := generation.PutBack(r); err != nil {
		return nil, fmt.Errorf("put the files back: %w", err)
	}
	shelved, err := generation.Shelve(r, &o, v.Dir(), l.infos[0].Meta[metaHome])
	if err != nil {
		return nil, err
	}
	rs, err := m.Restore(ctx, r, o)
	shelved(err == nil)
	if errors.Is(err, syscall.EEXIST) && o.HostPIDs {
		return nil, takenNumbers(r, err)
	}
	if err != nil {
		return nil, err
	}
	return rs.Run()
}

// takenNumbers names the process numbers of a dump that others have.
func takenNumbers(r engine.Source, cause error) error {
	const hint = "end what has them, or give --new-pidns for numbers of its own"
	taken, err := generation.Taken(r)
	if err != nil || len(taken) == 0 { // whoever had them has ended meanwhile
		return api.Errorf(api.CodeFailed, hint, "%w", cause)
	}
	return api.Errorf(api.CodeFailed, hint, "process numbers that it needs are taken: %s%w", strings.Join(taken, ", "), quiet{cause})
}

// quiet keeps an error's kind for callers when its words would add nothing.
type quiet struct{ cause error }

func (quiet) Error() string   { return "" }
func (q quiet) Unwrap() error { return q.cause }
