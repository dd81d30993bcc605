package files

import (
	"bytes"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// xattrsAt returns the extended attributes of a directory; other kinds that
// are not regular files have none that we keep.
func xattrsAt(path string, k Kind) (map[string][]byte, error) {
	if k != Directory {
		return nil, nil
	}
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return xattrs(f)
}

// xattrs returns the extended attributes of a file (xattr(7)).
func xattrs(f *os.File) (map[string][]byte, error) {
	n, err := unix.Flistxattr(int(f.Fd()), nil)
	if n == 0 || errors.Is(err, unix.EOPNOTSUPP) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("attributes of %s: %w", f.Name(), err)
	}
	names := make([]byte, n)
	if n, err = unix.Flistxattr(int(f.Fd()), names); err != nil {
		return nil, fmt.Errorf("attributes of %s: %w", f.Name(), err)
	}
	out := map[string][]byte{}
	for _, name := range bytes.Split(bytes.TrimSuffix(names[:n], []byte{0}), []byte{0}) {
		v := make([]byte, 1<<16)
		n, err := unix.Fgetxattr(int(f.Fd()), string(name), v)
		if errors.Is(err, unix.ENODATA) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("attribute %s of %s: %w", name, f.Name(), err)
		}
		out[string(name)] = bytes.Clone(v[:n])
	}
	return out, nil
}

// setXattrs gives an open file that has the attributes have exactly those of want.
func setXattrs(f *os.File, have, want map[string][]byte) error {
	for name := range have {
		if _, ok := want[name]; !ok {
			if err := unix.Fremovexattr(int(f.Fd()), name); err != nil && !errors.Is(err, unix.ENODATA) {
				return fmt.Errorf("attribute %s of %s: %w", name, f.Name(), err)
			}
		}
	}
	for name, v := range want {
		if h, ok := have[name]; ok && bytes.Equal(h, v) {
			continue
		}
		if err := unix.Fsetxattr(int(f.Fd()), name, v, 0); err != nil {
			return fmt.Errorf("attribute %s of %s: %w", name, f.Name(), err)
		}
	}
	return nil
}
