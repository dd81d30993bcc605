package store

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/wakepoint/wakepoint/internal/disk"
)

// Incoming makes a workload that nobody sees until Admit gives it its name,
// and locks it for writing: what comes from elsewhere is there whole or not at
// all, wherever it is cut. ErrExist when the name is taken, ErrLocked while
// another one comes in under it. One that is neither admitted nor turned away
// is removed by the next Create, Incoming or Remove in the store after its
// writer has ended.
func (s *Store) Incoming(name string) (*Workload, io.Closer, error) {
	var w *Workload
	var own io.Closer
	o := s.o
	o.Heads = "" // a head is outside the store, and would outlive a cut
	err := s.making(name, func() (err error) {
		if w, err = openWorkload(comingPath(s.path(name)), s.id, o); err == nil {
			own, err = w.Lock() // before the store's lock goes: it tells it from one that was cut
		}
		return err
	})
	return w, own, err
}

// comingPath is where a workload lies that has no name yet. No removal makes
// such a name, since no workload's begins with a dot.
func comingPath(path string) string { return disk.TempName(disk.TempName(path)) }

// Admit gives a workload that Incoming made its name, and opens it under that.
// When it returns nil the workload survives a power cut; its contents were
// durable before, each when its writing returned. When it returns an error
// there may be a workload of the name or not, and what there is is whole. The
// lock of Incoming stays.
func (s *Store) Admit(w *Workload, name string) (*Workload, error) {
	err := s.making(name, func() error {
		if err := s.o.FS.Rename(w.dir, s.path(name)); err != nil {
			return err
		}
		return s.o.FS.SyncDir(filepath.Join(s.dir, workloadsDir))
	})
	if err != nil {
		return nil, err
	}
	in, err := s.Workload(name)
	if err == nil {
		in.beginHead(w)
	}
	return in, err
}

// beginHead notes how far a workload had come when it was admitted.
func (w *Workload) beginHead(was *Workload) {
	was.mu.Lock()
	h := head{Epoch: was.state.Epoch}
	was.mu.Unlock()
	gens, err := w.list()
	if err == nil && len(gens) > 0 {
		var b []byte
		if b, err = w.manifests.Get(gens[0].String(), envelopeMax); err == nil {
			sum := sha256.Sum256(b)
			h.Generation, h.Sum = uint64(gens[0]), sum[:]
		}
	}
	if err == nil {
		w.noteHead(h)
	}
}

// TurnAway removes a workload that was not admitted, and its lock with it.
func (s *Store) TurnAway(w *Workload, own io.Closer) error {
	l, err := s.o.FS.Lock(s.dir, disk.ExclusiveWait)
	if err != nil {
		own.Close()
		return fmt.Errorf("turn a workload away: %w", err)
	}
	defer l.Close()
	if err := own.Close(); err != nil {
		return fmt.Errorf("turn a workload away: %w", err)
	}
	if err := s.sweep(); err != nil {
		return fmt.Errorf("turn a workload away: %w", err)
	}
	return nil
}

// coming reports whether a name in the directory of workloads is that of one
// whose writer is still at work. The caller holds the store's lock.
func (s *Store) coming(base string) bool {
	if !strings.HasPrefix(base, disk.TempPrefix+disk.TempPrefix) {
		return false
	}
	l, err := s.o.FS.Lock(filepath.Join(s.dir, workloadsDir, base, lockFile), disk.Exclusive)
	if err != nil {
		return errors.Is(err, ErrLocked)
	}
	l.Close()
	return false
}
