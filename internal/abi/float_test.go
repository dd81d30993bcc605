package abi

import (
	"encoding/binary"
	"strings"
	"testing"
)

func TestFitFloat(t *testing.T) {
	state := func(length int, kept, used uint64) []byte {
		b := make([]byte, length)
		binary.LittleEndian.PutUint64(b[464:], kept)
		binary.LittleEndian.PutUint64(b[512:], used)
		b[576] = 0xaa // AVX
		return b
	}
	for _, c := range []struct {
		name        string
		saved, here []byte
		err         string
	}{
		{"the same", state(2696, 0x2e7, 0x207), state(2696, 0x2e7, 3), ""},
		{"more here", state(832, 7, 7), state(2696, 0x2e7, 3), ""},
		{"less here", state(2696, 0xe7, 3), state(832, 7, 3), "with AVX-512, which this one lacks"},
		{"a part without a name", state(2696, 1<<40|7, 3), state(2696, 7, 3), "with part 40"},
		{"protection keys elsewhere", state(840, 0x207, 0x203), state(2696, 0x2e7, 3), "keeps protection keys elsewhere"},
		{"shorter here", state(840, 7, 3), state(832, 7, 3), "keeps its state elsewhere"},
		{"cut off", []byte{1}, state(832, 7, 3), ""}, // the kernel refuses it
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := AMD64.FitFloat(c.saved, c.here)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Fatalf("error %v, want one with %q", err, c.err)
				}
				return
			}
			want := c.saved
			if c.name == "more here" {
				want = append(want[:832:832], make([]byte, 2696-832)...)
			}
			if err != nil || string(got) != string(want) {
				t.Errorf("error %v, %d bytes, want %d", err, len(got), len(want))
			}
		})
	}
}
