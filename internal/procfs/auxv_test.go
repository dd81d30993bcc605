package procfs

import (
	"encoding/binary"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func auxvBytes(values ...uint64) []byte {
	var b []byte
	for _, v := range values {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	return b
}

func TestParseAuxv(t *testing.T) {
	const base, null = 7, 0
	want := Auxv{{33, 0x7ffc}, {base, 1<<64 - 1}}
	// What follows AT_NULL does not count.
	for _, rest := range [][]uint64{nil, {null, 0}, {5, 5}} {
		text := append(auxvBytes(33, 0x7ffc, base, 1<<64-1, null, 0), auxvBytes(rest...)...)
		got, err := ParseAuxv(text)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%v\n%s", err, diff)
		}
		if v, ok := got.Value(base); !ok || v != 1<<64-1 {
			t.Errorf("got %#x, %v", v, ok)
		}
		if _, ok := got.Value(6); ok {
			t.Error("found what is not there")
		}
	}
	if got, err := ParseAuxv(nil); err != nil || got != nil {
		t.Errorf("got %v, %v", got, err)
	}
	for _, bad := range [][]byte{auxvBytes(33, 1), auxvBytes(33), auxvBytes(33, 1, 0), {0}} {
		if got, err := ParseAuxv(bad); err == nil {
			t.Errorf("no error for %x: %v", bad, got)
		}
	}
}
