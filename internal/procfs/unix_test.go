package procfs

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const unixText = `Num       RefCount Protocol Flags    Type St Inode Path
00000000f9ea434c: 00000002 00000000 00000000 0001 01 10931
00000000ef50826a: 00000002 00000000 00010000 0001 01 10935 /tmp/so ck
000000002dd489a9: 00000002 00000000 00000000 0005 01 10936 /tmp/so
ck

00000000111bc339: 00000003 00000000 00000000 0001 03  1176
00000000effbbe73: 00000002 00000000 00000000 0002 01 10934 @abs@x
0000000000000000: 00000002 00000000 00000000 0002 01 10937 @
0000000000000000: 00000002 00000000 00000000 0002 01 10938  a
b: 1 2

`

func TestParseUnix(t *testing.T) {
	want := []UnixSocket{
		{RefCount: 2, Type: 1, State: 1, Inode: 10931},
		{RefCount: 2, Flags: 1 << 16, Type: 1, State: 1, Inode: 10935, Bound: true, Path: "/tmp/so ck"},
		{RefCount: 2, Type: 5, State: 1, Inode: 10936, Bound: true, Path: "/tmp/so\nck\n"},
		{RefCount: 3, Type: 1, State: 3, Inode: 1176},
		{RefCount: 2, Type: 2, State: 1, Inode: 10934, Bound: true, Abstract: true, Path: "abs@x"},
		{RefCount: 2, Type: 2, State: 1, Inode: 10937, Bound: true, Abstract: true},
		{RefCount: 2, Type: 2, State: 1, Inode: 10938, Bound: true, Path: " a\nb: 1 2\n"},
	}
	got, err := ParseUnix([]byte(unixText))
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	if !got[1].Listening() || got[0].Listening() {
		t.Error("wrong about listening")
	}
	title, _, _ := strings.Cut(unixText, "\n")
	if got, err := ParseUnix([]byte(title + "\n")); err != nil || len(got) != 0 {
		t.Errorf("got %v, %v", got, err)
	}
	for _, bad := range []string{"", "x\n", title + "\nx\n", title + "\n00000000f9ea434c: 00000002\n"} {
		if got, err := ParseUnix([]byte(bad)); err == nil {
			t.Errorf("no error for %q: %+v", bad, got)
		}
	}
}
