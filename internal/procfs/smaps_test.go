package procfs

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

const smapsText = `7f3386bcc000-7f3386bd0000 rw-p 00001000 fe:00 21545                      /tmp/a b (deleted)
Size:                 16 kB
KernelPageSize:        4 kB
MMUPageSize:           4 kB
Rss:                   8 kB
Pss:                   7 kB
Pss_Dirty:             6 kB
Shared_Clean:          1 kB
Shared_Dirty:          2 kB
Private_Clean:         3 kB
Private_Dirty:         5 kB
Referenced:            9 kB
Anonymous:            10 kB
KSM:                  11 kB
LazyFree:             12 kB
AnonHugePages:      2048 kB
ShmemPmdMapped:       14 kB
FilePmdMapped:        15 kB
Shared_Hugetlb:       16 kB
Private_Hugetlb:      17 kB
Swap:                 18 kB
SwapPss:              19 kB
Locked:               20 kB
THPeligible:           1
ProtectionKey:         3
VmFlags: rd wr mr mw me ac sd 
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]
Size:                  4 kB
FutureSize:            4 kB
VmFlags: ex 
`

func TestParseSmaps(t *testing.T) {
	want := []MappingUse{{
		Mapping: Mapping{Start: 0x7f3386bcc000, End: 0x7f3386bd0000, Prot: ProtRead | ProtWrite, Offset: 0x1000,
			Major: 0xfe, Inode: 21545, Path: "/tmp/a b", Deleted: true},
		SizeKB: 16, KernelPageKB: 4, MMUPageKB: 4, RssKB: 8, PssKB: 7, PssDirtyKB: 6, SharedCleanKB: 1,
		SharedDirtyKB: 2, PrivateCleanKB: 3, PrivateDirtyKB: 5, ReferencedKB: 9, AnonymousKB: 10, KSMKB: 11,
		LazyFreeKB: 12, AnonHugePagesKB: 2048, ShmemPmdKB: 14, FilePmdKB: 15, SharedHugetlbKB: 16,
		PrivateHugetlbKB: 17, SwapKB: 18, SwapPssKB: 19, LockedKB: 20, THPEligible: true, ProtectionKey: 3,
		Flags: "rd wr mr mw me ac sd",
	}, {
		Mapping: Mapping{Start: 0xffffffffff600000, End: 0xffffffffff601000, Prot: ProtExec, Path: "[vsyscall]"},
		SizeKB:  4, ProtectionKey: -1, Flags: "ex",
	}}
	got, err := ParseSmaps([]byte(smapsText))
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	for _, bad := range []string{
		"Size: 4 kB\n", smapsText + "Size\n", smapsText + "Rss: x kB\n", smapsText + "\n", smapsText + "rss: 4 kB\n",
	} {
		if _, err := ParseSmaps([]byte(bad)); err == nil {
			t.Errorf("no error for %q", bad)
		}
	}
}

func TestVMFlags(t *testing.T) {
	f := VMFlags("rd wr dd")
	for _, c := range []struct {
		flag string
		want bool
	}{{"rd", true}, {"wr", true}, {"dd", true}, {"d ", false}, {"d", false}, {"", false}, {"rd wr", false}, {"ex", false}} {
		if got := f.Has(c.flag); got != c.want {
			t.Errorf("%q: got %v", c.flag, got)
		}
	}
	if VMFlags("").Has("rd") {
		t.Error("the empty set has rd")
	}
}
