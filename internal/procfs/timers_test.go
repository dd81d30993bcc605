package procfs

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

const timersText = `ID: 2
signal: 34/0000000000000000
notify: signal/tid.7635
ClockID: -6
ID: 1
signal: 14/ffffffffffffffff
notify: none/pid.7635
ClockID: 1
ID: 2147483647
signal: 10/0000000000001234
notify: thread/pid.0
ClockID: 0
`

func TestParseTimers(t *testing.T) {
	want := []Timer{
		{ID: 2, Signal: 34, Notify: NotifySignal | NotifyThreadID, Target: 7635, ClockID: -6},
		{ID: 1, Signal: 14, Value: 1<<64 - 1, Notify: NotifyNone, Target: 7635, ClockID: 1},
		{ID: 1<<31 - 1, Signal: 10, Value: 0x1234, Notify: NotifyThread},
	}
	got, err := ParseTimers([]byte(timersText))
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	if got, err := ParseTimers(nil); err != nil || got != nil {
		t.Errorf("got %v, %v", got, err)
	}
	for _, bad := range []string{
		"signal: 1/0\n", "ID: x\n", "ID: 1\nsignal: 1\n", "ID: 1\nnotify: signal\n", "ID: 1\nnotify: shout/pid.1\n",
		"ID: 1\nnotify: signal/sid.1\n", "ID: 1\nnotify: signal/pid.x\n", "ID: 1\nClockID:\n",
	} {
		if got, err := ParseTimers([]byte(bad)); err == nil {
			t.Errorf("no error for %q: %+v", bad, got)
		}
	}
}
