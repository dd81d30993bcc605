package procfs

import (
	"encoding/binary"
	"fmt"
)

// auxEntrySize is the size of an entry of a 64-bit program: type and value,
// 8 bytes each, little endian on all machines that we know.
const auxEntrySize = 16

// An AuxEntry is one entry of the auxiliary vector.
type AuxEntry struct {
	Type, Value uint64 // AT_* of elf.h
}

// Auxv is the auxiliary vector that the kernel gave a program at its start, in
// its order and without the AT_NULL at its end.
type Auxv []AuxEntry

// Value returns the value of a type.
func (a Auxv) Value(typ uint64) (uint64, bool) {
	for _, e := range a {
		if e.Type == typ {
			return e.Value, true
		}
	}
	return 0, false
}

// ParseAuxv reads the bytes of /proc/PID/auxv of a 64-bit program. That of a
// kernel thread is empty.
//
// Source: proc_pid_auxv(5), getauxval(3); fs/proc/base.c, auxv_read.
func ParseAuxv(text []byte) (Auxv, error) {
	var a Auxv
	for ; len(text) >= auxEntrySize; text = text[auxEntrySize:] {
		e := AuxEntry{
			Type:  binary.LittleEndian.Uint64(text),
			Value: binary.LittleEndian.Uint64(text[8:]),
		}
		if e.Type == 0 {
			return a, nil
		}
		a = append(a, e)
	}
	if len(text) > 0 || len(a) > 0 {
		return nil, fmt.Errorf("auxv: %w", errShort)
	}
	return a, nil
}

// Auxv reads /proc/PID/auxv.
func (r *Reader) Auxv(pid int) (Auxv, error) {
	return parsed(r, r.processPath(pid, "auxv"), ParseAuxv)
}
