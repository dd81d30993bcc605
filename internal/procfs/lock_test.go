package procfs

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseLocks(t *testing.T) {
	text := `1: FLOCK  ADVISORY  WRITE 7635 fe:00:9978665 0 EOF
1: -> FLOCK  ADVISORY  READ 7636 fe:00:9978665 0 EOF
1:       -> FLOCK  ADVISORY  READ 7637 fe:00:9978665 0 EOF
2: POSIX  ADVISORY  WRITE 7635 103:0a:9978665 5 14
3: OFDLCK ADVISORY  READ -1 fe:00:9978665 9223372036854775806 EOF
4: LEASE  ACTIVE    READ 812 00:15:7 0 EOF
5: DELEG  BREAKING  UNLCK 0 00:15:7 0 EOF
6: POSIX  *NOINODE* WRITE 812 <none>:0 0 EOF
`
	f := Lock{ID: 1, Kind: "FLOCK", Mode: "ADVISORY", Type: "WRITE", PID: 7635, Major: 0xfe, Inode: 9978665, End: LockEOF}
	want := []Lock{f, f, f,
		{ID: 2, Kind: "POSIX", Mode: "ADVISORY", Type: "WRITE", PID: 7635, Major: 0x103, Minor: 10, Inode: 9978665, Start: 5, End: 14},
		{ID: 3, Kind: "OFDLCK", Mode: "ADVISORY", Type: "READ", PID: -1, Major: 0xfe, Inode: 9978665, Start: 1<<63 - 2, End: LockEOF},
		{ID: 4, Kind: "LEASE", Mode: "ACTIVE", Type: "READ", PID: 812, Minor: 0x15, Inode: 7, End: LockEOF},
		{ID: 5, Kind: "DELEG", Mode: "BREAKING", Type: "UNLCK", Minor: 0x15, Inode: 7, End: LockEOF},
		{ID: 6, Kind: "POSIX", Mode: "*NOINODE*", Type: "WRITE", PID: 812, End: LockEOF},
	}
	for i, pid := range []int{7635, 7636, 7637} {
		want[i].PID = pid
		if i > 0 {
			want[i].Waiting, want[i].Type = true, "READ"
		}
	}
	got, err := ParseLocks([]byte(text))
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	for _, bad := range []string{
		"\n", "x: FLOCK  ADVISORY  WRITE 1 fe:00:9 0 EOF", "1: FLOCK  ADVISORY  WRITE 1 fe:00 0 EOF",
		"1: FLOCK  ADVISORY  WRITE 1 fe:00:9 0", "1: FLOCK  ADVISORY  WRITE 1 fe:00:9 0 EOX",
		"1: FLOCK  ADVISORY  WRITE p fe:00:9 0 EOF", "1: FLOCK  ADVISORY  WRITE 1 fe:00:9 x EOF",
	} {
		if got, err := ParseLocks([]byte(bad)); err == nil {
			t.Errorf("no error for %q: %+v", bad, got)
		}
	}
}
