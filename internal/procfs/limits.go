package procfs

import (
	"bytes"
	"fmt"
	"math"
)

// Unlimited is RLIM64_INFINITY.
const Unlimited = math.MaxUint64

// LimitCount is the number of resources, RLIM_NLIMITS.
const LimitCount = 16

// A Limit is a soft and a hard limit, in the unit of getrlimit(2).
type Limit struct {
	Soft, Hard uint64
}

// Limits are a process's limits; the index is the resource, RLIMIT_CPU = 0 to
// RLIMIT_RTTIME = 15 (asm-generic/resource.h, alike on amd64 and arm64).
type Limits [LimitCount]Limit

// limitName returns what /proc calls a resource.
//
// Source: fs/proc/base.c, lnames.
func limitName(resource int) string {
	return [LimitCount]string{
		"Max cpu time", "Max file size", "Max data size", "Max stack size", "Max core file size",
		"Max resident set", "Max processes", "Max open files", "Max locked memory", "Max address space",
		"Max file locks", "Max pending signals", "Max msgqueue size", "Max nice priority",
		"Max realtime priority", "Max realtime timeout",
	}[resource]
}

// ParseLimits reads the text of /proc/PID/limits, in which all 16 resources
// must be, in the kernel's order.
//
// Source: proc_pid_limits(5); fs/proc/base.c, proc_pid_limits.
func ParseLimits(text []byte) (Limits, error) {
	var limits Limits
	_, text = cutLine(text)
	for i := range limits {
		var line []byte
		line, text = cutLine(text)
		rest, ok := bytes.CutPrefix(line, []byte(limitName(i)))
		if !ok || len(rest) == 0 || rest[0] != ' ' {
			return Limits{}, fmt.Errorf("limits: %s: %w", limitName(i), badText(line, errShort))
		}
		w := words{rest: rest}
		limits[i].Soft = parseLimit(&w)
		limits[i].Hard = parseLimit(&w)
		if w.err != nil {
			return Limits{}, fmt.Errorf("limits: %s: %w", limitName(i), w.err)
		}
	}
	return limits, nil
}

func parseLimit(w *words) uint64 {
	b := w.next()
	if string(b) == "unlimited" {
		return Unlimited
	}
	v, ok := parseUint(b, 10)
	if !ok {
		w.fail(b, errNumber)
	}
	return v
}

// Limits reads /proc/PID/limits, which needs no right over the process.
func (r *Reader) Limits(pid int) (Limits, error) {
	return parsed(r, r.processPath(pid, "limits"), ParseLimits)
}
