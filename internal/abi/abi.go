// Package abi says what differs between processor architectures, as values.
//
// An Arch is a table: call numbers, the order of the register file, and the
// few machine-code fragments that run inside other processes. It builds and
// can be tested everywhere; supporting another architecture means another
// table, not another program.
package abi

// Addr is an address in another process.
type Addr uint64

// PageSize is the page size of every architecture that is supported.
const PageSize = 4096

// Regs is a register file as PTRACE_GETREGSET(NT_PRSTATUS) gives it. Only the
// first Arch.RegWords words are used.
type Regs [36]uint64

// Arch describes one architecture.
type Arch struct {
	Name     string
	Machine  uint16 // ELF e_machine
	RegWords int    // words of NT_PRSTATUS

	// Indexes into Regs.
	IP, SP, Flags, Result, Call, Pad int
	Args                             [6]int
	// Saved lists the registers that the gate puts back, in the order of the
	// pad's fields (from GateRegs on).
	Saved []int

	FloatSet int // the regset that holds the extended state (NT_*)
	// FloatKept and FloatUsed are the offsets in it of two masks: of the parts
	// that the processor keeps, and of those that are not as at the start. 0: none.
	FloatKept, FloatUsed int
	FloatFixed           uint64   // parts that every processor keeps in the same place
	FloatParts           []string // names, by bit
	InsnLen              int      // bytes of the call instruction
	NR                   Calls
	Gate                 []byte
	GateCall             uint64 // offset of the call instruction in the gate
	ExitSlot             func(pad, target uint64) []byte
	Init                 []byte // the init; the last 8 bytes are the command's PID
	JumpSlot             func(target uint64) []byte
	// Plain holds what stands in, on a kernel whose vdso lacks a function, for
	// that function: the system call of the same name and arguments, or ENOSYS.
	Plain    map[string][]byte
	Syscall  []byte // the call instruction
	StackTop Addr   // end of user space
}

// Gate layout: a pad begins with these fields (offsets in bytes).
const (
	GateEntries = 0x00 // address of the first entry
	GateExit    = 0x08 // address of the exit slot
	GateMask    = 0x10 // signal mask to put back
	GateFlags   = 0x18
	GateSP      = 0x20
	GateRegs    = 0x28 // Arch.Saved in order, 8 bytes each
	GateHeader  = 0x98 // size of the whole header
)

// Entry layout: one system call of a tape.
const (
	EntryCall   = 0x00 // number, all ones ends the tape
	EntryArgs   = 0x08 // six words
	EntryResult = 0x38 // where the result goes, 0: nowhere
	EntrySize   = 0x40
)

// Kernel results that ask for a restart (include/linux/errno.h).
const (
	ErestartSys     = 512
	ErestartNoIntr  = 513
	ErestartNoHand  = 514
	ErestartRestart = 516
)

// RestartKind returns the restart code in the result register of a thread
// that was stopped inside a system call, or 0.
func (a *Arch) RestartKind(r *Regs) int {
	if int64(r[a.Call]) < 0 {
		return 0
	}
	switch v := -int64(r[a.Result]); v {
	case ErestartSys, ErestartNoIntr, ErestartNoHand, ErestartRestart:
		return int(v)
	}
	return 0
}

// Rewound returns r as the thread must see it when nobody restarts its
// interrupted call for it: positioned at the call instruction again.
func (a *Arch) Rewound(r Regs) Regs {
	switch a.RestartKind(&r) {
	case 0:
		return r
	case ErestartRestart:
		r[a.Result] = uint64(a.NR.RestartSyscall)
	default:
		r[a.Result] = r[a.Call]
	}
	r[a.IP] -= uint64(a.InsnLen)
	r[a.Call] = ^uint64(0)
	return r
}

// Idle returns r with the memory of any system call taken out, so that the
// kernel restarts nothing.
func (a *Arch) Idle(r Regs) Regs {
	r[a.Call] = ^uint64(0)
	return r
}
