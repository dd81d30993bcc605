package abi

// ARM64 is linux on AArch64. BUG: only the call numbers and the register file
// are here; the machine code of the gate and of the init is not written yet,
// so that the engine refuses to run on it (Gate is nil).
var ARM64 = &Arch{
	Name: "arm64", Machine: 183, RegWords: 34,
	IP: 32, SP: 31, Flags: 33, Result: 0, Call: 35, Pad: 28,
	Args:     [6]int{0, 1, 2, 3, 4, 5},
	FloatSet: 2, // NT_PRFPREG
	InsnLen:  4,
	NR:       callsARM64,
	Syscall:  []byte{0x01, 0x00, 0x00, 0xd4}, // svc #0
	StackTop: 0xffffffffffff,
}

// Host returns the table for a GOARCH name, nil when there is none.
func Host(goarch string) *Arch {
	for _, a := range []*Arch{AMD64, ARM64} {
		if a.Name == goarch {
			return a
		}
	}
	return nil
}
