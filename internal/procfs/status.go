package procfs

import (
	"bytes"
	"fmt"
	"math"
	"strings"
)

// A Status is one task as /proc/PID/status or /proc/PID/task/TID/status tell
// it. Fields that the kernel does not print are zero: the memory fields of
// kernel threads and zombies, what a configuration leaves out, what a newer
// kernel added.
//
// IDs are those of the PID namespace of the proc mount, user and group IDs those
// of the reader's user namespace.
//
// Source: proc_pid_status(5); fs/proc/array.c, proc_pid_status.
type Status struct {
	Name      string // without the kernel's escapes
	Umask     uint32 // HasUmask: a zombie has none
	HasUmask  bool
	State     byte // one of "RSDTtZXIP"
	Tgid      int
	Ngid      int
	Pid       int
	PPid      int
	TracerPid int
	Uid       [4]uint32 // real, effective, saved, file system
	Gid       [4]uint32
	FDSize    int
	Groups    []uint32

	// The IDs in every PID namespace from that of the proc mount inwards.
	NStgid, NSpid, NSpgid, NSsid []int

	Kthread bool // since 6.8
	Memory  StatusMemory

	CoreDumping   bool
	THPEnabled    bool
	Threads       int
	SignalsQueued uint64 // of the real user
	SignalsLimit  uint64

	// Bit n-1 is signal n.
	SigPnd, ShdPnd, SigBlk, SigIgn, SigCgt uint64
	// Bit n is capability n.
	CapInh, CapPrm, CapEff, CapBnd, CapAmb uint64

	NoNewPrivs     bool
	Seccomp        int // 0 none, 1 strict, 2 filter
	SeccompFilters int

	CpusAllowed     string // mask in hex words, highest first; see ParseMask
	CpusAllowedList string // as ranges, "0-3,7"
	MemsAllowed     string
	MemsAllowedList string

	VoluntarySwitches    uint64
	NonvoluntarySwitches uint64

	text string
}

// StatusMemory is the part of a Status that a task without memory lacks. Sizes
// are kB of 1024 bytes, as printed. The kernel keeps some counters per CPU, so
// that RSS may lag behind.
type StatusMemory struct {
	Present                          bool // whether the task has memory at all
	PeakKB, SizeKB, LckKB, PinKB     uint64
	HWMKB, RSSKB                     uint64
	RssAnonKB, RssFileKB, RssShmemKB uint64
	DataKB, StkKB, ExeKB, LibKB      uint64
	PTEKB, SwapKB, HugetlbKB         uint64
	UntagMask                        uint64 // 0 where the machine has none
}

// ParseStatus reads the text of /proc/PID/status. Lines that it does not know
// are kept for [Status.Lines] only.
func ParseStatus(text []byte) (Status, error) {
	s := Status{text: string(text)}
	for rest := text; len(rest) > 0; {
		var line []byte
		line, rest = cutLine(rest)
		i := bytes.IndexByte(line, ':')
		if i < 0 {
			return Status{}, fmt.Errorf("status: %w", badText(line, errShort))
		}
		key, w := line[:i], words{rest: trimSpace(line[i+1:])}
		if !s.parseTask(key, &w) && !s.parseMemory(key, &w) && !s.parseMasks(key, &w) {
			s.parseRest(key, &w)
		}
		if w.err != nil {
			return Status{}, fmt.Errorf("status: %s: %w", key[:min(len(key), quoteMax)], w.err)
		}
	}
	if s.Pid == 0 || s.Tgid == 0 {
		return Status{}, fmt.Errorf("status: %w", errShort)
	}
	return s, nil
}

// Lines yields every line of the file as its key and its value without the
// blanks around it, in the kernel's order, for comparisons and for what Status
// has no field for.
func (s *Status) Lines() func(yield func(key, value string) bool) {
	return func(yield func(key, value string) bool) {
		for line := range strings.Lines(s.text) {
			key, value, _ := strings.Cut(line, ":")
			if !yield(key, strings.Trim(value, " \t\n")) {
				return
			}
		}
	}
}

// Map returns Lines as a map.
func (s *Status) Map() map[string]string {
	m := make(map[string]string, 64)
	for key, value := range s.Lines() {
		m[key] = value
	}
	return m
}

// parseTask reads who and whose the task is; false: not such a key.
func (s *Status) parseTask(key []byte, w *words) bool {
	switch string(key) {
	case "Name":
		s.Name = unescapeName(w.rest)
	case "Umask":
		s.Umask, s.HasUmask = w.uint32(8), true
	case "State":
		if b := w.next(); len(b) == 1 {
			s.State = b[0]
		} else {
			w.fail(b, errShort)
		}
	case "Tgid":
		s.Tgid = w.int()
	case "Ngid":
		s.Ngid = w.int()
	case "Pid":
		s.Pid = w.int()
	case "PPid":
		s.PPid = w.int()
	case "TracerPid":
		s.TracerPid = w.int()
	case "Uid":
		s.Uid = parseIDs(w)
	case "Gid":
		s.Gid = parseIDs(w)
	case "FDSize":
		s.FDSize = w.int()
	case "Groups":
		for w.more() {
			s.Groups = append(s.Groups, w.uint32(10))
		}
	case "NStgid":
		s.NStgid = parseInts(w)
	case "NSpid":
		s.NSpid = parseInts(w)
	case "NSpgid":
		s.NSpgid = parseInts(w)
	case "NSsid":
		s.NSsid = parseInts(w)
	case "Kthread":
		s.Kthread = w.uint32(10) != 0
	default:
		return false
	}
	return true
}

// parseMemory reads sizes; false: not such a key.
func (s *Status) parseMemory(key []byte, w *words) bool {
	m := &s.Memory
	var to *uint64
	switch string(key) {
	case "VmPeak":
		to = &m.PeakKB
	case "VmSize":
		m.Present, to = true, &m.SizeKB
	case "VmLck":
		to = &m.LckKB
	case "VmPin":
		to = &m.PinKB
	case "VmHWM":
		to = &m.HWMKB
	case "VmRSS":
		to = &m.RSSKB
	case "RssAnon":
		to = &m.RssAnonKB
	case "RssFile":
		to = &m.RssFileKB
	case "RssShmem":
		to = &m.RssShmemKB
	case "VmData":
		to = &m.DataKB
	case "VmStk":
		to = &m.StkKB
	case "VmExe":
		to = &m.ExeKB
	case "VmLib":
		to = &m.LibKB
	case "VmPTE":
		to = &m.PTEKB
	case "VmSwap":
		to = &m.SwapKB
	case "HugetlbPages":
		to = &m.HugetlbKB
	case "untag_mask":
		b := bytes.TrimPrefix(w.next(), []byte("0x"))
		m.UntagMask, _ = parseUint(b, 16)
		return true
	default:
		return false
	}
	*to = w.uint(10)
	return true
}

// parseMasks reads sets of signals and capabilities; false: not such a key.
func (s *Status) parseMasks(key []byte, w *words) bool {
	var to *uint64
	switch string(key) {
	case "SigPnd":
		to = &s.SigPnd
	case "ShdPnd":
		to = &s.ShdPnd
	case "SigBlk":
		to = &s.SigBlk
	case "SigIgn":
		to = &s.SigIgn
	case "SigCgt":
		to = &s.SigCgt
	case "CapInh":
		to = &s.CapInh
	case "CapPrm":
		to = &s.CapPrm
	case "CapEff":
		to = &s.CapEff
	case "CapBnd":
		to = &s.CapBnd
	case "CapAmb":
		to = &s.CapAmb
	default:
		return false
	}
	*to = w.uint(16)
	return true
}

func (s *Status) parseRest(key []byte, w *words) {
	switch string(key) {
	case "CoreDumping":
		s.CoreDumping = w.uint32(10) != 0
	case "THP_enabled":
		s.THPEnabled = w.uint32(10) != 0
	case "Threads":
		s.Threads = w.int()
	case "SigQ":
		queued, limit, _ := bytes.Cut(w.next(), []byte("/"))
		q, ok1 := parseUint(queued, 10)
		l, ok2 := parseUint(limit, 10)
		if !ok1 || !ok2 {
			w.fail(queued, errNumber)
		}
		s.SignalsQueued, s.SignalsLimit = q, l
	case "NoNewPrivs":
		s.NoNewPrivs = w.uint32(10) != 0
	case "Seccomp":
		s.Seccomp = w.int()
	case "Seccomp_filters":
		s.SeccompFilters = w.int()
	case "Cpus_allowed":
		s.CpusAllowed = string(w.next())
	case "Cpus_allowed_list":
		s.CpusAllowedList = string(w.next())
	case "Mems_allowed":
		s.MemsAllowed = string(w.next())
	case "Mems_allowed_list":
		s.MemsAllowedList = string(w.next())
	case "voluntary_ctxt_switches":
		s.VoluntarySwitches = w.uint(10)
	case "nonvoluntary_ctxt_switches":
		s.NonvoluntarySwitches = w.uint(10)
	}
}

func parseIDs(w *words) (ids [4]uint32) {
	for i := range ids {
		ids[i] = w.uint32(10)
	}
	return ids
}

func parseInts(w *words) []int {
	var ids []int
	for w.more() {
		ids = append(ids, w.int())
	}
	return ids
}

// unescapeName undoes the two escapes that the kernel makes in the name of a
// task (proc_task_name): newline and backslash.
func unescapeName(b []byte) string {
	if bytes.IndexByte(b, '\\') < 0 {
		return string(b)
	}
	out := make([]byte, 0, len(b))
	for i := 0; i < len(b); i++ {
		c := b[i]
		if c == '\\' && i+1 < len(b) {
			switch b[i+1] {
			case 'n':
				c = '\n'
				i++
			case '\\':
				i++
			}
		}
		out = append(out, c)
	}
	return string(out)
}

// ParseMask reads a set of CPUs or memory nodes as /proc prints it: words of 32
// bits in hex, highest first, with commas. Bit n of word n/64 of the result is
// member n.
//
// Source: lib/vsprintf.c, bitmap_string ("%*pb").
func ParseMask(mask string) ([]uint64, error) {
	parts := strings.Count(mask, ",") + 1
	set := make([]uint64, (parts+1)/2)
	for i := parts - 1; i >= 0; i-- {
		part, rest, _ := strings.Cut(mask, ",")
		mask = rest
		v, ok := parseUint([]byte(part), 16)
		if !ok || v > math.MaxUint32 {
			return nil, fmt.Errorf("mask: %w", badText([]byte(part), errNumber))
		}
		set[i/2] |= v << (32 * (i % 2))
	}
	return set, nil
}

// Status reads /proc/PID/status.
func (r *Reader) Status(pid int) (Status, error) {
	return parsed(r, r.processPath(pid, "status"), ParseStatus)
}

// TaskStatus reads /proc/PID/task/TID/status.
func (r *Reader) TaskStatus(pid, tid int) (Status, error) {
	return parsed(r, r.taskPath(pid, tid, "status"), ParseStatus)
}
