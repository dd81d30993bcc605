package engine

import (
	"encoding/binary"
	"math/bits"

	"golang.org/x/sys/unix"

	"github.com/wakepoint/wakepoint/internal/abi"
	"github.com/wakepoint/wakepoint/internal/image"
	"github.com/wakepoint/wakepoint/internal/procfs"
	"github.com/wakepoint/wakepoint/internal/setting"
	"github.com/wakepoint/wakepoint/internal/tape"
	"github.com/wakepoint/wakepoint/internal/tracee"
)

// answers are what only the process itself can tell.
type answers struct {
	actions  []image.Action
	itimers  [3]image.Interval
	timers   []image.Timer
	brk      uint64
	dumpable int
	barriers int
	settings [][4]int64
	threads  []threadAnswers
}

type threadAnswers struct {
	clearTID   uint64
	altStack   image.AltStack
	parent     int // PR_GET_PDEATHSIG
	secureBits int64
	keepCaps   bool
	settings   [][4]int64
	memPolicy  []byte
	keyring    bool // of the thread or the process
}

// Options of prctl(2) that golang.org/x/sys lacks the data shape for.
const sigactionSize = 32

// question collects calls and what to do with their results.
type question struct {
	tape.Tape
	then []func(p *tracee.Played)
}

// ask plays one tape in the leader for what concerns the process, and one in
// every thread for what concerns the thread.
func (d *dumper) ask(p *process) (*answers, error) {
	a := &answers{threads: make([]threadAnswers, len(p.threads))}
	timers, err := d.proc.Timers(p.pid)
	if err != nil {
		return nil, err
	}
	nr := &d.f.tree.arch.NR
	q := new(question)
	q.actions(nr.RtSigaction, p.status.SigIgn|p.status.SigCgt, a)
	q.intervals(nr.Getitimer, a)
	q.posixTimers(nr.TimerGettime, nr.TimerGetoverrun, timers, a)
	brk := q.Add("brk", nr.Brk, tape.N(0))
	dumpable := q.Add("prctl", nr.Prctl, tape.N(unix.PR_GET_DUMPABLE))
	barriers := q.Try("membarrier", nr.Membarrier, tape.N(getRegistrations), tape.N(0))
	settings := setting.Process.Ask(&q.Tape, nr.Prctl)
	q.thread(nr, &a.threads[0])
	r, err := p.leader().Play(&p.space.space, &q.Tape)
	if err != nil {
		return nil, err
	}
	a.brk, a.dumpable = uint64(r.Results[brk]), int(r.Results[dumpable])
	a.settings, a.barriers = settings(r.Results, r.Data), max(int(r.Results[barriers]), 0)
	for _, f := range q.then {
		f(r)
	}
	for i := 1; i < len(p.threads); i++ {
		q := new(question)
		q.thread(nr, &a.threads[i])
		r, err := p.threads[i].Play(&p.space.space, &q.Tape)
		if err != nil {
			return nil, err
		}
		for _, f := range q.then {
			f(r)
		}
	}
	return a, nil
}

// actions asks for the dispositions that are not the default.
func (q *question) actions(nr int, set uint64, a *answers) {
	for set != 0 {
		sig := bits.TrailingZeros64(set) + 1
		set &= set - 1
		out := q.Space(sigactionSize)
		q.Add("rt_sigaction", nr, tape.N(sig), tape.N(0), tape.At(out, 0), tape.N(8))
		q.then = append(q.then, func(p *tracee.Played) {
			a.actions = append(a.actions, image.Action{Signal: sig, Raw: append([]byte(nil), p.Data(out)...)})
		})
	}
}

func (q *question) intervals(nr int, a *answers) {
	for which := range a.itimers {
		out := q.Space(32)
		q.Add("getitimer", nr, tape.N(which), tape.At(out, 0))
		q.then = append(q.then, func(p *tracee.Played) { // struct itimerval: interval, then value
			b := p.Data(out)
			a.itimers[which] = image.Interval{Every: pair(b), Value: pair(b[16:])}
		})
	}
}

func pair(b []byte) [2]int64 {
	return [2]int64{int64(binary.LittleEndian.Uint64(b)), int64(binary.LittleEndian.Uint64(b[8:]))}
}

func (q *question) posixTimers(gettime, overrun int, timers []procfs.Timer, a *answers) {
	for _, t := range timers {
		out := q.Space(32)
		q.Add("timer_gettime", gettime, tape.N(t.ID), tape.At(out, 0))
		q.then = append(q.then, func(p *tracee.Played) { // struct itimerspec: interval, then value
			b := p.Data(out)
			a.timers = append(a.timers, image.Timer{ID: t.ID, Clock: t.ClockID, Notify: t.Notify, Signal: t.Signal,
				Value: t.Value, Target: t.Target, Setting: image.Interval{Every: pair(b), Value: pair(b[16:])}})
		})
	}
}

// thread asks for what only a thread knows of itself.
func (q *question) thread(nr *abi.Calls, a *threadAnswers) {
	tid, stack, death, policy := q.Space(8), q.Space(24), q.Space(8), q.Space(8+nodesMax/8)
	q.Add("prctl", nr.Prctl, tape.N(unix.PR_GET_TID_ADDRESS), tape.At(tid, 0))
	q.Add("sigaltstack", nr.Sigaltstack, tape.N(0), tape.At(stack, 0))
	q.Add("prctl", nr.Prctl, tape.N(unix.PR_GET_PDEATHSIG), tape.At(death, 0))
	bits := q.Add("prctl", nr.Prctl, tape.N(unix.PR_GET_SECUREBITS))
	keep := q.Add("prctl", nr.Prctl, tape.N(unix.PR_GET_KEEPCAPS))
	numa := q.Try("get_mempolicy", nr.GetMempolicy, tape.At(policy, 0), tape.At(policy, 8), tape.N(nodesMax), tape.N(0), tape.N(0))
	settings := setting.Thread.Ask(&q.Tape, nr.Prctl)
	own := q.Try("keyctl", nr.Keyctl, tape.N(unix.KEYCTL_GET_KEYRING_ID), tape.N(unix.KEY_SPEC_THREAD_KEYRING), tape.N(0))
	shared := q.Try("keyctl", nr.Keyctl, tape.N(unix.KEYCTL_GET_KEYRING_ID), tape.N(unix.KEY_SPEC_PROCESS_KEYRING), tape.N(0))
	q.then = append(q.then, func(p *tracee.Played) {
		a.clearTID = binary.LittleEndian.Uint64(p.Data(tid))
		b := p.Data(stack)
		a.altStack = image.AltStack{SP: binary.LittleEndian.Uint64(b), Flags: binary.LittleEndian.Uint32(b[8:]), Size: binary.LittleEndian.Uint64(b[16:])}
		a.parent = int(int32(binary.LittleEndian.Uint32(p.Data(death))))
		a.secureBits, a.keepCaps = p.Results[bits], p.Results[keep] != 0
		a.settings = settings(p.Results, p.Data)
		a.keyring = p.Results[own] > 0 || p.Results[shared] > 0
		if b := p.Data(policy); p.Results[numa] == 0 && binary.LittleEndian.Uint32(b) != 0 { // MPOL_DEFAULT
			a.memPolicy = append([]byte(nil), b...)
		}
	})
}
