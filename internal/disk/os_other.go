//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package disk

import (
	"errors"
	"io/fs"
	"os"
)

// syncDir does nothing where directories cannot be fsynced (Windows).
func syncDir(*os.File) error { return nil }

// BUG: there are no locks on systems without flock.
func flock(*os.File, LockMode) error { return errors.ErrUnsupported }

func owned(fs.FileInfo) bool   { return true }
func trusted(fs.FileInfo) bool { return true }
func shared(fs.FileInfo) bool  { return false }
