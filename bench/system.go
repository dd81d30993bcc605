package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// chill takes what lies below a directory out of the page cache: all of the
// machine's where that is permitted, else the files' own.
func (c config) chill(dir string) error {
	if c.warm {
		return nil
	}
	unix.Sync()
	if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0); err == nil {
		return nil
	}
	return filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		return unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
	})
}

// number reads a line of a file of /proc/PID: its value in units.
func number(pid int, file, label string, unit int64) (int64, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
	if err != nil {
		return 0, err
	}
	for line := range bytes.Lines(raw) {
		if f := bytes.Fields(line); len(f) >= 2 && string(f[0]) == label {
			n, err := strconv.ParseInt(string(f[1]), 10, 64)
			return n * unit, err
		}
	}
	return 0, fmt.Errorf("no %s in /proc/%d/%s", label, pid, file)
}

// peak is the most memory that a process had resident, in bytes, since it
// began or since resetPeak.
func peak(pid int) (int64, error) { return number(pid, "status", "VmHWM:", 1024) }

// resetPeak lets peak begin anew, and returns what is resident now.
func resetPeak(pid int) (int64, error) {
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0); err != nil {
		return 0, err
	}
	return number(pid, "status", "VmRSS:", 1024)
}

// written is how much a process has written to files, in bytes, also what has
// not reached the disk yet.
func written(pid int) (int64, error) { return number(pid, "io", "wchar:", 1) }

// pidOf is the process that holds an engine's memory.
func pidOf(e engine) int {
	if s, ok := e.(served); ok {
		return s.PID()
	}
	return os.Getpid()
}

// ticks is how many a second /proc counts in.
const ticks = 100

// worked is the processor time that an engine and those who use it have taken.
func worked(e putter) (time.Duration, error) {
	var own unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &own); err != nil {
		return 0, err
	}
	sum := time.Duration(own.Utime.Nano() + own.Stime.Nano())
	s, ok := e.(served)
	if !ok {
		return sum, nil
	}
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.PID()))
	if err != nil {
		return 0, err
	}
	_, after, _ := bytes.Cut(raw, []byte(") ")) // behind the name comes field 3
	f := strings.Fields(string(after))
	if len(f) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat has %d fields", s.PID(), len(f))
	}
	for _, n := range f[11:13] { // utime and stime: proc_pid_stat(5)
		t, err := strconv.ParseInt(n, 10, 64)
		if err != nil {
			return 0, err
		}
		sum += time.Duration(t) * time.Second / ticks
	}
	return sum, nil
}
