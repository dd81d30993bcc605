package sockdiag

import (
	"testing"

	"golang.org/x/sys/unix"
)

// TestUnix finds both ends of a pair of its own.
func TestUnix(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[0])
	defer unix.Close(fds[1])
	var ino [2]uint64
	for i, fd := range fds {
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			t.Fatal(err)
		}
		ino[i] = st.Ino
	}
	table, err := Unix()
	if err != nil {
		t.Fatal(err)
	}
	if table.Peer[ino[0]] != ino[1] || table.Peer[ino[1]] != ino[0] {
		t.Errorf("peers of %v: %d and %d", ino, table.Peer[ino[0]], table.Peer[ino[1]])
	}
}
