package abi

import "encoding/binary"

// initBase is where the init's only segment is loaded.
const initBase = 0x10000

// InitELF is the init as an executable that records the end of the process
// with number command (System V ABI, chapter 4: ELF header 64 bytes, one
// program header 56 bytes, then the code). Nil where a has none.
func (a *Arch) InitELF(command int) []byte {
	if a.Init == nil {
		return nil
	}
	const header = 64 + 56
	code := append([]byte(nil), a.Init...)
	binary.LittleEndian.PutUint64(code[len(code)-8:], uint64(command))
	size := uint64(header + len(code))
	b := make([]byte, 0, size)
	b = append(b, 0x7f, 'E', 'L', 'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0)
	le := binary.LittleEndian
	b = le.AppendUint16(b, 2) // ET_EXEC
	b = le.AppendUint16(b, a.Machine)
	b = le.AppendUint32(b, 1)
	b = le.AppendUint64(b, initBase+header) // entry
	b = le.AppendUint64(b, 64)              // program headers
	b = le.AppendUint64(b, 0)               // no sections
	b = le.AppendUint32(b, 0)
	for _, v := range []uint16{64, 56, 1, 64, 0, 0} {
		b = le.AppendUint16(b, v)
	}
	b = le.AppendUint32(b, 1) // PT_LOAD
	b = le.AppendUint32(b, 5) // R+X
	for _, v := range []uint64{0, initBase, initBase, size, size, PageSize} {
		b = le.AppendUint64(b, v)
	}
	return append(b, code...)
}
