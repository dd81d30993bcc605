//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd || windows)

package disk

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
)

// native says why OS does not keep what FS promises: there are no locks here.
func native() error {
	return fmt.Errorf("%s has no file system that can be used here: one must be given: %w", runtime.GOOS, errors.ErrUnsupported)
}

func open(name string, how int) (*os.File, error) { return os.OpenFile(name, how, 0o600) }

func rename(from, to string) error { return os.Rename(from, to) }

func syncDir(d *os.File) error { return d.Sync() }

func lock(string, LockMode) (io.Closer, error) { return nil, native() }

func owned(fs.FileInfo) bool   { return true }
func trusted(fs.FileInfo) bool { return true }
func shared(fs.FileInfo) bool  { return false }
