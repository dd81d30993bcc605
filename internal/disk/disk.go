// Package disk holds files that survive power loss.
//
// It adds to the os package what durability needs and nothing else: new files
// are private to their owner, directories can be fsynced, and files can be
// locked. FS is small so that a test can put a file system of its own below
// everything that claims to be durable; see Watch.
package disk

import (
	"errors"
	"io"
	"io/fs"
)

// ErrLocked says that another open file holds a lock that conflicts.
var ErrLocked = errors.New("locked by another user of it")

// ErrNotPrivate says that somebody else owns a directory or may read or
// write it.
var ErrNotPrivate = errors.New("not private")

// File is an open file. Nothing written is durable before Sync returned nil;
// after Sync returned an error nothing written to the file since the last
// good Sync may be relied on, even if a later Sync returns nil.
type File interface {
	io.Reader
	io.ReaderAt
	io.Writer
	io.WriterAt // not of a file from FS.Append
	io.Closer
	Name() string
	Stat() (fs.FileInfo, error)
	Truncate(size int64) error
	Sync() error
	// Datasync is Sync, but for times and what else is not needed to read the
	// contents: where those are written over and the file does not grow, nothing
	// goes into the file system's journal (fdatasync(2)).
	Datasync() error
}

// LockMode says how a file is locked.
type LockMode int

const (
	Shared        LockMode = iota // with other shared locks; ErrLocked when there is an exclusive one
	Exclusive                     // alone; ErrLocked when there is any other
	ExclusiveWait                 // alone; waits for the others to end
)

// FS is what durable code asks of a file system. Errors are those of the os
// package, so that errors.Is works with fs.ErrNotExist, fs.ErrExist,
// syscall.ENOSPC and syscall.EROFS.
type FS interface {
	// Open opens a file for reading.
	Open(name string) (File, error)
	// Create makes a new file, mode 0600, for reading and writing. It is
	// fs.ErrExist when the name is taken.
	Create(name string) (File, error)
	// Append opens a file that exists for reading, and for writing at its end.
	Append(name string) (File, error)
	// Modify opens a file that exists for reading and writing anywhere.
	Modify(name string) (File, error)
	// Rename gives a file another name in place of what has it. It is durable
	// after SyncDir of both directories.
	Rename(from, to string) error
	// Remove removes a file or an empty directory.
	Remove(name string) error
	// Mkdir makes a directory, mode 0700.
	Mkdir(name string) error
	// SyncDir makes the names in a directory durable.
	SyncDir(name string) error
	// ReadDir lists a directory, sorted by name.
	ReadDir(name string) ([]fs.DirEntry, error)
	// Lstat describes a name; it does not follow a symbolic link.
	Lstat(name string) (fs.FileInfo, error)
	// Lock locks a file or directory that exists until the Closer is closed or
	// the process ends. When Lock returns, the locked file is the one that has
	// the name; it is fs.ErrNotExist when the name went away meanwhile. Two
	// locks exclude each other also within one process.
	Lock(name string, mode LockMode) (io.Closer, error)
	// Private returns ErrNotPrivate unless name is a file or directory of this
	// process's user that nobody else can read or write.
	Private(name string) error
	// Volatile reports whether a directory lies in memory, so that a boot
	// empties it.
	Volatile(name string) (bool, error)
}
