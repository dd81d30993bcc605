package abi

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
)

// FitFloat returns the extended state of a thread, saved on another processor
// perhaps, as this one takes it; here is the state of any thread of this one. A
// program that may use what this processor lacks is refused by name: it has
// looked for it when it started.
func (a *Arch) FitFloat(saved, here []byte) ([]byte, error) {
	if a.FloatKept == 0 || len(saved) < a.FloatUsed+8 || len(here) < a.FloatUsed+8 {
		return saved, nil
	}
	had, has := binary.LittleEndian.Uint64(saved[a.FloatKept:]), binary.LittleEndian.Uint64(here[a.FloatKept:])
	if lacks := a.floatNames(had &^ has); lacks != "" {
		return nil, fmt.Errorf("it was saved on a machine with %s, which this one lacks", lacks)
	}
	if len(saved) == len(here) {
		return saved, nil
	}
	// This processor keeps more, and what it keeps may lie elsewhere.
	used := binary.LittleEndian.Uint64(saved[a.FloatUsed:])
	if moved := a.floatNames(used &^ a.FloatFixed); moved != "" || len(saved) > len(here) {
		return nil, fmt.Errorf("it was saved on a machine that keeps %s elsewhere", cmp.Or(moved, "its state"))
	}
	return append(slices.Clone(saved), make([]byte, len(here)-len(saved))...), nil
}

// floatNames names the parts of a mask.
func (a *Arch) floatNames(mask uint64) string {
	var names []string
	for bit := range 64 {
		if mask>>bit&1 == 0 {
			continue
		}
		name := fmt.Sprintf("part %d", bit)
		if bit < len(a.FloatParts) && a.FloatParts[bit] != "" {
			name = a.FloatParts[bit]
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return strings.Join(names, ", ")
}
