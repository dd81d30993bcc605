package procfs

import (
	"bytes"
	"fmt"
	"math"
)

// NoLoginUID is the login user of a process that nobody logged in for.
const NoLoginUID = math.MaxUint32

// ParseNumber reads a file of one decimal number, with or without a sign and a
// newline: most sysctls, for one.
func ParseNumber(text []byte) (int64, error) {
	return parseLine(text, (*words).int64)
}

// parseLine reads a file of one word.
func parseLine[T any](text []byte, parse func(*words) T) (T, error) {
	line, rest := cutLine(text)
	w := words{rest: line}
	v := parse(&w)
	if w.more() || len(rest) > 0 {
		w.fail(text, errNumber)
	}
	if w.err != nil {
		var zero T
		return zero, fmt.Errorf("number: %w", w.err)
	}
	return v, nil
}

// ParseStrings reads strings with a NUL after each, as cmdline and environ have
// them. The last may lack its NUL, since a program may write there what it
// likes. No text is no strings.
func ParseStrings(text []byte) ([]string, error) {
	if len(text) == 0 {
		return nil, nil
	}
	text = bytes.TrimSuffix(text, []byte{0})
	out := make([]string, 0, bytes.Count(text, []byte{0})+1)
	for more := true; more; {
		var s []byte
		s, text, more = bytes.Cut(text, []byte{0})
		out = append(out, string(s))
	}
	return out, nil
}

// LoginUID reads /proc/PID/loginuid (CONFIG_AUDIT), NoLoginUID if it has none.
//
// Source: proc_pid_loginuid(5); fs/proc/base.c.
func (r *Reader) LoginUID(pid int) (uint32, error) {
	return parsed(r, r.processPath(pid, "loginuid"), func(text []byte) (uint32, error) {
		return parseLine(text, func(w *words) uint32 { return w.uint32(10) })
	})
}

// OOMScoreAdj reads /proc/PID/oom_score_adj, from -1000 to 1000.
//
// Source: proc_pid_oom_score_adj(5).
func (r *Reader) OOMScoreAdj(pid int) (int, error) {
	return parsed(r, r.processPath(pid, "oom_score_adj"), func(text []byte) (int, error) {
		return parseLine(text, (*words).int)
	})
}

// CoredumpFilter reads /proc/PID/coredump_filter, a set of bits. A kernel thread
// or zombie has none, and its file is empty: 0.
//
// Source: core(5); fs/proc/base.c, proc_coredump_filter_read.
func (r *Reader) CoredumpFilter(pid int) (uint32, error) {
	return parsed(r, r.processPath(pid, "coredump_filter"), func(text []byte) (uint32, error) {
		if len(text) == 0 {
			return 0, nil
		}
		return parseLine(text, func(w *words) uint32 { return w.uint32(16) })
	})
}

// Personality reads /proc/PID/task/TID/personality, as personality(2) has it.
//
// Source: proc_pid_personality(5).
func (r *Reader) Personality(pid, tid int) (uint32, error) {
	return parsed(r, r.taskPath(pid, tid, "personality"), func(text []byte) (uint32, error) {
		return parseLine(text, func(w *words) uint32 { return w.uint32(16) })
	})
}

// TimerSlack reads /proc/TID/timerslack_ns: the slack of one thread, in
// nanoseconds. Threads have the file only under /proc itself, where they are
// not listed. Others' needs CAP_SYS_NICE.
//
// Source: proc_pid_timerslack_ns(5); fs/proc/base.c, timerslack_ns_show.
func (r *Reader) TimerSlack(tid int) (uint64, error) {
	return parsed(r, r.processPath(tid, "timerslack_ns"), func(text []byte) (uint64, error) {
		return parseLine(text, func(w *words) uint64 { return w.uint(10) })
	})
}

// Cmdline reads /proc/PID/cmdline, which the program may have overwritten.
// A kernel thread or zombie has none.
//
// Source: proc_pid_cmdline(5).
func (r *Reader) Cmdline(pid int) ([]string, error) {
	return parsed(r, r.processPath(pid, "cmdline"), ParseStrings)
}

// Environ reads /proc/PID/environ: the environment at the program's start.
//
// Source: proc_pid_environ(5).
func (r *Reader) Environ(pid int) ([]string, error) {
	return parsed(r, r.processPath(pid, "environ"), ParseStrings)
}
