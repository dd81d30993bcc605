package store

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/wakepoint/wakepoint/internal/disk"
)

// A head lies outside the store, beside the key, and says how far a workload
// had come: a store that was put back from a copy, by accident or by somebody
// who would like to see an old state run again, is older than its head.
//
// The file is HEADS/STOREID-WORKLOADID, in hexadecimal: a record, sealed with
// the workload's keys.
type head struct {
	Epoch      uint64 `cbor:"epoch"`
	Generation uint64 `cbor:"generation"` // the newest that was committed; 0: none yet
	Sum        []byte `cbor:"sum"`        // SHA-256 of the file of its manifest
}

// ErrOlder says that a store is older than it was.
var ErrOlder = errors.New("the store is older than it was")

// OlderError tells by how much. It matches ErrOlder.
type OlderError struct {
	Newest     Generation // that the workload has
	Committed  Generation // that it had
	Epoch      uint64     // that the workload has
	EpochsSeen uint64     // that it had
}

func (e *OlderError) Error() string {
	have := "it has no generation"
	if e.Newest != 0 {
		have = fmt.Sprintf("its newest generation is %v", e.Newest)
	}
	if e.Newest == e.Committed {
		return fmt.Sprintf("%v: its %v is another one than that which was committed", ErrOlder, e.Newest)
	}
	return fmt.Sprintf("%v: %v was committed, %s", ErrOlder, e.Committed, have)
}

func (e *OlderError) Unwrap() error { return ErrOlder }

func (w *Workload) headFile() string {
	if w.o.Heads == "" {
		return ""
	}
	return filepath.Join(w.o.Heads, fmt.Sprintf("%x-%x", w.keys.store, w.keys.workload))
}

// readHead returns the head; nil when there is none, or none that can be read:
// it is a witness, and its loss harms nothing else.
func (w *Workload) readHead() *head {
	file := w.headFile()
	if file == "" {
		return nil
	}
	b, err := readRecord(w.fs, w.keys, file)
	h := new(head)
	if err != nil || decodeCBOR(b, h) != nil {
		return nil
	}
	return h
}

// noteHead writes the head after a commit or a takeover. Nothing depends on
// it: where it cannot be written, Options.Warn is told.
func (w *Workload) noteHead(h head) {
	file := w.headFile()
	if file == "" {
		return
	}
	b, err := encodeCBOR(h)
	if err == nil {
		err = disk.MkdirAll(w.fs, w.o.Heads)
	}
	if err == nil {
		err = writeRecord(w.fs, w.keys, file, b)
	}
	if err != nil && w.o.Warn != nil {
		w.o.Warn(fmt.Errorf("note how far %s has come: %w", filepath.Base(w.dir), err))
	}
}

// dropHead removes the head of a workload that is removed.
func (w *Workload) dropHead() error {
	file := w.headFile()
	if file == "" {
		return nil
	}
	if err := w.fs.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Older returns an *OlderError when the workload is older than its head says,
// or its newest generation another one. It needs no Lock.
func (w *Workload) Older() error {
	h := w.readHead()
	if h == nil {
		return nil
	}
	s := state{Epoch: h.Epoch} // a state that is lost says nothing
	if b, err := readRecord(w.fs, w.keys, filepath.Join(w.dir, stateFile)); err == nil {
		_ = decodeState(b, &s)
	}
	tried, err := w.highest()
	if err != nil {
		return err
	}
	s.Tried = max(s.Tried, uint64(tried))
	var newest Generation
	if gens, err := w.list(); err != nil {
		return err
	} else if len(gens) > 0 {
		newest = gens[0]
	}
	older := &OlderError{Newest: newest, Committed: Generation(h.Generation), Epoch: s.Epoch, EpochsSeen: h.Epoch}
	switch {
	case s.Epoch < h.Epoch, s.Tried < h.Generation:
		return older
	case newest != 0 && newest == older.Committed:
		b, err := w.manifests.Get(newest.String(), envelopeMax)
		if err != nil {
			return nil // damage is another matter
		}
		if sum := sha256.Sum256(b); string(sum[:]) != string(h.Sum) {
			if _, err := decodeManifest(b, w.keys, newest); err == nil {
				return older
			}
		}
	}
	return nil
}
