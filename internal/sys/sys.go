// Package sys makes the raw system calls that no library offers, and is the
// only place of unsafe.
//
// Every function is one call: no policy, no retries except for EINTR where the
// call had no effect. Errors are the bare errno.
package sys

import "golang.org/x/sys/unix"

// Ptrace requests and options that golang.org/x/sys does not name the same on
// every architecture (ptrace(2), include/uapi/linux/ptrace.h).
const (
	ptraceGetSigmask   = 0x420a
	ptraceSetSigmask   = 0x420b
	ptracePeekSiginfo  = 0x4209
	ptraceGetRseq      = 0x420f
	ptraceGetDispatch  = 0x4211
	regsetGeneral      = 1 // NT_PRSTATUS
	peekSiginfoShared  = 1
	SiginfoSize        = 128
	EventStop          = 128 // PTRACE_EVENT_STOP
	EventExec          = unix.PTRACE_EVENT_EXEC
	OptionExitKill     = unix.PTRACE_O_EXITKILL
	OptionTraceExec    = unix.PTRACE_O_TRACEEXEC
	OptionTraceSysgood = unix.PTRACE_O_TRACESYSGOOD
)
