// Package tape holds system calls to be played inside another process, as data.
//
// A Tape is planned by pure code, can be printed, and is laid out in the
// memory of its target as a pad: a header for the gate (see package abi), the
// entries, and data. Playing it is the tracee's work.
package tape

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/wakepoint/wakepoint/internal/abi"
)

// Word is an argument of a call: a plain number, an address of data on the
// same tape, or the result of an earlier call on it.
type Word struct {
	kind  kind
	value uint64
}

type kind uint8

const (
	plain  kind = iota
	data        // value is an offset in the tape's data
	result      // value is the index of a call
)

// N is a plain number.
func N[T ~int | ~int32 | ~int64 | ~uint | ~uint32 | ~uint64 | ~uint8 | ~uint16](v T) Word {
	return Word{value: uint64(v)}
}

// Call is one system call on a tape.
type Call struct {
	Name   string // for printing and errors
	NR     int
	Args   [6]Word
	Fails  bool // the result may be an error, which the planner looks at
	Length int
}

// Ref names a call on its tape.
type Ref int

// Data names bytes on its tape.
type Data struct {
	Off, Len int
}

// Tape is a list of calls with their data.
type Tape struct {
	Calls []Call
	data  []byte
	used  []bool // which results are arguments already

	pauses []int
}

// Add appends a call that must succeed.
func (t *Tape) Add(name string, nr int, args ...Word) Ref {
	c := Call{Name: name, NR: nr, Length: len(args)}
	copy(c.Args[:], args)
	for _, w := range args {
		if w.kind != result {
			continue
		}
		if t.used[w.value] {
			panic("tape: a result can go to one place only")
		}
		t.used[w.value] = true
	}
	t.Calls = append(t.Calls, c)
	t.used = append(t.used, false)
	return Ref(len(t.Calls) - 1)
}

// Try appends a call that may fail.
func (t *Tape) Try(name string, nr int, args ...Word) Ref {
	r := t.Add(name, nr, args...)
	t.Calls[r].Fails = true
	return r
}

// Pause lets the player look at the results so far before the tape goes on.
// If the player is gone by then, it goes on at once.
func (t *Tape) Pause() {
	t.pauses = append(t.pauses, int(t.Add("pause", 0)))
	t.Calls[len(t.Calls)-1].Fails = true
}

// Pauses is the number of pauses on the tape.
func (t *Tape) Pauses() int { return len(t.pauses) }

// Result is the result of an earlier call, as an argument.
func (t *Tape) Result(r Ref) Word { return Word{kind: result, value: uint64(r)} }

// Bytes puts bytes on the tape, 16-byte aligned.
func (t *Tape) Bytes(p []byte) Data {
	t.data = append(t.data, make([]byte, -len(t.data)&15)...)
	d := Data{Off: len(t.data), Len: len(p)}
	t.data = append(t.data, p...)
	return d
}

// String puts a NUL-terminated string on the tape.
func (t *Tape) String(s string) Word { return At(t.Bytes(append([]byte(s), 0)), 0) }

// Words puts 64-bit numbers on the tape.
func (t *Tape) Words(v ...uint64) Data {
	p := make([]byte, 0, len(v)*8)
	for _, w := range v {
		p = binary.LittleEndian.AppendUint64(p, w)
	}
	return t.Bytes(p)
}

// Space reserves n zero bytes.
func (t *Tape) Space(n int) Data { return t.Bytes(make([]byte, n)) }

// At is the address of a byte of d, as an argument.
func At(d Data, off int) Word { return Word{kind: data, value: uint64(d.Off + off)} }

// Size is the length of the tape's pad in bytes, without its end marker and
// the stop call that the player adds.
func (t *Tape) Size() int {
	return abi.GateHeader + 8 + (len(t.Calls)+2)*abi.EntrySize + len(t.data) + 16
}

// Layout is a tape laid out for an address.
type Layout struct {
	Bytes   []byte // the pad; the header's registers are left zero
	entries int
	data    int
	calls   int
}

// Layout lays the tape out as a pad that will stand at base, with stop as the
// last call. The results are written over the first word of their own entry,
// which is spent by then.
func (t *Tape) Layout(base abi.Addr, stop Call) Layout {
	l := Layout{entries: abi.GateHeader + 8, calls: len(t.Calls)}
	l.data = (l.entries + (len(t.Calls)+2)*abi.EntrySize + 15) &^ 15
	b := make([]byte, l.data+len(t.data))
	put := func(off int, v uint64) { binary.LittleEndian.PutUint64(b[off:], v) }
	put(abi.GateEntries, uint64(base)+uint64(l.entries))
	for i := range len(t.Calls) + 1 {
		c := stop
		if i < len(t.Calls) && !slices.Contains(t.pauses, i) {
			c = t.Calls[i]
		}
		e := l.entries + i*abi.EntrySize
		put(e+abi.EntryCall, uint64(int64(c.NR)))
		for k, w := range c.Args {
			if w.kind == data {
				w.value += uint64(base) + uint64(l.data)
			}
			if w.kind != result {
				put(e+abi.EntryArgs+8*k, w.value)
			}
		}
	}
	t.wire(put, uint64(base)+uint64(l.entries))
	put(l.entries+(len(t.Calls)+1)*abi.EntrySize, ^uint64(0))
	copy(b[l.data:], t.data)
	l.Bytes = b
	return l
}

// wire sends each result to where it is wanted: into the argument of a later
// call, or else over its own entry, where Results finds it. The gate has one
// result slot per call, so that a result can be wanted once.
func (t *Tape) wire(put func(int, uint64), entries uint64) {
	first := abi.GateHeader + 8
	slots := make([]uint64, len(t.Calls))
	for i := range t.Calls {
		slots[i] = entries + uint64(i*abi.EntrySize)
	}
	for i, c := range t.Calls {
		for k, w := range c.Args {
			if w.kind == result {
				slots[w.value] = entries + uint64(i*abi.EntrySize+abi.EntryArgs+8*k)
			}
		}
	}
	for i, s := range slots {
		put(first+i*abi.EntrySize+abi.EntryResult, s)
	}
}

// Results takes the results of the calls out of the pad as it was read back.
func (t *Tape) Results(l Layout, pad []byte) []int64 {
	base := binary.LittleEndian.Uint64(pad[abi.GateEntries:]) - uint64(l.entries)
	out := make([]int64, len(t.Calls))
	for i := range out {
		slot := binary.LittleEndian.Uint64(pad[l.entries+i*abi.EntrySize+abi.EntryResult:]) - base
		out[i] = int64(binary.LittleEndian.Uint64(pad[slot:]))
	}
	return out
}

// Data takes bytes of the tape out of the pad as it was read back.
func (t *Tape) Data(l Layout, pad []byte, d Data) []byte {
	return pad[l.data+d.Off : l.data+d.Off+d.Len]
}

// Format prints the tape, one call a line, for people and golden tests.
func (t *Tape) Format() string {
	var b strings.Builder
	for i, c := range t.Calls {
		fmt.Fprintf(&b, "%d %s(", i, c.Name)
		for k, w := range c.Args[:c.Length] {
			if k > 0 {
				b.WriteString(", ")
			}
			switch w.kind {
			case data:
				fmt.Fprintf(&b, "&data+%d", w.value)
			case result:
				fmt.Fprintf(&b, "=%d", w.value)
			default:
				fmt.Fprintf(&b, "%#x", w.value)
			}
		}
		b.WriteString(")")
		if c.Fails {
			b.WriteString(" may fail")
		}
		b.WriteString("\n")
	}
	return b.String()
}
