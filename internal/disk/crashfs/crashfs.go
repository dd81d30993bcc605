// Package crashfs is a disk in memory that forgets what was not synced.
//
// It shows processes what they expect of a file system, and after a power cut
// what they must not rely on: the contents of a file are only those of its
// last fsync, names only those of the last fsync of their directory, and of
// all that came later any part may have reached the disk (crash.go). A file
// of which an fsync failed is never whole again, although the next fsync says
// so: the kernel has marked its pages clean (Rebello et al., "Can
// Applications Recover from fsync Failures?", ATC 2020). Each call can be made
// to fail, both ways, bits can be flipped, and the disk can be full.
//
// It is hostile within what the interface of disk.FS permits, and so in places
// more than any file system that there is.
package crashfs

import (
	"io/fs"
	"path"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/wakepoint/wakepoint/internal/disk"
)

// Sector is the size of what a disk writes whole or not at all.
const Sector = 512

// FS is a disk. It may be used from any goroutine.
type FS struct {
	ask func(disk.Op) (disk.Verdict, error)

	mu      sync.Mutex // guards all below, and all files; not held while ask is called
	ended   *sync.Cond // a lock ended
	root    *inode
	pending []*change // of names, not durable yet, oldest first
	changes int       // of names, so far
	stopped error     // what each call says; nil: it is done
	limited bool      // whether there is an end to room
	room    int64     // bytes that can still be stored
}

var _ disk.FS = (*FS)(nil)

// New returns an empty disk. Its root is "/".
func New() *FS {
	f := &FS{root: newDir()}
	f.ended = sync.NewCond(&f.mu)
	return f
}

// Watch makes the disk ask before each call what becomes of it, those that
// read as well (open, read, readdir, lstat, lock). The error is the one that
// Fail and Lie report; nil is disk.ErrInjected. Nothing may use the disk
// meanwhile, but ask itself may.
func (f *FS) Watch(ask func(op disk.Op) (disk.Verdict, error)) { f.ask = ask }

// Stop makes each call fail from now on, and leaves the disk as it is: what is
// not durable may survive a cut or not.
func (f *FS) Stop(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stopped = err
	f.ended.Broadcast()
}

// Changes reports whether a call changes the disk.
func Changes(op disk.Op) bool {
	switch op.Verb {
	case "open", "read", "readdir", "lstat", "lock":
		return false
	}
	return true
}

// SetRoom says how many bytes can still be stored; a write of more is cut
// short with ENOSPC. Less than 0 is without end. Every name that is made takes
// a sector.
func (f *FS) SetRoom(bytes int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.limited, f.room = bytes >= 0, bytes
}

// Room returns how many bytes can still be stored.
func (f *FS) Room() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.room
}

// Flip flips one bit of a file, on the disk and in memory.
func (f *FS) Flip(name string, bit int64) error {
	return f.edit(name, func(b *body) error {
		if bit < 0 || bit/8 >= b.size {
			return syscall.EINVAL
		}
		p, at, mask := &b.pieces[bit/8/pieceSize], bit/8%pieceSize, byte(1)<<(bit%8)
		p.mine()[at] ^= mask
		if bit/8 < b.diskSize {
			p.disk = mix(p.disk, nil, 0)
			p.disk[at] ^= mask
		}
		return nil
	})
}

// Cut shortens a file behind everybody's back. Nothing of it waits for an fsync
// then.
func (f *FS) Cut(name string, size int64) error {
	return f.edit(name, func(b *body) error {
		if size < 0 || size > b.size {
			return syscall.EINVAL
		}
		f.room += sectors(b.size) - sectors(size)
		b.land(b.begin())
		*b = solid(size, b.durable())
		return nil
	})
}

// Flush makes the contents of a file durable, as a system does by itself after
// a while. Nobody is asked.
func (f *FS) Flush(name string) error {
	return f.edit(name, func(b *body) error {
		b.land(b.begin())
		return nil
	})
}

func (f *FS) edit(name string, change func(*body) error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	in, err := f.find(name)
	if err == nil && in.dir {
		err = syscall.EISDIR
	}
	if err == nil {
		err = change(&in.body)
	}
	if err != nil {
		return fail("edit", name, err)
	}
	return nil
}

// call does one call, as the watcher says. instead is what happens in its
// place where it fails; nil is nothing.
func (f *FS) call(op disk.Op, do func() error, instead func()) error {
	v, fault := disk.Do, error(nil)
	if f.ask != nil {
		v, fault = f.ask(op)
	}
	if fault == nil {
		fault = disk.ErrInjected
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stopped != nil {
		return fail(op.Verb, op.Name, f.stopped)
	}
	if v == disk.Do || v == disk.Lie {
		if err := do(); err != nil {
			return fail(op.Verb, op.Name, err)
		}
	}
	if v == disk.Fail && instead != nil {
		instead()
	}
	if v == disk.Fail || v == disk.Lie {
		return fail(op.Verb, op.Name, fault)
	}
	return nil
}

func fail(verb, name string, err error) error { return &fs.PathError{Op: verb, Path: name, Err: err} }

// inode is a file or a directory.
type inode struct {
	dir bool

	names map[string]*inode // as processes see them
	kept  map[string]*inode // as they are durable

	body // of a file

	shared    int // locks
	exclusive bool
}

func newDir() *inode {
	return &inode{dir: true, names: map[string]*inode{}, kept: map[string]*inode{}}
}

func newFile() *inode { return &inode{} }

// find finds what has a name. The caller holds f.mu, here and below.
func (f *FS) find(name string) (*inode, error) {
	in := f.root
	for part := range strings.SplitSeq(path.Clean("/"+name), "/") {
		if part == "" {
			continue
		}
		if !in.dir {
			return nil, syscall.ENOTDIR
		}
		if in = in.names[part]; in == nil {
			return nil, syscall.ENOENT
		}
	}
	return in, nil
}

// place finds the directory in which a name is or would be.
func (f *FS) place(name string) (slot, error) {
	dir, base := path.Split(path.Clean("/" + name))
	in, err := f.find(dir)
	if err != nil {
		return slot{}, err
	}
	if !in.dir {
		return slot{}, syscall.ENOTDIR
	}
	return slot{in, base}, nil
}

// take takes room for n bytes, or gives it back.
func (f *FS) take(n int64) error {
	if f.limited && n > f.room {
		return syscall.ENOSPC
	}
	f.room -= n
	return nil
}

// free gives back the room of what has no name any more.
func (f *FS) free(in *inode) {
	f.room += sectors(in.size) + Sector
}

func sectors(n int64) int64 { return (n + Sector - 1) / Sector * Sector }

// info describes an inode. There is no time on this disk.
type info struct {
	name string
	size int64
	dir  bool
}

func (i info) Name() string               { return i.name }
func (i info) Size() int64                { return i.size }
func (i info) ModTime() time.Time         { return time.Time{} }
func (i info) IsDir() bool                { return i.dir }
func (i info) Sys() any                   { return nil }
func (i info) Type() fs.FileMode          { return i.Mode().Type() }
func (i info) Info() (fs.FileInfo, error) { return i, nil }

func (i info) String() string { return fs.FormatDirEntry(i) }

func (i info) Mode() fs.FileMode {
	if i.dir {
		return fs.ModeDir | 0o700
	}
	return 0o600
}

func (in *inode) info(name string) info { return info{path.Base(name), in.size, in.dir} }
