package store

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"syscall"

	"github.com/wakepoint/wakepoint/internal/disk"
)

var (
	// ErrExist says that there is such a workload already.
	ErrExist = errors.New("exists already")
	// ErrNotFound says that there is no such workload or generation.
	ErrNotFound = errors.New("not found")
	// ErrLocked says that another process (or another part of this one) writes
	// to the workload or reads the generation.
	ErrLocked = disk.ErrLocked
	// ErrNotLocked says that a call needs Workload.Lock first.
	ErrNotLocked = errors.New("the workload is not locked by this writer")
	// ErrDamaged says that bytes read back are not those that were written.
	ErrDamaged = errors.New("damaged")
	// ErrForeign says that a directory holds something else than a store or a
	// workload.
	ErrForeign = errors.New("not a wakepoint directory")
	// ErrVersion says that another version wrote what is to be read.
	ErrVersion = errors.New("written by another version")
	// ErrKey says that what is to be read was sealed with another key.
	ErrKey = errors.New("sealed with another key")
	// ErrStale says that another writer has taken the workload over.
	ErrStale = errors.New("another writer has taken over")
	// ErrName says that a name is not allowed.
	ErrName = errors.New("not a valid name")
)

// DamageError says where damage was found. It matches ErrDamaged.
type DamageError struct {
	Pack   string // file below the workload's directory
	Offset int64  // in that file
	What   string
	Err    error // what the system said, or nil
}

func (e *DamageError) Error() string {
	s := e.Pack
	if e.Offset > 0 {
		s += fmt.Sprintf(" at %d", e.Offset)
	}
	s += fmt.Sprintf(": %s: %v", e.What, ErrDamaged)
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

func (e *DamageError) Unwrap() []error {
	if e.Err == nil {
		return []error{ErrDamaged}
	}
	return []error{ErrDamaged, e.Err}
}

// Damage is damage together with the generations that it touches. Every other
// generation restores.
type Damage struct {
	DamageError
	Generations []Generation // newest first
	Section     string       // the one section that it is in, of these generations; "" where it is more
	// Follows says what else follows from it; "" where the generations say it.
	Follows string
}

// lost turns the errors by which a medium says that data is gone into damage,
// and leaves those alone that say nothing about the data.
func lost(file string, off int64, err error) error {
	for _, gone := range []error{fs.ErrNotExist, io.EOF, io.ErrUnexpectedEOF, syscall.EIO} {
		if errors.Is(err, gone) {
			return &DamageError{Pack: file, Offset: off, What: "cannot be read", Err: err}
		}
	}
	return fmt.Errorf("read %s at %d: %w", file, off, err)
}
