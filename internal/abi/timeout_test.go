package abi

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// writes keeps what is written where.
type writes map[int64]int

func (w writes) WriteAt(p []byte, off int64) (int, error) {
	w[off] = len(p)
	return len(p), nil
}

// TestTimedOut: what a call returns, and what it fills in, when its time is up.
func TestTimedOut(t *testing.T) {
	a := AMD64
	nr := &a.NR
	for _, test := range []struct {
		name   string
		call   int
		args   [6]uint64
		result int64
		wrote  writes
	}{
		{"sigtimedwait", nr.RtSigtimedwait, [6]uint64{0x1000}, -11, writes{}},
		{"recv", nr.Recvfrom, [6]uint64{3, 0x1000, 64}, -11, writes{}},
		{"connect", nr.Connect, [6]uint64{3}, -115, writes{}},
		{"epoll_pwait2", nr.EpollPwait2, [6]uint64{3, 0x1000, 1}, 0, writes{}},
		{"ppoll", nr.Ppoll, [6]uint64{0x1000, 2}, 0, writes{0x1006: 2, 0x100e: 2}},
		{"pselect", nr.Pselect6, [6]uint64{65, 0x1000, 0, 0x2000}, 0, writes{0x1000: 16, 0x2000: 16}},
	} {
		got := writes{}
		if err := a.NothingReady(got, test.call, &test.args); err != nil {
			t.Error(err)
		}
		if r := int64(a.TimedOut(test.call)); r != test.result {
			t.Errorf("%s returns %d, not %d", test.name, r, test.result)
		}
		if d := cmp.Diff(test.wrote, got); d != "" {
			t.Errorf("%s:\n%s", test.name, d)
		}
	}
}
