package procfs

import (
	"math"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func testdata(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestParseStatus(t *testing.T) {
	bash := Status{
		Name: "bash", Umask: 0o22, HasUmask: true, State: 'S', Tgid: 5921, Pid: 5921, PPid: 5920, FDSize: 256,
		NStgid: []int{5921, 7}, NSpid: []int{5921, 7}, NSpgid: []int{5921, 7}, NSsid: []int{3895, 0},
		Memory: StatusMemory{
			Present: true, PeakKB: 5004, SizeKB: 4488, HWMKB: 2140, RSSKB: 2140, RssAnonKB: 432, RssFileKB: 1708,
			DataKB: 432, StkKB: 132, ExeKB: 772, LibKB: 1596, PTEKB: 48, UntagMask: math.MaxUint64,
		},
		THPEnabled: true, Threads: 1, SignalsLimit: 96365, SigBlk: 0x10000, SigCgt: 0x14002,
		CapPrm: 0x1fffeffffff, CapEff: 0x1fffeffffff, CapBnd: 0x1fffeffffff,
		CpusAllowed: "3", CpusAllowedList: "0-1", MemsAllowed: "00000000,00000001", MemsAllowedList: "0",
		VoluntarySwitches: 5,
	}
	old := Status{
		Name: "a) (b\n\\c)", Umask: 0o77, HasUmask: true, State: 't', Tgid: 812, Ngid: 3, Pid: 814, PPid: 1,
		TracerPid: 99, Uid: [4]uint32{1000, 1001, 1002, 1003}, Gid: [4]uint32{65534, math.MaxUint32, 5, 6},
		FDSize: 64, Groups: []uint32{4, 24, 4294967294},
		NStgid: []int{812}, NSpid: []int{814}, NSpgid: []int{812}, NSsid: []int{812},
		Memory: StatusMemory{
			Present: true, PeakKB: 9, SizeKB: 10, LckKB: 11, PinKB: 12, HWMKB: 13, RSSKB: 14, RssAnonKB: 15,
			RssFileKB: 16, RssShmemKB: 17, DataKB: 18, StkKB: 19, ExeKB: 20, LibKB: 21, PTEKB: 22, SwapKB: 23,
			HugetlbKB: 2048,
		},
		CoreDumping: true, Threads: 3, SignalsQueued: 2, SignalsLimit: 15000,
		SigPnd: 1 << 63, ShdPnd: 2, SigBlk: 3, SigIgn: 4, SigCgt: 5,
		CapInh: 1, CapPrm: 2, CapEff: 3, CapBnd: 4, CapAmb: 5,
		NoNewPrivs: true, Seccomp: 2, SeccompFilters: 4,
		CpusAllowed: "ff,ffffffff", CpusAllowedList: "0-39", MemsAllowed: "1", MemsAllowedList: "0",
		VoluntarySwitches: 150, NonvoluntarySwitches: 545,
	}
	zombie := Status{
		Name: "sleep", State: 'Z', Tgid: 44, Pid: 44, PPid: 1, NStgid: []int{44}, NSpid: []int{44},
		NSpgid: []int{0}, NSsid: []int{0}, Threads: 1, SignalsLimit: 96365,
		CapPrm: 0x1fffeffffff, CapEff: 0x1fffeffffff, CapBnd: 0x1fffeffffff,
		CpusAllowed: "3", CpusAllowedList: "0-1", MemsAllowed: "1", MemsAllowedList: "0", VoluntarySwitches: 1,
	}
	for _, c := range []struct {
		file string
		want Status
	}{{"status-6.18", bash}, {"status-6.1-thread", old}, {"status-6.1-zombie", zombie}} {
		got, err := ParseStatus(testdata(t, c.file))
		if diff := cmp.Diff(c.want, got, cmpopts.IgnoreUnexported(Status{})); err != nil || diff != "" {
			t.Errorf("%s: %v\n%s", c.file, err, diff)
		}
	}
}

func TestStatusMap(t *testing.T) {
	text := testdata(t, "status-6.18")
	s, err := ParseStatus(text)
	if err != nil {
		t.Fatal(err)
	}
	clear(text)
	m := s.Map()
	for key, want := range map[string]string{
		"Name": "bash", "State": "S (sleeping)", "Groups": "", "VmPeak": "5004 kB", "SigQ": "0/96365",
		"SpeculationIndirectBranch": "always enabled", "nonvoluntary_ctxt_switches": "0",
	} {
		if got, ok := m[key]; got != want || !ok {
			t.Errorf("%s: got %q, want %q", key, got, want)
		}
	}
}

func TestParseStatusRefuses(t *testing.T) {
	good := "Pid:\t1\nTgid:\t1\n"
	for _, bad := range []string{
		"", "Pid:\t1\n", "Tgid:\t1\n", good + "what\n", good + "Uid:\t0\t0\t0\n", good + "SigQ:\t1\n",
		good + "SigPnd:\t10000000000000000\n", good + "State:\t\n", good + "Groups:\t-1\n", good + "NSpid:\t1 x\n",
		good + "VmRSS:\tkB\n", good + "Umask:\t9\n",
	} {
		if _, err := ParseStatus([]byte(bad)); err == nil {
			t.Errorf("no error for %q", bad)
		}
	}
}

func TestParseMask(t *testing.T) {
	for _, c := range []struct {
		mask string
		want []uint64
	}{
		{"3", []uint64{3}},
		{"ff,ffffffff", []uint64{0xffffffffff}},
		{"1,00000000,00000002", []uint64{2, 1}},
		{strings.Repeat("00000000,", 127) + "00000001", append([]uint64{1}, make([]uint64, 63)...)},
		{"", nil}, {"1,", nil}, {"1ffffffff", nil}, {"g", nil},
	} {
		got, err := ParseMask(c.mask)
		if diff := cmp.Diff(c.want, got); diff != "" || (err != nil) != (c.want == nil) {
			t.Errorf("%q: %v\n%s", c.mask, err, diff)
		}
	}
}

func BenchmarkParseStatus(b *testing.B) {
	text := testdata(b, "status-6.18")
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseStatus(text); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReaderStatus(b *testing.B) {
	r, pid := NewReader("/proc"), os.Getpid()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Status(pid); err != nil {
			b.Fatal(err)
		}
	}
}
