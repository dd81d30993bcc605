// Package engine turns running process trees into images and images back into
// running process trees.
//
// The way in is a Tree: start one (Start), take one over (Open), or build one
// from a generation (Restore). A Tree is frozen for a checkpoint (Freeze),
// dumped into a Sink and thawed. Whatever fails in between, the tree is
// thawed and runs on as before; if the process that holds the Tree is killed
// at any instant, the tree runs on by itself.
//
// All calls on one Tree must come one at a time.
package engine

import (
	"os"
)

// PID is a process or thread number as the caller's PID namespace sees it.
type PID int

// Sink takes in one generation. It is declared here in plain types so that
// the engine knows no store. A Sink need not be safe for concurrent use.
type Sink interface {
	// Blob stores a small named value. data is not changed afterwards.
	Blob(name string, data []byte) error
	// Section begins a sparse, page-grained section. With inherit the section
	// starts out as the one of the same name in the parent generation (it is an
	// error when there is none); without, it starts out as all holes.
	Section(name string, inherit bool) (SectionSink, error)
}

// SectionSink takes in one section. Offsets and lengths are multiples of 4096
// and below 1<<52. The last call for a page wins.
type SectionSink interface {
	// Put stores p at off. p may be reused when Put returns.
	Put(off int64, p []byte) error
	// Zero makes [off, off+n) holes.
	Zero(off, n int64) error
	// Close ends the section; no section is complete without it.
	Close() error
}

// Source gives back one generation. Several sections may be read at once, each
// by one goroutine. Everything it returns was checked
// against its checksum.
type Source interface {
	// Blob returns a named value; os.ErrNotExist when there is none.
	Blob(name string) ([]byte, error)
	// Section opens a section; os.ErrNotExist when there is none.
	Section(name string) (SectionSource, error)
}

// SectionSource reads one section.
type SectionSource interface {
	// Each calls f for the pages that are present in [from, to), in ascending
	// order, several at a time where they lie side by side. p is valid until f
	// returns.
	Each(from, to int64, f func(off int64, p []byte) error) error
	// ReadAt reads len(p) bytes at off; holes read as zero.
	ReadAt(p []byte, off int64) (int, error)
	Close() error
}

// OpenFile is a file of the tree that belongs to the checkpoint.
type OpenFile struct {
	Path     string   // in the workload's mount namespace
	File     *os.File // the same inode, opened for reading; closed by Thaw
	Writable bool     // open for writing or mapped shared and writable
	Append   bool     // every writer has O_APPEND
	Mapped   bool     // mapped shared, by what may write: its times do not tell when
	Volatile bool     // lies on tmpfs or ramfs: a boot empties it
}

// Mapped is a file that the tree only reads.
type Mapped struct {
	Path    string // in the workload's mount namespace
	Size    int64
	ModTime int64 // nanoseconds since 1970; 0 when neither it nor the size is known
}

// Handle names a tree durably enough to take it over: it is written to disk
// by the keeper. A tree is the same one only if boot id and start times agree.
type Handle struct {
	BootID       string `json:"boot_id"`
	Init         PID    `json:"init"` // 0: the tree has no init (adopted, or restored to host PIDs)
	InitStart    uint64 `json:"init_start"`
	Command      PID    `json:"command"`
	CommandStart uint64 `json:"command_start"` // clock ticks since boot, /proc/PID/stat field 22
	// Cut says that what a tree without an init shares with the outside (its
	// terminal, pipes to others) is /dev/null in its generations, not refused.
	Cut bool `json:"cut,omitempty"`
}

// Status is how the command ended, as wait(2) encodes it.
type Status struct {
	Ended bool
	Wait  uint32 // see wait(2); valid when Ended
}
