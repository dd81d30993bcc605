package procfs

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const mapsText = `55cb410a0000-55cb410a1000 r-xp 0002f000 fe:00 18500                      /usr/bin/python3.11
55cb59e7e000-55cb5a094000 rw-p 00000000 00:00 0                          [heap]
7f3386be6000-7f3386ce6000 rw-p 00000000 00:00 0 
7f3386ce6000-7f3386ce7000 ---p 00000000 00:00 0                          [anon:a b]
7f3386ee4000-7f3386ee6000 rw-s 00000000 00:01 26                         /dev/zero (deleted)
7f3387b78000-7f3387b79000 rw-s 00000000 fe:00 9978669                    /tmp/back\012slash
7f3387b79000-7f3387b7a000 rw-s 00000000 fe:00 9978668                    /tmp/ma\012p (x) (deleted) (deleted)
7f3387b7a000-7f3387b7b000 rw-s 10000001000 103:0a 18446744073709551615       /tmp/new
7f3387b7b000-7f3387b7c000 rw-s 10000000 00:0e 1038                       anon_inode:[io_uring]
7f3387b7c000-7f3387b7d000 r--s 00000000 00:05 32769                      /SYSV00001234 (deleted)
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]
`

func TestParseMaps(t *testing.T) {
	want := []Mapping{
		{Start: 0x55cb410a0000, End: 0x55cb410a1000, Prot: ProtRead | ProtExec, Offset: 0x2f000, Major: 0xfe, Inode: 18500, Path: "/usr/bin/python3.11"},
		{Start: 0x55cb59e7e000, End: 0x55cb5a094000, Prot: ProtRead | ProtWrite, Path: "[heap]"},
		{Start: 0x7f3386be6000, End: 0x7f3386ce6000, Prot: ProtRead | ProtWrite},
		{Start: 0x7f3386ce6000, End: 0x7f3386ce7000, Path: "[anon:a b]"},
		{Start: 0x7f3386ee4000, End: 0x7f3386ee6000, Prot: ProtRead | ProtWrite, Shared: true, Minor: 1, Inode: 26, Path: "/dev/zero", Deleted: true},
		{Start: 0x7f3387b78000, End: 0x7f3387b79000, Prot: ProtRead | ProtWrite, Shared: true, Major: 0xfe, Inode: 9978669, Path: "/tmp/back\nslash", Escaped: true},
		{Start: 0x7f3387b79000, End: 0x7f3387b7a000, Prot: ProtRead | ProtWrite, Shared: true, Major: 0xfe, Inode: 9978668, Path: "/tmp/ma\np (x) (deleted)", Deleted: true, Escaped: true},
		{Start: 0x7f3387b7a000, End: 0x7f3387b7b000, Prot: ProtRead | ProtWrite, Shared: true, Major: 0x103, Minor: 10, Inode: 1<<64 - 1, Offset: 0x10000001000, Path: "/tmp/new"},
		{Start: 0x7f3387b7b000, End: 0x7f3387b7c000, Prot: ProtRead | ProtWrite, Shared: true, Minor: 14, Inode: 1038, Offset: 0x10000000, Path: "anon_inode:[io_uring]"},
		{Start: 0x7f3387b7c000, End: 0x7f3387b7d000, Prot: ProtRead, Shared: true, Minor: 5, Inode: 32769, Path: "/SYSV00001234", Deleted: true},
		{Start: 0xffffffffff600000, End: 0xffffffffff601000, Prot: ProtExec, Path: "[vsyscall]"},
	}
	text := []byte(mapsText)
	got, err := ParseMaps(text)
	clear(text)
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	if got[0].Len() != 0x1000 || got[0].Special() || !got[1].Special() || got[1].Prot.String() != "rw-" {
		t.Errorf("wrong about %+v", got[:2])
	}
}

func TestParseMapsEmpty(t *testing.T) {
	if got, err := ParseMaps(nil); err != nil || len(got) != 0 {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestAppendMapsKeepsAfterError(t *testing.T) {
	dst := []Mapping{{Start: 1, End: 2}}
	if got, err := AppendMaps(dst, []byte(mapsText+"x\n")); err == nil || len(got) != 1 {
		t.Errorf("got %d mappings, %v", len(got), err)
	}
	if got, err := AppendMaps(dst, []byte(mapsText)); err != nil || len(got) != 12 || got[0] != dst[0] {
		t.Errorf("got %d mappings, %v", len(got), err)
	}
}

func TestParseMapsRefuses(t *testing.T) {
	good := "1000-2000 rw-p 00000000 fe:00 7 /x"
	if _, err := ParseMaps([]byte(good)); err != nil {
		t.Fatal(err)
	}
	for _, change := range [][2]string{
		{"1000-2000", "1000"}, {"1000-2000", "3000-2000"}, {"1000-2000", "-2000"}, {"1000", "11111111111111111"},
		{"rw-p", "rw-"}, {"rw-p", "rw-x"}, {"rw-p", "qw-p"}, {"fe:00", "fe"}, {" 7 /x", ""}, {" 7 ", " f "}, {"1000", "G"},
	} {
		bad := strings.Replace(good, change[0], change[1], 1)
		if got, err := ParseMaps([]byte(bad)); err == nil {
			t.Errorf("no error for %q: %+v", bad, got)
		}
	}
	for i := range strings.Index(good, " 7") + 2 {
		if got, err := ParseMaps([]byte(good[:i])); err == nil && i > 0 {
			t.Errorf("no error for %q: %+v", good[:i], got)
		}
	}
}

// manyMaps has n lines as a program with many libraries and arenas has them.
func manyMaps(n int) []byte {
	var b bytes.Buffer
	for i := range n {
		start := 0x7f0000000000 + i*0x10000
		switch i % 8 {
		case 5, 6:
			fmt.Fprintf(&b, "%x-%x rw-p 00000000 00:00 0 \n", start, start+0x10000)
		case 7:
			fmt.Fprintf(&b, "%x-%x rw-p 00000000 00:00 0                          [anon:arena]\n", start, start+0x10000)
		default:
			fmt.Fprintf(&b, "%x-%x r-xp %08x fe:00 %-26d /usr/lib/x86_64-linux-gnu/lib%d.so.%d\n", start, start+0x10000, i*0x1000, 10000+i/8, i/8, i/8)
		}
	}
	return b.Bytes()
}

func BenchmarkParseMaps2000(b *testing.B) {
	text := manyMaps(2000)
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseMaps(text); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendMaps2000(b *testing.B) {
	text := manyMaps(2000)
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	var dst []Mapping
	for b.Loop() {
		var err error
		if dst, err = AppendMaps(dst[:0], text); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReaderMaps(b *testing.B) {
	r, pid := NewReader("/proc"), os.Getpid()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Maps(pid); err != nil {
			b.Fatal(err)
		}
	}
}
