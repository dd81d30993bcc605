package procfs

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io/fs"
	"slices"
	"syscall"
)

// Processes lists the processes of the PID namespace of the proc mount, by
// rising number. While processes come and go, one that lives throughout may be
// missed; see proc(5).
func (r *Reader) Processes() ([]int, error) { return r.numbers(r.root) }

// Tasks lists the threads of a process, /proc/PID/task: the first one, where it
// has not ended, and the others by rising number. Where numbers begin anew
// (pid_max) others may have lower ones than the first. While threads end, others
// may be missed: read until two lists are alike.
func (r *Reader) Tasks(pid int) ([]int, error) {
	list, err := r.numbers(r.processPath(pid, "task"))
	if i := slices.Index(list, pid); i > 0 {
		list = slices.Insert(slices.Delete(list, i, i+1), 0, pid)
	}
	return list, err
}

// FDs lists the open descriptors of a process, /proc/PID/fd, by rising number.
func (r *Reader) FDs(pid int) ([]int, error) {
	return r.numbers(r.processPath(pid, "fd"))
}

// TaskFDs lists the open descriptors of a thread, by rising number.
func (r *Reader) TaskFDs(pid, tid int) ([]int, error) {
	return r.numbers(r.taskPath(pid, tid, "fd"))
}

// Children lists the children of one thread of a process, in the order of their
// birth. It is exact only while they and the thread are stopped. Not every
// kernel has it (CONFIG_PROC_CHILDREN).
func (r *Reader) Children(pid, tid int) ([]int, error) {
	return parsed(r, r.taskPath(pid, tid, "children"), ParseChildren)
}

// Descendants lists a process and all below it that still have a state,
// parents before children. It is exact only while they are stopped.
func (r *Reader) Descendants(pid int) []int {
	list := []int{pid}
	for i := 0; i < len(list); i++ {
		tids, err := r.Tasks(list[i])
		if err != nil {
			continue
		}
		for _, tid := range tids {
			children, err := r.Children(list[i], tid)
			if err == nil {
				list = append(list, children...)
			}
		}
	}
	return list
}

// ParseChildren reads the text of /proc/PID/task/TID/children: numbers with a
// blank after each.
//
// Source: proc_tid_children(5); fs/proc/array.c, children_seq_show.
func ParseChildren(text []byte) ([]int, error) {
	line, _ := cutLine(text)
	w := words{rest: line}
	pids := parseInts(&w)
	if w.err != nil {
		return nil, fmt.Errorf("children: %w", w.err)
	}
	return pids, nil
}

// numbers lists the entries of a directory that are numbers, sorted.
func (r *Reader) numbers(dir string) ([]int, error) {
	fd, err := openFile(dir, syscall.O_RDONLY|syscall.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	defer syscall.Close(fd)
	var list []int
	for {
		n, err := syscall.ReadDirent(fd, r.buf)
		switch {
		case err == syscall.EINTR:
			continue
		case err != nil:
			return nil, &fs.PathError{Op: "read", Path: dir, Err: err}
		case n == 0:
			slices.Sort(list)
			return list, nil
		}
		if list, err = appendNumbers(list, r.buf[:n]); err != nil {
			return nil, &fs.PathError{Op: "read", Path: dir, Err: err}
		}
	}
}

// appendNumbers adds the names that are numbers in a buffer of getdents64(2):
// inode uint64, offset int64, length uint16, type byte, name up to a NUL.
func appendNumbers(list []int, buf []byte) ([]int, error) {
	const lengthAt, nameAt = 16, 19
	for len(buf) > 0 {
		if len(buf) < nameAt {
			return nil, errShort
		}
		size := int(binary.NativeEndian.Uint16(buf[lengthAt:]))
		if size < nameAt || size > len(buf) {
			return nil, errShort
		}
		name := buf[nameAt:size]
		if i := bytes.IndexByte(name, 0); i >= 0 {
			name = name[:i]
		}
		if v, ok := parseUint(name, 10); ok && v <= 1<<31-1 {
			list = append(list, int(v))
		}
		buf = buf[size:]
	}
	return list, nil
}

// Line is a process and its parents, from itself upwards, as far as they can be
// looked at.
func (r *Reader) Line(pid int) []int {
	var line []int
	for pid > 0 && !slices.Contains(line, pid) {
		line = append(line, pid)
		st, err := r.Stat(pid)
		if err != nil {
			break
		}
		pid = st.PPID
	}
	return line
}
