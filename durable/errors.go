package durable

import (
	"errors"
	"fmt"

	"github.com/wakepoint/wakepoint/internal/disk"
	"github.com/wakepoint/wakepoint/internal/redo"
)

var (
	// ErrUnknown says that the context ended when a transaction was on its way to
	// the disk: it may or may not be there after a crash. Until then it is.
	ErrUnknown = errors.New("durable: outcome unknown")
	// ErrPoisoned says that the disk refused what was to become durable, in more
	// than one file. What it holds is known when it was opened again; until then
	// nothing is done or told any more.
	ErrPoisoned = redo.ErrPoisoned
	// ErrFull says that the disk has no room for more transactions. Nothing was
	// changed, all can be read, and it goes away by itself when there is room.
	ErrFull = redo.ErrFull
	// ErrTooLarge says that a key, a value or a transaction is over its limit.
	// Nothing was changed.
	ErrTooLarge = redo.ErrTooLarge
	// ErrClosed says that the database was closed.
	ErrClosed = redo.ErrClosed
	// ErrNewer says that what is on the disk was written by a newer version.
	ErrNewer = redo.ErrNewer
	// ErrNested says that Update was called in a closure of Update, of this or of
	// another database, and would have waited.
	ErrNested = errors.New("durable: Update in a closure of Update")
	// ErrReadOnly says that a closure of View changes something.
	ErrReadOnly = errors.New("durable: change in a View")
	// ErrInUse says that the directory is open, in this process or in another one.
	ErrInUse = disk.ErrLocked
	// ErrForeign says that a directory holds something else.
	ErrForeign = errors.New("durable: directory of another program")
	// ErrType says that a table was made with other codecs than it is opened with.
	ErrType = errors.New("durable: table has another type")
)

// A DamageError says what cannot be read any more: a file, and a range of keys
// of a table where the damage is confined to that. What else there is can be used.
type DamageError struct {
	File  string // base name; "": a file of the log that is missing
	Table string // "": more than one, or all
	Why   error
}

func (e *DamageError) Error() string {
	what := e.File
	if what == "" {
		what = "the log"
	}
	if e.Table != "" {
		what = fmt.Sprintf("table %s, in %s", e.Table, e.File)
	}
	return fmt.Sprintf("durable: %s is damaged: %v", what, e.Why)
}

// Unwrap is why.
func (e *DamageError) Unwrap() error { return e.Why }
