package setting

import (
	"encoding/binary"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/wakepoint/wakepoint/internal/tape"
)

// TestAgain: what a new process has is not repeated, nor what a kernel does not
// know; all else is, as prctl(2) takes it.
func TestAgain(t *testing.T) {
	inval := -int64(unix.EINVAL)
	for _, test := range []struct {
		name    string
		list    List
		results []int64
		out     []uint32 // what the calls wrote
		want    [][4]int64
	}{
		{"new", Process, []int64{0, 0, 0, 0}, []uint32{0, 0, 0, 0}, nil},
		{"old kernel", Process, []int64{0, inval, inval, inval}, []uint32{0, 0, 0, 0}, nil},
		{"all", Process, []int64{0, 1, 1, 3}, []uint32{1, 0, 0, 0}, [][4]int64{{36, 1}, {41, 1, 0}, {67, 1}, {65, 3}}},
		{"huge pages where asked for", Process, []int64{0, 3, 0, 0}, []uint32{0, 0, 0, 0}, [][4]int64{{41, 1, 2}}},
		{"new thread", Thread, []int64{0, 2, 3, 3, 5}, []uint32{1, 0, 0, 0, 0}, nil},
		{"other architecture", Thread, []int64{inval, 2, inval, inval, inval}, []uint32{0, 0, 0, 0, 0}, nil},
		{"all of a thread", Thread, []int64{0, 1, 5, 9, 3}, []uint32{2, 0, 0, 0, 0}, [][4]int64{{26, 2}, {33, 1, 1}, {53, 0, 4}, {53, 1, 8}, {53, 2, 2}}},
		{"not to be set", Thread, []int64{0, 2, 2, 0, 8}, []uint32{1, 0, 0, 0, 0}, nil},
	} {
		var tp tape.Tape
		read := test.list.Ask(&tp, 157)
		got := read(test.results, func(tape.Data) []byte {
			b := make([]byte, 8*len(test.list))
			for i, v := range test.out {
				binary.LittleEndian.PutUint32(b[8*i:], v)
			}
			return b
		})
		if d := cmp.Diff(test.want, got); d != "" {
			t.Errorf("%s: want, got:\n%s", test.name, d)
		}
		if len(tp.Calls) != len(test.list) {
			t.Errorf("%s: %d questions about %d settings", test.name, len(tp.Calls), len(test.list))
		}
	}
}
