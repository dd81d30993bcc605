package procfs

import (
	"bytes"
	"errors"
	"fmt"
)

var errSocket = errors.New("not a socket")

// A UnixSocket is one line of /proc/net/unix.
type UnixSocket struct {
	RefCount uint32
	Protocol uint32
	Flags    uint32
	Type     uint32 // SOCK_*
	State    uint32 // SS_*: 1 not connected, 2 connecting, 3 connected
	Inode    uint64 // that of "socket:[N]"
	Bound    bool
	Abstract bool
	// Path is the name it is bound to, that of an abstract one without the NUL
	// at its start. What the kernel prints as "@" in the rest of an abstract
	// name may be a NUL.
	Path string
}

// Listening reports whether listen(2) was called on it.
func (u *UnixSocket) Listening() bool { return u.Flags&(1<<16) != 0 }

// ParseUnix reads the text of /proc/net/unix.
//
// BUG: the kernel prints names as they are. One that holds a newline is put
// together again here, but one made to look like another socket's line is taken
// for it. Whatever acts on a name must ask sock_diag(7).
//
// Source: proc_pid_net(5); net/unix/af_unix.c, unix_seq_show.
func ParseUnix(text []byte) ([]UnixSocket, error) {
	line, text := cutLine(text)
	if !bytes.HasPrefix(line, []byte("Num ")) {
		return nil, fmt.Errorf("unix: %w", badText(line, errSocket))
	}
	sockets := make([]UnixSocket, 0, bytes.Count(text, []byte{'\n'}))
	for len(text) > 0 {
		line, text = cutUnixLine(text)
		u, ok := parseUnixLine(line)
		if !ok {
			return nil, fmt.Errorf("unix: %w", badText(line, errSocket))
		}
		sockets = append(sockets, u)
	}
	return sockets, nil
}

// cutUnixLine cuts at the first newline after which another socket or nothing
// follows.
func cutUnixLine(text []byte) (line, rest []byte) {
	for at := 0; ; {
		i := bytes.IndexByte(text[at:], '\n')
		if i < 0 {
			return text, nil
		}
		at += i + 1
		if at == len(text) {
			return text[:at-1], nil
		}
		next, _ := cutLine(text[at:])
		if _, ok := parseUnixLine(next); ok {
			return text[:at-1], text[at:]
		}
	}
}

// parseUnixLine reads "ADDRESS: 00000002 00000000 00010000 0001 01 10935 PATH".
func parseUnixLine(line []byte) (UnixSocket, bool) {
	address, rest, ok := bytes.Cut(line, []byte(": "))
	if _, hex := parseUint(address, 16); !ok || !hex || len(address) < 8 {
		return UnixSocket{}, false
	}
	w := words{rest: rest}
	u := UnixSocket{
		RefCount: w.uint32(16),
		Protocol: w.uint32(16),
		Flags:    w.uint32(16),
		Type:     w.uint32(16),
		State:    w.uint32(16),
		Inode:    w.uint(10),
	}
	if w.err != nil {
		return UnixSocket{}, false
	}
	if len(w.rest) > 0 {
		u.Bound = true
		name := w.rest[1:]
		if len(name) > 0 && name[0] == '@' {
			u.Abstract, name = true, name[1:]
		}
		u.Path = string(name)
	}
	return u, true
}

// Unix reads /proc/PID/net/unix: the sockets of the process's network
// namespace.
func (r *Reader) Unix(pid int) ([]UnixSocket, error) {
	return parsed(r, r.processPath(pid, "net/unix"), ParseUnix)
}
