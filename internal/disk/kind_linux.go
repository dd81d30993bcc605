package disk

import (
	"os"
	"syscall"
)

func volatile(name string) (bool, error) {
	magic, err := magicOf(name)
	return magic == magicTmpfs || magic == magicRamfs, err
}

func remote(name string) (string, error) {
	magic, err := magicOf(name)
	return remoteKind(magic), err
}

// magicOf is the type of the file system on which a name lies.
func magicOf(name string) (uint32, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(name, &st); err != nil {
		return 0, &os.PathError{Op: "statfs", Path: name, Err: err}
	}
	return uint32(st.Type), nil
}
