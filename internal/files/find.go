package files

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// handleOf returns what finds a file again after a rename (name_to_handle_at(2)):
// four bytes of its type, little-endian, and the kernel's bytes. nil where the
// file system gives none (overlayfs).
func handleOf(dir int, path string) []byte {
	flags := 0
	if path == "" {
		flags = unix.AT_EMPTY_PATH
	}
	h, _, err := unix.NameToHandleAt(dir, path, flags)
	if err != nil {
		return nil
	}
	return append(binary.LittleEndian.AppendUint32(nil, uint32(h.Type())), h.Bytes()...)
}

// finder finds files whose names may have changed. It remembers what it has
// looked at, and serves for a moment.
type finder struct {
	plain map[string]bool             // directories that are reached without a link
	names map[string]map[inode]string // of files without handles, by directory
}

func newFinder() *finder {
	return &finder{plain: map[string]bool{}, names: map[string]map[inode]string{}}
}

// is says that a file has its name still.
func (f *finder) is(w Written) bool {
	var st unix.Stat_t
	return unix.Lstat(w.Path, &st) == nil && uint64(st.Dev) == w.Dev && st.Ino == w.Ino && f.reached(filepath.Dir(w.Path))
}

// reached says that no link leads to a directory: what has become one is
// passed by at a put-back.
func (f *finder) reached(dir string) bool {
	yes, known := f.plain[dir]
	if !known {
		fd, err := beneath(dir)
		if yes = err == nil; yes {
			unix.Close(fd)
		}
		f.plain[dir] = yes
	}
	return yes
}

// other finds another name of a file that has lost the one that is known, ""
// when there is none: it was deleted.
func (f *finder) other(w Written) string {
	var path string
	if len(w.Handle) > 4 {
		path = byHandle(w)
	} else {
		path = f.beside(w)
	}
	// A file whose names the kernel has forgotten shows none.
	if w.Path = path; path == "" || !clean(path) || !f.is(w) {
		return ""
	}
	return path
}

// byHandle is the name by which the kernel knows a file now.
func byHandle(w Written) string {
	mount, err := nearestDir(filepath.Dir(w.Path))
	if err != nil {
		return ""
	}
	defer unix.Close(mount)
	h := unix.NewFileHandle(int32(binary.LittleEndian.Uint32(w.Handle)), w.Handle[4:])
	fd, err := unix.OpenByHandleAt(mount, h, unix.O_PATH|unix.O_CLOEXEC)
	if err != nil {
		return ""
	}
	defer unix.Close(fd)
	path, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		return ""
	}
	return path
}

// beside finds a file in the directory in which it was.
func (f *finder) beside(w Written) string {
	dir := filepath.Dir(w.Path)
	names, known := f.names[dir]
	if !known {
		names = map[inode]string{}
		list, _ := os.ReadDir(dir)
		for _, e := range list {
			var st unix.Stat_t
			if path := filepath.Join(dir, e.Name()); e.Type().IsRegular() && unix.Lstat(path, &st) == nil {
				names[inode{uint64(st.Dev), st.Ino}] = path
			}
		}
		f.names[dir] = names
	}
	return names[inode{w.Dev, w.Ino}]
}

// nearestDir opens dir, or the nearest directory above it that is left.
func nearestDir(dir string) (int, error) {
	for {
		fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err == nil || dir == "/" || !errors.Is(err, unix.ENOENT) {
			return fd, err
		}
		dir = filepath.Dir(dir)
	}
}
