package procfs

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const statTail = " R 7627 7626 3895 34816 7626 4194560 3159 6549 14 2 2 3 4 1 20 -5 1 0 115744 19202048 3727 " +
	"18446744073709551615 94331457900544 94331457900885 140736620396720 0 0 0 0 16781312 2 1 0 0 17 1 50 2 6 7 -8 " +
	"94331457912240 94331457912856 94331875090432 140736620398790 140736620398838 140736620398838 140736620400591 256"

func TestParseStat(t *testing.T) {
	want := Stat{
		PID: 7635, State: 'R', PPID: 7627, PGRP: 7626, Session: 3895, TTY: 34816, TPGID: 7626, Flags: 4194560,
		MinorFaults: 3159, ChildMinorFaults: 6549, MajorFaults: 14, ChildMajorFaults: 2,
		UserTicks: 2, SystemTicks: 3, ChildUserTicks: 4, ChildSystemTicks: 1,
		Priority: 20, Nice: -5, NumThreads: 1, StartTicks: 115744,
		VSizeBytes: 19202048, RSSPages: 3727, RSSLimit: 1<<64 - 1,
		StartCode: 94331457900544, EndCode: 94331457900885, StartStack: 140736620396720,
		WaitChannel: 1, ExitSignal: 17, Processor: 1, RTPriority: 50, Policy: 2,
		DelayTicks: 6, GuestTicks: 7, ChildGuest: -8,
		StartData: 94331457912240, EndData: 94331457912856, StartBrk: 94331875090432,
		ArgStart: 140736620398790, ArgEnd: 140736620398838, EnvStart: 140736620398838, EnvEnd: 140736620400591,
		ExitCode: 256,
	}
	for _, comm := range []string{
		"cat", "", "a) (b\n\\c)", ") R 1 1 1 0 -1 ", "((", "))", " x ", "kworker/u8:1-events_unbound", "\xff\xfe",
	} {
		for _, end := range []string{"\n", "", " 1 2 3\n"} {
			got, err := ParseStat([]byte("7635 (" + comm + ")" + statTail + end))
			want.Comm = comm
			if diff := cmp.Diff(want, got); err != nil || diff != "" {
				t.Errorf("comm %q, end %q: %v\n%s", comm, end, err, diff)
			}
		}
	}
}

func TestParseStatKernelThread(t *testing.T) {
	text := "2 (kthreadd) S 0 0 0 0 -1 2129984 0 0 0 0 0 0 0 0 20 0 1 0 24 0 0 18446744073709551615 " +
		"0 0 0 0 0 0 0 2147483647 0 1 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n"
	got, err := ParseStat([]byte(text))
	want := Stat{
		PID: 2, Comm: "kthreadd", State: 'S', TPGID: -1, Flags: 2129984, Priority: 20, NumThreads: 1,
		StartTicks: 24, RSSLimit: 1<<64 - 1, WaitChannel: 1,
	}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
}

func TestParseStatRefuses(t *testing.T) {
	whole := "7635 (cat)" + statTail
	for i := range whole {
		if i > strings.LastIndexByte(whole, ' ') {
			break // a shortened last number is a number
		}
		if _, err := ParseStat([]byte(whole[:i])); err == nil {
			t.Errorf("no error for %q", whole[:i])
		}
	}
	for _, bad := range []string{
		"x (cat)" + statTail,
		"7635 (cat) RR" + statTail[2:],
		strings.Replace(whole, "3159", "-3159", 1),
		strings.Replace(whole, "3159", "99999999999999999999", 1),
		strings.Replace(whole, "7627", "2147483648", 1),
		strings.Replace(whole, "7627", "0x1", 1),
	} {
		if _, err := ParseStat([]byte(bad)); err == nil {
			t.Errorf("no error for %q", bad)
		}
	}
}
