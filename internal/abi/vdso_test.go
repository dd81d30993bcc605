package abi

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
)

func FuzzRedirect(f *testing.F) {
	f.Add([]byte("\x7fELF"), []byte("\x7fELF"))
	f.Add(vdsoOf(map[string]uint64{"a": 0x800}), vdsoOf(map[string]uint64{"a": 1 << 63}))
	f.Fuzz(func(t *testing.T, old, now []byte) {
		_, _ = AMD64.Redirect(old, now, 0x1000)
	})
}

// vdsoOf makes a page that exports functions at these offsets.
func vdsoOf(functions map[string]uint64) []byte {
	const dynamic, symtab = 64 + 56, 0x100
	symbols, names := make([]byte, 24), []byte{0}
	for name, off := range functions {
		s := make([]byte, 24)
		binary.LittleEndian.PutUint32(s, uint32(len(names)))
		s[4], s[6] = 2, 1 // a function, defined
		binary.LittleEndian.PutUint64(s[8:], off)
		symbols, names = append(symbols, s...), append(append(names, name...), 0)
	}
	b := make([]byte, PageSize)
	copy(b, "\x7fELF\x02\x01\x01")
	copy(b[16:], []byte{3, 0, 62, 0, 1})
	for at, v := range map[int]uint64{32: 64, 64: 2, 64 + 16: dynamic, 64 + 40: 64, // one segment: the dynamic one
		dynamic: 6, dynamic + 8: symtab, dynamic + 16: 5, dynamic + 24: symtab + uint64(len(symbols)), dynamic + 32: 10, dynamic + 40: uint64(len(names))} {
		binary.LittleEndian.PutUint64(b[at:], v)
	}
	copy(b[52:], []byte{64, 0, 56, 0, 1})
	copy(b[symtab:], append(symbols, names...))
	return b
}

// TestRedirect looks at what stands at the entry points of an old vdso.
func TestRedirect(t *testing.T) {
	const place = 0x7000_0000_0000
	now := vdsoOf(map[string]uint64{"__vdso_time": 0x900, "time": 0x900})
	for _, c := range []struct {
		name string
		old  map[string]uint64
		want map[uint64][]byte
		err  string
	}{
		{name: "there", old: map[string]uint64{"__vdso_time": 0x800, "time": 0x800}, want: map[uint64][]byte{0x800: jumpAMD64(place + 0x900)}},
		{name: "lacking", old: map[string]uint64{"__vdso_time": 0x800, "__vdso_getcpu": 0x820, "getcpu": 0x820},
			want: map[uint64][]byte{0x800: jumpAMD64(place + 0x900), 0x820: {0xb8, 0x35, 1, 0, 0, 0x0f, 0x05, 0xc3}}},
		{name: "random", old: map[string]uint64{"__vdso_getrandom": 0x800}, want: map[uint64][]byte{0x800: {
			0x49, 0x83, 0xf8, 0xff, 0x74, 0x08, // cmp r8, -1; je behind the ret
			0xb8, 0x3e, 1, 0, 0, 0x0f, 0x05, 0xc3,
			0x48, 0xc7, 0xc0, 0xda, 0xff, 0xff, 0xff, 0xc3}}},
		{name: "unknown", old: map[string]uint64{"__vdso_futurism": 0x800}, err: "has no __vdso_futurism"},
		{name: "outside", old: map[string]uint64{"__vdso_time": PageSize - 4}, err: "outside"},
		{name: "far outside", old: map[string]uint64{"__vdso_time": ^uint64(3)}, err: "outside"},
		{name: "too short", old: map[string]uint64{"__vdso_getrandom": 0x800, "__vdso_time": 0x810}, err: "too short"},
	} {
		t.Run(c.name, func(t *testing.T) {
			old := vdsoOf(c.old)
			got, err := AMD64.Redirect(old, now, place)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Fatalf("error %v, want one with %q", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			for off, code := range c.want {
				copy(old[off:], code)
			}
			if !bytes.Equal(got, old) {
				t.Errorf("got %x\nwant %x", got[0x800:0x840], old[0x800:0x840])
			}
		})
	}
}
