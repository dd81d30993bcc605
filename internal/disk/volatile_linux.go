package disk

import (
	"os"
	"syscall"
)

// File system magics, statfs(2).
const (
	magicTmpfs = 0x01021994
	magicRamfs = 0x858458f6
)

func volatile(name string) (bool, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(name, &st); err != nil {
		return false, &os.PathError{Op: "statfs", Path: name, Err: err}
	}
	magic := uint32(st.Type)
	return magic == magicTmpfs || magic == magicRamfs, nil
}
