package procfs

import (
	"bytes"
	"fmt"
)

// A Stat is one task as /proc/PID/stat or /proc/PID/task/TID/stat tell it. In
// the former, times and faults are sums over all threads.
//
// All IDs are those of the PID namespace of the proc mount. Addresses, ExitCode
// and WaitChannel are 0 for a reader without PTRACE_MODE_READ on the task.
//
// Source: proc_pid_stat(5); fs/proc/array.c, do_task_stat.
type Stat struct {
	PID     int
	Comm    string // up to 15 bytes of anything but NUL, more for kernel threads
	State   byte   // one of "RSDTtZXIP"
	PPID    int    // 0: no parent in this namespace
	PGRP    int
	Session int
	TTY     int32  // device of the controlling terminal in the 32-bit dev_t encoding; 0: none
	TPGID   int    // foreground process group of the terminal; -1: no terminal
	Flags   uint32 // PF_* of include/linux/sched.h

	MinorFaults, ChildMinorFaults uint64
	MajorFaults, ChildMajorFaults uint64

	UserTicks, SystemTicks           uint64 // in ticks of USER_HZ (100/s)
	ChildUserTicks, ChildSystemTicks uint64

	Priority   int
	Nice       int
	NumThreads int
	StartTicks uint64 // ticks since boot, in the time namespace of the reader

	VSizeBytes     uint64
	RSSPages       uint64
	RSSLimit       uint64
	StartCode      uint64
	EndCode        uint64
	StartStack     uint64
	ESP, EIP       uint64 // 0 but for an exiting task
	WaitChannel    uint64 // 1: blocked, 0: not or not known
	ExitSignal     int    // -1 for threads other than the leader
	Processor      int
	RTPriority     uint32
	Policy         uint32 // SCHED_*
	DelayTicks     uint64
	GuestTicks     uint64
	ChildGuest     int64
	StartData      uint64
	EndData        uint64
	StartBrk       uint64
	ArgStart       uint64
	ArgEnd         uint64
	EnvStart       uint64
	EnvEnd         uint64
	ExitCode       int // as wait(2) gives it
	RealTimerTicks int64
}

// ParseStat reads the text of /proc/PID/stat. The name of the task stands
// between the first "(" and the last ")", whatever is in it.
func ParseStat(text []byte) (Stat, error) {
	var s Stat
	i, j := bytes.IndexByte(text, '('), bytes.LastIndexByte(text, ')')
	if i < 0 || j < i {
		return Stat{}, fmt.Errorf("stat: %w", badText(text, errShort))
	}
	w := words{rest: text[:i]}
	s.PID = w.int()
	s.Comm = string(text[i+1 : j])
	line, _ := cutLine(text[j+1:])
	w.rest = line
	if b := w.next(); len(b) == 1 {
		s.State = b[0]
	} else {
		w.fail(b, errShort)
	}
	s.parseIdentity(&w)
	s.parseUse(&w)
	s.parseLayout(&w)
	if w.err != nil {
		return Stat{}, fmt.Errorf("stat: %w", w.err)
	}
	return s, nil
}

// parseIdentity reads fields 4 to 9.
func (s *Stat) parseIdentity(w *words) {
	s.PPID = w.int()
	s.PGRP = w.int()
	s.Session = w.int()
	s.TTY = int32(w.int())
	s.TPGID = w.int()
	s.Flags = w.uint32(10)
}

// parseUse reads fields 10 to 25.
func (s *Stat) parseUse(w *words) {
	s.MinorFaults = w.uint(10)
	s.ChildMinorFaults = w.uint(10)
	s.MajorFaults = w.uint(10)
	s.ChildMajorFaults = w.uint(10)
	s.UserTicks = w.uint(10)
	s.SystemTicks = w.uint(10)
	s.ChildUserTicks = w.uint(10)
	s.ChildSystemTicks = w.uint(10)
	s.Priority = w.int()
	s.Nice = w.int()
	s.NumThreads = w.int()
	s.RealTimerTicks = w.int64()
	s.StartTicks = w.uint(10)
	s.VSizeBytes = w.uint(10)
	s.RSSPages = w.uint(10)
	s.RSSLimit = w.uint(10)
}

// parseLayout reads fields 26 to 52. The four signal masks hold only 31 signals
// and are passed over; Status has them whole.
func (s *Stat) parseLayout(w *words) {
	s.StartCode = w.uint(10)
	s.EndCode = w.uint(10)
	s.StartStack = w.uint(10)
	s.ESP = w.uint(10)
	s.EIP = w.uint(10)
	for range 4 {
		w.uint(10)
	}
	s.WaitChannel = w.uint(10)
	w.uint(10)
	w.uint(10)
	s.ExitSignal = w.int()
	s.Processor = w.int()
	s.RTPriority = w.uint32(10)
	s.Policy = w.uint32(10)
	s.DelayTicks = w.uint(10)
	s.GuestTicks = w.uint(10)
	s.ChildGuest = w.int64()
	s.StartData = w.uint(10)
	s.EndData = w.uint(10)
	s.StartBrk = w.uint(10)
	s.ArgStart = w.uint(10)
	s.ArgEnd = w.uint(10)
	s.EnvStart = w.uint(10)
	s.EnvEnd = w.uint(10)
	s.ExitCode = w.int()
}

// Stat reads /proc/PID/stat.
func (r *Reader) Stat(pid int) (Stat, error) {
	return parsed(r, r.processPath(pid, "stat"), ParseStat)
}

// TaskStat reads /proc/PID/task/TID/stat.
func (r *Reader) TaskStat(pid, tid int) (Stat, error) {
	return parsed(r, r.taskPath(pid, tid, "stat"), ParseStat)
}
