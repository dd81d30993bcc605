// Package setting knows what a process or thread sets for itself by prctl(2),
// and who it is, so that it can be asked for and set again.
package setting

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/wakepoint/wakepoint/internal/tape"
)

// A setting is something that prctl(2) tells and sets again, unless it is as in
// a new process.
type setting struct {
	get, set [2]int64 // option and argument; -1: the value itself
	plain    int64
	out      bool // the value is written to where the argument points
	low      bool // the lowest bit says that it can be set, and is not repeated
}

// Options that golang.org/x/sys lacks.
const (
	prSetMDWE, prGetMDWE               = 65, 66
	prSetMemoryMerge, prGetMemoryMerge = 67, 68
)

// Process is what concerns a whole process.
var Process = List{
	{get: [2]int64{unix.PR_GET_CHILD_SUBREAPER}, set: [2]int64{unix.PR_SET_CHILD_SUBREAPER, -1}, out: true},
	{get: [2]int64{unix.PR_GET_THP_DISABLE}, set: [2]int64{unix.PR_SET_THP_DISABLE, 1}, low: true},
	{get: [2]int64{prGetMemoryMerge}, set: [2]int64{prSetMemoryMerge, -1}},
	{get: [2]int64{prGetMDWE}, set: [2]int64{prSetMDWE, -1}},
}

// Thread is what each thread has for itself.
var Thread = List{
	{get: [2]int64{unix.PR_GET_TSC}, set: [2]int64{unix.PR_SET_TSC, -1}, plain: unix.PR_TSC_ENABLE, out: true},
	{get: [2]int64{unix.PR_MCE_KILL_GET}, set: [2]int64{unix.PR_MCE_KILL, unix.PR_MCE_KILL_SET}, plain: unix.PR_MCE_KILL_DEFAULT},
	{get: [2]int64{unix.PR_GET_SPECULATION_CTRL, 0}, set: [2]int64{unix.PR_SET_SPECULATION_CTRL, 0}, plain: 3, low: true},
	{get: [2]int64{unix.PR_GET_SPECULATION_CTRL, 1}, set: [2]int64{unix.PR_SET_SPECULATION_CTRL, 1}, plain: 3, low: true},
	{get: [2]int64{unix.PR_GET_SPECULATION_CTRL, 2}, set: [2]int64{unix.PR_SET_SPECULATION_CTRL, 2}, plain: 5, low: true},
}

// List is a list of settings.
type List []setting

// Ask adds the questions to a tape. What it returns makes of the played tape's
// results and data the arguments of the calls that set the same again.
func (l List) Ask(tp *tape.Tape, prctl int) func(results []int64, data func(tape.Data) []byte) [][4]int64 {
	at, out := make([]tape.Ref, len(l)), tp.Space(8*len(l))
	for i, s := range l {
		arg := tape.N(s.get[1])
		if s.out {
			arg = tape.At(out, 8*i)
		}
		at[i] = tp.Try("prctl", prctl, tape.N(s.get[0]), arg)
	}
	return func(results []int64, data func(tape.Data) []byte) [][4]int64 {
		var again [][4]int64
		for i, s := range l {
			v := results[at[i]]
			if s.out && v == 0 {
				v = int64(int32(binary.LittleEndian.Uint32(data(out)[8*i:])))
			}
			if v >= 0 && v != s.plain && (!s.low || v&1 != 0) {
				again = append(again, s.again(v))
			}
		}
		return again
	}
}

// again is the call that sets v.
func (s *setting) again(v int64) [4]int64 {
	if s.low {
		v &^= 1
	}
	if s.set[1] < 0 {
		return [4]int64{s.set[0], v}
	}
	return [4]int64{s.set[0], s.set[1], v}
}

// Plan repeats what Ask found. What guards against a flaw of the processor
// may fail: another processor may not have it.
func Plan(tp *tape.Tape, prctl int, list [][4]int64) {
	for _, s := range list {
		add := tp.Add
		if s[0] == unix.PR_SET_SPECULATION_CTRL {
			add = tp.Try
		}
		add("prctl", prctl, tape.N(s[0]), tape.N(s[1]), tape.N(s[2]), tape.N(s[3]), tape.N(0))
	}
}
