package abi

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"slices"
)

// Timeout reads the relative time-out of a call, ns; has is false when it
// waits for ever or until an absolute time.
func (a *Arch) Timeout(mem io.ReaderAt, call int, args *[6]uint64) (ns int64, has bool) {
	const futexOp, futexWait = 0x7f, 0
	switch nr := &a.NR; call {
	case nr.Poll:
		ms := int64(int32(args[2]))
		return ms * 1e6, ms >= 0
	case nr.Nanosleep:
		return Timespec(mem, args[0])
	case nr.ClockNanosleep:
		return Timespec(mem, args[2])
	case nr.Futex:
		if args[1]&futexOp == futexWait && args[3] != 0 {
			return Timespec(mem, args[3])
		}
	}
	return 0, false
}

// Rest reads what the kernel says is left of a sleep, where the program
// asked to be told.
func (a *Arch) Rest(mem io.ReaderAt, call int, args *[6]uint64) (ns int64, ok bool) {
	switch {
	case call == a.NR.Nanosleep && args[1] != 0:
		return Timespec(mem, args[1])
	case call == a.NR.ClockNanosleep && args[3] != 0:
		return Timespec(mem, args[3])
	}
	return 0, false
}

// Timespec reads a struct timespec in another process's memory, ns.
func Timespec(mem io.ReaderAt, at uint64) (int64, bool) {
	var b [16]byte
	if _, err := mem.ReadAt(b[:], int64(at)); err != nil {
		return 0, false
	}
	sec, ns := binary.LittleEndian.Uint64(b[:]), binary.LittleEndian.Uint64(b[8:])
	return int64(sec)*1e9 + int64(ns), true
}

// GuessCall finds out which call a thread in restart_syscall has begun, when
// it was broken off by somebody else: from the code before it, which loads the
// number as a rule, else from the shape of its arguments.
func (a *Arch) GuessCall(mem io.ReaderAt, ip uint64, args *[6]uint64) int {
	nr := &a.NR
	var code [24]byte
	if _, err := mem.ReadAt(code[:], int64(ip)-int64(len(code))); err == nil {
		for i := len(code) - a.InsnLen - 5; i >= 0; i-- {
			imm := int(binary.LittleEndian.Uint32(code[i+1:]))
			load := code[i] == 0xb8 || i > 1 && bytes.Equal(code[i-2:i+1], []byte{0x48, 0xc7, 0xc0})
			if load && slices.Contains([]int{nr.Poll, nr.Nanosleep, nr.ClockNanosleep, nr.Futex}, imm) {
				return imm
			}
		}
	}
	const low = 4096 // no address
	switch {
	case args[0] < low && args[2] >= low:
		return nr.ClockNanosleep
	case args[0] >= low && args[0]%4 == 0 && args[1]&^0x180 <= 9 && args[3] >= low:
		return nr.Futex
	case int64(int32(args[2])) >= 0 && args[2] < 1<<32:
		return nr.Poll
	}
	return nr.Nanosleep
}

// Results of calls that have timed out (include/uapi/asm-generic/errno.h).
const (
	eagain      = 11
	einprogress = 115
)

// TimedOut is what a call returns whose time is up.
func (a *Arch) TimedOut(call int) uint64 {
	switch nr := &a.NR; call {
	case nr.EpollPwait2, nr.IoGetevents, nr.Ppoll, nr.Pselect6:
		return 0
	case nr.Connect:
		return ^uint64(einprogress - 1)
	}
	return ^uint64(eagain - 1)
}

// NothingReady fills in what a call that waits for descriptors reports when
// its time is up: that none is ready.
func (a *Arch) NothingReady(mem io.WriterAt, call int, args *[6]uint64) (err error) {
	switch nr := &a.NR; call {
	case nr.Ppoll:
		for i := range args[1] { // struct pollfd has its result in the last two of eight bytes
			_, werr := mem.WriteAt(make([]byte, 2), int64(args[0]+8*i+6))
			err = errors.Join(err, werr)
		}
	case nr.Pselect6:
		for _, set := range args[1:4] {
			if set != 0 {
				_, werr := mem.WriteAt(make([]byte, (args[0]+63)/64*8), int64(set))
				err = errors.Join(err, werr)
			}
		}
	}
	return err
}
