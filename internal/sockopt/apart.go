package sockopt

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/wakepoint/wakepoint/internal/sys"
)

// BindApart binds a UNIX socket to a name without making its file there: on a
// thread for which the name leads into a directory of our own. It returns the
// file of the socket, which has no name left.
func BindApart(fd int, local []byte) (*os.File, error) {
	name, _, _ := bytes.Cut(local[2:], []byte{0})
	top, err := os.MkdirTemp("", "wakepoint-*")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(top)
	// A relative name may climb above the directory where it begins.
	dir := filepath.Join(top, "a/b/c/d/e/f/g/h")
	path := filepath.Join(dir, string(name))
	if filepath.IsAbs(string(name)) {
		dir, path = top, filepath.Join(top, string(name))
	}
	if err := errors.Join(os.MkdirAll(dir, 0o700), os.MkdirAll(filepath.Dir(path), 0o700)); err != nil {
		return nil, err
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // the thread, with its own root, ends with the goroutine
		err := unix.Unshare(unix.CLONE_FS)
		if err == nil && dir == top {
			err = unix.Chroot(top)
		}
		if err == nil && dir != top {
			err = unix.Chdir(dir)
		}
		if err == nil {
			err = sys.Bind(fd, local)
		}
		done <- err
	}()
	if err := <-done; err != nil {
		return nil, err
	}
	at, err := unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	return os.NewFile(uintptr(at), path), err
}
