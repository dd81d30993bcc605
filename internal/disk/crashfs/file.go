package crashfs

import (
	"io"
	"io/fs"
	"syscall"

	"github.com/wakepoint/wakepoint/internal/disk"
)

// file is an open file.
type file struct {
	fs     *FS
	in     *inode
	name   string
	write  bool
	append bool

	at     int64 // of the next Read or Write
	closed bool
}

// Open opens a file, or a directory, for reading.
func (f *FS) Open(name string) (disk.File, error) {
	return f.open("open", name, file{})
}

// Append opens a file for writing at its end.
func (f *FS) Append(name string) (disk.File, error) {
	return f.open("append", name, file{write: true, append: true})
}

// Modify opens a file for writing anywhere.
func (f *FS) Modify(name string) (disk.File, error) {
	return f.open("modify", name, file{write: true})
}

func (f *FS) open(verb, name string, h file) (disk.File, error) {
	h.fs, h.name = f, name
	err := f.call(disk.Op{Verb: verb, Name: name}, func() (err error) {
		h.in, err = f.find(name)
		if err == nil && h.in.dir && h.write {
			err = syscall.EISDIR
		}
		return err
	}, nil)
	if err != nil {
		return nil, err
	}
	return &h, nil
}

func (h *file) Name() string { return h.name }

func (h *file) Stat() (fi fs.FileInfo, err error) {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	if h.closed {
		return nil, fail("stat", h.name, fs.ErrClosed)
	}
	return h.in.info(h.name), nil
}

func (h *file) Close() error {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	if h.closed {
		return fail("close", h.name, fs.ErrClosed)
	}
	h.closed = true
	return nil
}

// do does one call on the file while it is open.
func (h *file) do(verb string, size int64, do func() error, instead func()) error {
	return h.fs.call(disk.Op{Verb: verb, Name: h.name, Size: size}, func() error {
		switch {
		case h.closed:
			return fs.ErrClosed
		case verb == "read" && h.in.dir:
			return syscall.EISDIR
		case verb == "write" && !h.write:
			return syscall.EBADF
		case verb == "truncate" && !h.write:
			return syscall.EINVAL
		}
		return do()
	}, instead)
}

func (h *file) Read(p []byte) (n int, err error) {
	end := false
	err = h.do("read", int64(len(p)), func() error {
		n = h.in.read(p, h.at)
		end = n == 0 && len(p) > 0
		h.at += int64(n)
		return nil
	}, nil)
	if err == nil && end {
		err = io.EOF
	}
	return n, err
}

func (h *file) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, fail("read", h.name, syscall.EINVAL)
	}
	err = h.do("read", int64(len(p)), func() error {
		n = h.in.read(p, off)
		return nil
	}, nil)
	if err == nil && n < len(p) {
		err = io.EOF
	}
	return n, err
}

func (h *file) Write(p []byte) (n int, err error) {
	err = h.do("write", int64(len(p)), func() error {
		if h.append {
			h.at = h.in.size
		}
		n, err = h.fs.write(h.in, p, h.at)
		h.at += int64(n)
		return err
	}, nil)
	return n, err
}

// WriteAt writes at an offset; not where Append opened the file.
func (h *file) WriteAt(p []byte, off int64) (n int, err error) {
	if off < 0 || h.append {
		return 0, fail("write", h.name, syscall.EINVAL)
	}
	err = h.do("write", int64(len(p)), func() error {
		n, err = h.fs.write(h.in, p, off)
		return err
	}, nil)
	return n, err
}

func (h *file) Truncate(size int64) error {
	return h.do("truncate", size, func() error {
		if size < 0 {
			return syscall.EINVAL
		}
		return h.fs.resize(h.in, size)
	}, nil)
}

// Sync makes durable what was written before it began. Where it fails that is
// clean from then on, and lost.
func (h *file) Sync() error {
	if h.in.dir {
		return h.do("sync", 0, func() error { return nil }, nil)
	}
	h.fs.mu.Lock()
	f := h.in.begin()
	h.fs.mu.Unlock()
	defer func() {
		h.fs.mu.Lock()
		h.in.forget(f)
		h.fs.mu.Unlock()
	}()
	return h.do("sync", 0, func() error {
		h.in.land(f)
		return nil
	}, func() { h.in.lose(f) })
}

// Datasync is Sync: whatever is needed to read what was written is durable.
func (h *file) Datasync() error { return h.Sync() }

// write stores what there is room for.
func (f *FS) write(in *inode, p []byte, at int64) (n int, err error) {
	size := in.size
	if grown := at + int64(len(p)); grown > size {
		if err = f.take(sectors(grown) - sectors(size)); err != nil {
			grown = max(size, sectors(size)+f.room/Sector*Sector)
			if p = p[:max(0, min(int64(len(p)), grown-at))]; len(p) == 0 {
				return 0, err
			}
			f.room -= max(0, sectors(at+int64(len(p)))-sectors(size))
		}
	}
	in.body.write(p, at)
	return len(p), err
}

func (f *FS) resize(in *inode, size int64) error {
	if err := f.take(sectors(size) - sectors(in.size)); err != nil {
		return err
	}
	in.body.resize(size)
	return nil
}
