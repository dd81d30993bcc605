package policy

import (
	"syscall"
	"testing"
)

// TestEndOf holds it against the standard library's reading.
func TestEndOf(t *testing.T) {
	for _, wait := range []uint32{0, 1 << 8, 255 << 8, 9, 15, 11 | 0x80} {
		ws, got := syscall.WaitStatus(wait), EndOf(true, wait)
		want := End{Known: true, Code: max(ws.ExitStatus(), 0), Signal: max(int(ws.Signal()), 0)}
		if got != want {
			t.Errorf("%#x: %+v, want %+v", wait, got, want)
		}
	}
	if got := EndOf(false, 9); got != (End{}) {
		t.Errorf("what nobody saw is %+v", got)
	}
}
