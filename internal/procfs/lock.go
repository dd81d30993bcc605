package procfs

import (
	"bytes"
	"fmt"
	"math"
)

// LockEOF is the end of a lock that reaches to the end of the file, however far
// that moves.
const LockEOF = math.MaxInt64

// A Lock is one line of /proc/locks or one "lock:" line of a fdinfo file.
type Lock struct {
	ID int64 // number of the line; a waiter has that of the lock it waits for
	// Waiting says that this is not a lock but a request blocked by one.
	Waiting      bool
	Kind         string // FLOCK, POSIX, OFDLCK, ACCESS, LEASE, DELEG
	Mode         string // ADVISORY; of leases ACTIVE, BREAKING, BREAKER
	Type         string // READ, WRITE, UNLCK
	PID          int    // of the owner; -1 for OFDLCK, 0: not in this PID namespace
	Major, Minor uint32
	Inode        uint64
	Start, End   int64 // first and last byte, LockEOF: to the end
}

// ParseLock reads one lock: "1: POSIX  ADVISORY  WRITE 812 fe:00:99 5 14".
//
// Source: proc_locks(5); fs/locks.c, lock_get_status.
func ParseLock(line []byte) (Lock, error) {
	var l Lock
	w := words{rest: line}
	b := w.next()
	id, ok := parseInt(bytes.TrimSuffix(b, []byte{':'}))
	if !ok {
		w.fail(b, errNumber)
	}
	l.ID = id
	b = w.next()
	if string(b) == "->" {
		l.Waiting = true
		b = w.next()
	}
	l.Kind = string(b)
	l.Mode = string(w.next())
	l.Type = string(w.next())
	l.PID = w.int()
	l.parseFile(&w)
	l.Start = w.int64()
	if b := w.next(); string(b) == "EOF" {
		l.End = LockEOF
	} else if end, ok := parseInt(b); ok {
		l.End = end
	} else {
		w.fail(b, errNumber)
	}
	if w.err != nil {
		return Lock{}, fmt.Errorf("lock: %w", w.err)
	}
	return l, nil
}

// parseFile reads "fe:00:99", or "<none>:0" of a lock without a file.
func (l *Lock) parseFile(w *words) {
	b := w.next()
	if string(b) == "<none>:0" {
		return
	}
	major, rest, _ := bytes.Cut(b, []byte{':'})
	minor, inode, _ := bytes.Cut(rest, []byte{':'})
	ma, ok1 := parseUint(major, 16)
	mi, ok2 := parseUint(minor, 16)
	ino, ok3 := parseUint(inode, 10)
	if !ok1 || !ok2 || !ok3 || ma > math.MaxUint32 || mi > math.MaxUint32 {
		w.fail(b, errNumber)
		return
	}
	l.Major, l.Minor, l.Inode = uint32(ma), uint32(mi), ino
}

// ParseLocks reads the text of /proc/locks.
func ParseLocks(text []byte) ([]Lock, error) {
	var locks []Lock
	for len(text) > 0 {
		var line []byte
		line, text = cutLine(text)
		l, err := ParseLock(line)
		if err != nil {
			return nil, err
		}
		locks = append(locks, l)
	}
	return locks, nil
}

// Locks reads /proc/locks: all locks of the machine whose owner this PID
// namespace can name. The "lock:" lines of a fdinfo file say whose descriptor
// holds one.
func (r *Reader) Locks() ([]Lock, error) {
	return parsed(r, r.root+"/locks", ParseLocks)
}
