package durable

import "github.com/wakepoint/wakepoint/internal/disk"

// FS is the file system that a database lies on, for tests and for systems that
// have none of their own. It is an interface with these methods, whose errors are
// those of package os, so that errors.Is works with fs.ErrNotExist, fs.ErrExist,
// syscall.ENOSPC and syscall.EROFS:
//
//	Open(name string) (File, error)             // for reading
//	Create(name string) (File, error)           // a new one, mode 0600; fs.ErrExist
//	Append(name string) (File, error)           // that exists; writes go to its end
//	Modify(name string) (File, error)           // that exists; writes go anywhere
//	Rename(from, to string) error               // in place of what has the name
//	Remove(name string) error                   // a file or an empty directory
//	Mkdir(name string) error                    // mode 0700
//	SyncDir(name string) error                  // makes the names in a directory durable
//	ReadDir(name string) ([]fs.DirEntry, error) // in the order of the names
//	Lstat(name string) (fs.FileInfo, error)     // of the name, not of what a link leads to
//	Lock(name string, mode LockMode) (io.Closer, error)
//	Private(name string) error                  // nil: nobody else reads or writes it
//	Volatile(name string) (bool, error)         // whether it lies in memory
//
// Lock locks a file or directory that exists until the Closer is closed or the
// process ends, also against this process; ErrInUse when it is locked.
type FS = disk.FS

// File is an open file of an FS: an interface with these methods. Nothing that was
// written is durable before Sync or Datasync has returned nil; when one returns an
// error, nothing written since the last good one may be relied on.
//
//	io.Reader
//	io.ReaderAt
//	io.Writer
//	io.WriterAt // not of a file from FS.Append
//	io.Closer
//	Name() string
//	Stat() (fs.FileInfo, error)
//	Truncate(size int64) error
//	Sync() error
//	Datasync() error // contents and size, not times
type File = disk.File

// LockMode says how a file of an FS is locked.
type LockMode = disk.LockMode

// How a file is locked.
const (
	Shared        = disk.Shared        // with other shared locks; ErrInUse when there is an exclusive one
	Exclusive     = disk.Exclusive     // alone; ErrInUse when there is any other
	ExclusiveWait = disk.ExclusiveWait // alone; waits for the others to end
)
