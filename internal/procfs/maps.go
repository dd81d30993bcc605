package procfs

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

// Prot is what a mapping allows, in the kernel's PROT_ bits.
type Prot uint8

// The PROT_ bits of mman.h.
const (
	ProtRead  Prot = 1
	ProtWrite Prot = 2
	ProtExec  Prot = 4
)

// String returns "r-x" and the like.
func (p Prot) String() string {
	b := []byte("---")
	for i, c := range []byte("rwx") {
		if p&(1<<i) != 0 {
			b[i] = c
		}
	}
	return string(b)
}

// A Mapping is one line of /proc/PID/maps: one virtual memory area.
type Mapping struct {
	Start, End uint64 // End is the first address after it
	Prot       Prot
	Shared     bool // 's', VM_MAYSHARE; false: 'p', private
	Deleted    bool // the file has no name any more
	// Escaped says that Path held the escape of a newline, which cannot be told
	// from a file name that holds a backslash and "012"; the link
	// /proc/PID/map_files/START-END has the exact name.
	Escaped      bool
	Major, Minor uint32 // device of the file, 0:0: no file
	Inode        uint64
	Offset       uint64 // into the file, in bytes
	// Path is the file's, as seen from the reader's root and without
	// " (deleted)". It is empty for plain anonymous memory, a name in brackets
	// for special areas ("[heap]", "[vdso]", "[anon:name]"), and for files of no
	// directory what the kernel calls them ("/dev/zero", "/memfd:name",
	// "/SYSV00001234", "anon_inode:[io_uring]").
	//
	// BUG: the kernel does not mark " (deleted)" where it is part of the name of
	// a file that exists, so that such a file looks deleted.
	Path string
}

// Len returns the size of the mapping in bytes.
func (m *Mapping) Len() uint64 { return m.End - m.Start }

// Special reports whether the kernel names the area by its purpose, like
// "[stack]": it has no file.
func (m *Mapping) Special() bool { return strings.HasPrefix(m.Path, "[") }

// MapFile returns the name of the mapping's link in /proc/PID/map_files.
func (m *Mapping) MapFile() string { return fmt.Sprintf("%x-%x", m.Start, m.End) }

// ParseMaps reads the text of /proc/PID/maps: mappings in the order of their
// addresses.
//
// Source: proc_pid_maps(5); fs/proc/task_mmu.c, show_map_vma.
func ParseMaps(text []byte) ([]Mapping, error) {
	return AppendMaps(nil, text)
}

// AppendMaps is ParseMaps into a slice that the caller has. After an error it
// returns dst as it was.
func AppendMaps(dst []Mapping, text []byte) ([]Mapping, error) {
	out := dst
	if out == nil {
		out = make([]Mapping, 0, bytes.Count(text, []byte{'\n'})+1)
	}
	var paths lastPath
	for len(text) > 0 {
		var line []byte
		line, text = cutLine(text)
		out = append(out, Mapping{})
		if !out[len(out)-1].parse(line, &paths) {
			return dst, fmt.Errorf("maps: %w", badText(line, errMapping))
		}
	}
	return out, nil
}

// parse reads one line; false: it is none.
func (m *Mapping) parse(line []byte, paths *lastPath) bool {
	c := cursor{line: line}
	m.Start = c.hex('-')
	m.End = c.hex(' ')
	c.perms(m)
	m.Offset = c.hex(' ')
	m.Major = uint32(c.hex(':'))
	m.Minor = uint32(c.hex(' '))
	m.Inode = c.dec()
	if c.bad || m.Start > m.End {
		return false
	}
	if path := bytes.TrimLeft(c.line, " "); len(path) > 0 {
		paths.set(m, path)
	}
	return true
}

// A cursor reads the fixed part of a line of maps. It is words without the
// generality, since a program may have many thousand mappings.
type cursor struct {
	line []byte
	bad  bool
}

// hex reads digits up to the byte end, and both away.
func (c *cursor) hex(end byte) uint64 {
	var v uint64
	for i, b := range c.line {
		switch {
		case b >= '0' && b <= '9':
			v = v<<4 | uint64(b-'0')
		case b >= 'a' && b <= 'f':
			v = v<<4 | uint64(b-'a'+10)
		case b == end && i > 0 && i <= 16:
			c.line = c.line[i+1:]
			return v
		default:
			c.bad, c.line = true, nil
			return 0
		}
	}
	c.bad, c.line = true, nil
	return 0
}

// dec reads digits up to a blank or the end of the line.
func (c *cursor) dec() uint64 {
	i := bytes.IndexByte(c.line, ' ')
	if i < 0 {
		i = len(c.line)
	}
	v, ok := parseUint(c.line[:i], 10)
	c.line = c.line[i:]
	c.bad = c.bad || !ok
	return v
}

// perms reads "rwxp " away.
func (c *cursor) perms(m *Mapping) {
	if len(c.line) < 5 || c.line[4] != ' ' || c.line[3] != 'p' && c.line[3] != 's' {
		c.bad, c.line = true, nil
		return
	}
	for i, b := range []byte("rwx") {
		switch c.line[i] {
		case b:
			m.Prot |= 1 << i
		case '-':
		default:
			c.bad = true
		}
	}
	m.Shared = c.line[3] == 's'
	c.line = c.line[5:]
}

// lastPath keeps the path of the line before, since the areas of one file
// follow each other and may then share one string.
type lastPath struct {
	raw              []byte // in the text
	path             string
	deleted, escaped bool
}

func (l *lastPath) set(m *Mapping, raw []byte) {
	if !bytes.Equal(raw, l.raw) {
		l.raw = raw
		l.path, l.deleted, l.escaped = decodeMapPath(raw)
	}
	m.Path, m.Deleted, m.Escaped = l.path, l.deleted, l.escaped
}

// deletedSuffix is what d_path adds to a name that is gone.
const deletedSuffix = " (deleted)"

func decodeMapPath(raw []byte) (path string, deleted, escaped bool) {
	if raw[0] == '/' {
		raw, deleted = bytes.CutSuffix(raw, []byte(deletedSuffix))
	}
	path = string(raw)
	if strings.Contains(path, `\012`) {
		return strings.ReplaceAll(path, `\012`, "\n"), deleted, true
	}
	return path, deleted, false
}

// Maps reads /proc/PID/maps. The file is read by several calls, so that it is
// the state of one instant only for a program that is stopped.
func (r *Reader) Maps(pid int) ([]Mapping, error) {
	return parsed(r, r.processPath(pid, "maps"), ParseMaps)
}

// AppendMaps is Maps into a slice that the caller has.
func (r *Reader) AppendMaps(dst []Mapping, pid int) ([]Mapping, error) {
	out, err := parsed(r, r.processPath(pid, "maps"), func(text []byte) ([]Mapping, error) {
		return AppendMaps(dst, text)
	})
	if err != nil {
		return dst, err
	}
	return out, nil
}

var errMapping = errors.New("not a mapping")
