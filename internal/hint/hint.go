// Package hint turns an error into one that a person can act on: what, which,
// and what to do next.
package hint

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/wakepoint/wakepoint/internal/api"
	"github.com/wakepoint/wakepoint/internal/disk"
	"github.com/wakepoint/wakepoint/internal/engine"
	"github.com/wakepoint/wakepoint/internal/seal"
	"github.com/wakepoint/wakepoint/internal/store"
)

// Workload says what is the matter with a workload.
func Workload(name string, err error) *api.Error {
	var refused *engine.RefusedError
	var exec *engine.ExecError
	var own *api.Error
	var held *engine.TakenError
	var changed *engine.ChangedError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &own):
		return api.AsError(err)
	case errors.As(err, &refused):
		hint := ""
		if len(refused.Obstacles) > 0 {
			hint = refused.Obstacles[0].Hint
		}
		if n := len(refused.Obstacles); n > 1 {
			hint += fmt.Sprintf(" (and %d more: `wakepoint check PID` shows all)", n-1)
		}
		return api.Errorf(api.CodeRefused, hint, "%w", err)
	case errors.As(err, &exec):
		return api.Errorf(api.CodeFailed, "", "%w", err)
	case errors.Is(err, store.ErrDamaged):
		return api.Errorf(api.CodeIntegrity, "`wakepoint verify "+name+"` shows all damage; `wakepoint log "+name+"` what is left", "%w", err)
	case errors.Is(err, store.ErrVersion):
		return api.Errorf(api.CodeFailed, "use the version of wakepoint that wrote it, or a later one", "%w", err)
	case errors.Is(err, store.ErrLocked), errors.Is(err, store.ErrStale):
		return api.Errorf(api.CodeLocked, "`wakepoint status "+name+"` shows its keeper", "%w", err)
	case errors.Is(err, store.ErrNotFound):
		return api.Errorf(api.CodeNotFound, "", "%w", err)
	case errors.Is(err, os.ErrProcessDone):
		return api.Errorf(api.CodeFailed, "", "the program has ended: %w", err)
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return api.Errorf(api.CodeFailed, "make room on the store's disk; checkpoints go on by themselves, and nothing that was committed is lost", "%w", err)
	case errors.Is(err, syscall.EROFS):
		return api.Errorf(api.CodeFailed, "the store's file system is read-only: remount it or use another with --store", "%w", err)
	case errors.As(err, &held):
		return api.Errorf(api.CodeFailed, taken(held.Port), "%w", err)
	case errors.As(err, &changed):
		return api.Errorf(api.CodeFailed, "put that file back as it was, with its times (cp -p); or run the program anew, on the new one", "%w", err)
	case errors.Is(err, syscall.EADDRINUSE):
		return api.Errorf(api.CodeFailed, "another program holds an address that it listens on: `ss -lpn` shows which", "%w", err)
	case errors.Is(err, syscall.ENOTDIR):
		return api.Errorf(api.CodeFailed, "something else has its name: move that away", "%w", err)
	case errors.Is(err, fs.ErrNotExist):
		return api.Errorf(api.CodeFailed, "put back what is missing on this host; its generations stay as they are", "%w", err)
	}
	return api.Errorf(api.CodeFailed, "", "%w", err)
}

// Store says what is the matter with a store.
func Store(dir string, err error) *api.Error {
	var said *api.Error
	if errors.As(err, &said) {
		return said
	}
	switch {
	case errors.Is(err, store.ErrKey):
		return api.Errorf(api.CodeIntegrity, "--key names the file with the key that the store was sealed with", "%w", err)
	case errors.Is(err, syscall.ENOTDIR):
		return api.Errorf(api.CodeFailed, "name a directory that is empty or does not exist", "%w", err)
	case errors.Is(err, store.ErrForeign):
		return api.Errorf(api.CodeFailed, "nothing was changed in it; name a directory that is empty or does not exist", "%w", err)
	case errors.Is(err, disk.ErrNotPrivate):
		return api.Errorf(api.CodeFailed, private(dir), "%w", err)
	case errors.Is(err, store.ErrLocked):
		return api.Errorf(api.CodeLocked, "another wakepoint is at work on it: try again when that has ended", "%w", err)
	case errors.Is(err, store.ErrVersion):
		return api.Errorf(api.CodeFailed, "another version of wakepoint made it: use that one", "%w", err)
	case errors.Is(err, store.ErrDamaged):
		return api.Errorf(api.CodeIntegrity, "`wakepoint verify` shows all damage", "%w", err)
	case errors.Is(err, fs.ErrPermission):
		return api.Errorf(api.CodeFailed, "it belongs to another user: run as that user, or name another directory with --store", "%w", err)
	}
	return Workload(dir, err)
}

// Key says what is the matter with a key file.
func Key(file string, err error) *api.Error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return api.Errorf(api.CodeIntegrity, "--key names the file with the key that the store was sealed with", "the key %s is missing", file)
	case errors.Is(err, seal.ErrExposed):
		return api.Errorf(api.CodeIntegrity, "it must belong to the user who runs wakepoint, with mode 0600", "%w", err)
	case errors.Is(err, seal.ErrKeyFile):
		return api.Errorf(api.CodeIntegrity, "--key names the file with the key that the store was sealed with", "%w", err)
	}
	return api.Errorf(api.CodeFailed, "", "key %s: %w", file, err)
}

// Dump says what is the matter with a directory that holds a dump.
func Dump(dir string, err error) *api.Error {
	if full, aerr := filepath.Abs(dir); aerr == nil {
		dir = full
	}
	switch {
	case errors.Is(err, syscall.EROFS):
		return api.Errorf(api.CodeFailed, "the file system of "+dir+" is read-only: remount it, or copy the dump to another with cp -a", "%w", err)
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return api.Errorf(api.CodeFailed, "make room on the file system of "+dir+" and try again", "%w", err)
	case errors.Is(err, store.ErrDamaged):
		return api.Errorf(api.CodeIntegrity, "`wakepoint verify "+dir+"` shows all damage", "%w", err)
	}
	return Store(dir, err)
}

// private says what to do with a directory that others may enter.
func private(dir string) string {
	info, err := os.Stat(dir)
	switch {
	case err != nil:
		return "name a directory that is empty or does not exist"
	case info.Sys().(*syscall.Stat_t).Uid != uint32(os.Geteuid()):
		return "it belongs to another user: run as that user, or name another directory"
	}
	if list, err := os.ReadDir(dir); err == nil && len(list) == 0 {
		return "it is empty: if a file system belongs there, mount it first; if not, `chmod 700 " + dir + "`"
	}
	return "others may have changed what is in it; if they have not, `chmod 700 " + dir + "`, else name another directory"
}

// Dir says what to do when a directory for a dump cannot be made.
func Dir(dir string, err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "make the directory above it first: `mkdir -p " + filepath.Dir(dir) + "`"
	case errors.Is(err, syscall.ENOTDIR):
		return "a file of that name is in the way: name a directory that is empty or does not exist"
	case errors.Is(err, syscall.EROFS):
		return "that file system is read-only: name a directory on another"
	case errors.Is(err, fs.ErrPermission):
		return "name a directory in which you may write"
	}
	return "name a directory that is empty or does not exist"
}
