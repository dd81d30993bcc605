package namespace

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Offsets reads what a process's time namespace adds to the host's
// CLOCK_MONOTONIC and CLOCK_BOOTTIME, ns (time_namespaces(7)). The file shows
// the namespace for a thread's children, of a process its first thread's.
func Offsets(pid int) (out [2]int64, err error) { return offsets(strconv.Itoa(pid)) }

// OwnOffsets is Offsets of this process. Its first thread may have made a time
// namespace for others and be kept for no more; a thread that runs has not.
func OwnOffsets() (out [2]int64, err error) { return offsets("thread-self") }

func offsets(of string) (out [2]int64, err error) {
	b, err := os.ReadFile("/proc/" + of + "/timens_offsets")
	if errors.Is(err, os.ErrNotExist) {
		return out, nil // a kernel without time namespaces
	}
	if err != nil {
		return out, err
	}
	for line := range strings.Lines(string(b)) {
		var name string
		var sec, ns int64
		if _, err := fmt.Sscan(line, &name, &sec, &ns); err != nil {
			return out, fmt.Errorf("parse timens_offsets: %w", err)
		}
		switch name {
		case "monotonic", "1":
			out[0] = sec*1e9 + ns
		case "boottime", "7":
			out[1] = sec*1e9 + ns
		}
	}
	return out, nil
}

// Monotonic is what CLOCK_MONOTONIC shows this process, ns.
func Monotonic() (int64, error) {
	var ts unix.Timespec
	err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return ts.Nano(), err
}
