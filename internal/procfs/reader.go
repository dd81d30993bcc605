// Package procfs turns the text of /proc into values.
//
// Every file has a pure parser (ParseStat, ParseMaps, ...) that works on any
// text, and a method of [Reader] that reads the file and parses it. Parsers
// take the text of any kernel since 6.1: what an older kernel does not print
// stays zero, what a newer one adds is ignored or kept under its name. No value
// returned by a parser aliases its input.
//
// The package reads while a program is frozen, so it is sparing: one open, as
// few reads as the kernel allows, one buffer for all files.
//
// Sources are named as proc(5) sections, in man-pages since 6.10 pages of their
// own such as proc_pid_stat(5), and as files of the kernel tree.
package procfs

import (
	"errors"
	"io/fs"
	"strconv"
	"syscall"
)

// bufferSize holds all but the largest files, so that they are read by one
// call and therefore at one instant.
const bufferSize = 64 << 10

// A Reader reads files below one proc file system into a buffer of its own.
// It must not be used by two goroutines at once.
//
// Errors of its methods are [*fs.PathError] when reading fails, which carry the
// errno, and name the path when parsing fails.
type Reader struct {
	root string
	buf  []byte
}

// NewReader returns a Reader of the proc file system at root, "/proc" outside
// of tests.
func NewReader(root string) *Reader {
	return &Reader{root: root, buf: make([]byte, bufferSize)}
}

// IsGone reports whether err says that the process or thread has ended: the
// file is not there any more, or was opened and has lost its task. A kernel
// that lacks the file altogether gives the same answer.
func IsGone(err error) bool {
	return errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ESRCH)
}

// File returns the text of /proc/NAME. The text is valid until the next call of
// any method.
func (r *Reader) File(name string) ([]byte, error) {
	return r.read(r.root + "/" + name)
}

// ProcessFile returns the text of /proc/PID/NAME. The text is valid until the
// next call of any method.
func (r *Reader) ProcessFile(pid int, name string) ([]byte, error) {
	return r.read(r.processPath(pid, name))
}

// TaskFile returns the text of /proc/PID/task/TID/NAME. The text is valid until
// the next call of any method.
func (r *Reader) TaskFile(pid, tid int, name string) ([]byte, error) {
	return r.read(r.taskPath(pid, tid, name))
}

func (r *Reader) processPath(pid int, name string) string {
	return r.root + "/" + strconv.Itoa(pid) + "/" + name
}

func (r *Reader) taskPath(pid, tid int, name string) string {
	return r.root + "/" + strconv.Itoa(pid) + "/task/" + strconv.Itoa(tid) + "/" + name
}

// read returns the whole file, in r.buf.
func (r *Reader) read(path string) ([]byte, error) {
	fd, err := openFile(path, syscall.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer syscall.Close(fd)
	n := 0
	for {
		if n == len(r.buf) {
			r.buf = append(r.buf, make([]byte, max(bufferSize, len(r.buf)))...)
		}
		m, err := syscall.Read(fd, r.buf[n:])
		switch {
		case err == syscall.EINTR:
		case err != nil:
			return nil, &fs.PathError{Op: "read", Path: path, Err: err}
		case m == 0:
			return r.buf[:n], nil
		default:
			n += m
		}
	}
}

// openFile goes past package os, which would try to put the descriptor into
// its poller.
func openFile(path string, flags int) (int, error) {
	for {
		fd, err := syscall.Open(path, flags|syscall.O_CLOEXEC, 0)
		if err == nil {
			return fd, nil
		}
		if err != syscall.EINTR {
			return -1, &fs.PathError{Op: "open", Path: path, Err: err}
		}
	}
}

// parsed reads path and hands the text to a parser, whose error is given the
// path.
func parsed[T any](r *Reader, path string, parse func([]byte) (T, error)) (T, error) {
	var zero T
	text, err := r.read(path)
	if err != nil {
		return zero, err
	}
	v, err := parse(text)
	if err != nil {
		return zero, &fs.PathError{Op: "parse", Path: path, Err: err}
	}
	return v, nil
}
