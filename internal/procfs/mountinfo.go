package procfs

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strings"
)

var errMount = errors.New("not a mount")

// A Mount is one line of /proc/PID/mountinfo.
//
// Source: proc_pid_mountinfo(5); fs/proc_namespace.c, show_mountinfo.
type Mount struct {
	ID, Parent   int
	Major, Minor uint32
	// Root is the directory of the file system that is mounted. RootDeleted: it
	// has been removed since, and has no name.
	Root        string
	RootDeleted bool
	MountPoint  string   // as seen from the root of the process
	Options     []string // of the mount: "rw", "nosuid", "relatime"

	// Peer groups; 0: none.
	Shared, Master, PropagateFrom int
	Unbindable                    bool

	FSType       string // with its subtype, "fuse.sshfs"
	Source       string // may be empty, "none" or anything
	SuperOptions string // of the file system, with the kernel's escapes
}

// ParseMountinfo reads the text of /proc/PID/mountinfo.
func ParseMountinfo(text []byte) ([]Mount, error) {
	mounts := make([]Mount, 0, bytes.Count(text, []byte{'\n'})+1)
	for len(text) > 0 {
		var line []byte
		line, text = cutLine(text)
		var m Mount
		if err := m.parse(line); err != nil {
			return nil, fmt.Errorf("mountinfo: %w", err)
		}
		mounts = append(mounts, m)
	}
	return mounts, nil
}

func (m *Mount) parse(line []byte) error {
	fixed, system, ok := bytes.Cut(line, []byte(" - "))
	w := words{rest: fixed}
	m.ID = w.int()
	m.Parent = w.int()
	b := w.next()
	major, minor, _ := bytes.Cut(b, []byte{':'})
	ma, ok1 := parseUint(major, 10)
	mi, ok2 := parseUint(minor, 10)
	if !ok1 || !ok2 || max(ma, mi) > math.MaxUint32 {
		w.fail(b, errNumber)
	}
	m.Major, m.Minor = uint32(ma), uint32(mi)
	root, deleted := bytes.CutSuffix(w.next(), []byte("//deleted"))
	m.Root, m.RootDeleted = Unescape(root), deleted
	m.MountPoint = Unescape(w.next())
	m.Options = strings.Split(Unescape(w.next()), ",")
	for w.more() {
		m.parseOptional(&w)
	}
	if w.err == nil && (!ok || m.MountPoint == "") {
		w.err = badText(line, errMount)
	}
	if w.err != nil {
		return w.err
	}
	// One blank each, since the source may be empty.
	kind, rest, _ := bytes.Cut(system, []byte{' '})
	source, options, ok := bytes.Cut(rest, []byte{' '})
	if !ok || len(kind) == 0 {
		return badText(line, errMount)
	}
	m.FSType, m.Source, m.SuperOptions = Unescape(kind), Unescape(source), string(options)
	return nil
}

// parseOptional reads one of the fields before the hyphen. The manual asks
// readers to pass over what they do not know.
func (m *Mount) parseOptional(w *words) {
	b := w.next()
	key, value, _ := bytes.Cut(b, []byte{':'})
	var to *int
	switch string(key) {
	case "shared":
		to = &m.Shared
	case "master":
		to = &m.Master
	case "propagate_from":
		to = &m.PropagateFrom
	case "unbindable":
		m.Unbindable = true
		return
	default:
		return
	}
	v, ok := parseInt(value)
	if !ok {
		w.fail(b, errNumber)
	}
	*to = int(v)
}

// Unescape undoes the kernel's escapes of blanks and backslashes: a backslash
// and three octal digits. A backslash before anything else stands for itself.
//
// Source: fs/seq_file.c, mangle_path.
func Unescape(b []byte) string {
	if bytes.IndexByte(b, '\\') < 0 {
		return string(b)
	}
	out := make([]byte, 0, len(b))
	for i := 0; i < len(b); i++ {
		if b[i] == '\\' && i+3 < len(b) {
			if v, ok := parseUint(b[i+1:i+4], 8); ok && v <= math.MaxUint8 {
				out = append(out, byte(v))
				i += 3
				continue
			}
		}
		out = append(out, b[i])
	}
	return string(out)
}

// Mounts reads /proc/PID/mountinfo: the mounts of the process's namespace that
// its root can reach, parents before children. A zombie has no namespace any
// more, which the kernel says with EINVAL.
func (r *Reader) Mounts(pid int) ([]Mount, error) {
	return parsed(r, r.processPath(pid, "mountinfo"), ParseMountinfo)
}
