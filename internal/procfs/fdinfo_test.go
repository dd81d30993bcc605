package procfs

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

const fdinfoCommon = "pos:\t0\nflags:\t02\nmnt_id:\t17\nino:\t1038\n"

// A fdinfoCase is what follows the common lines, and what it must set.
type fdinfoCase struct {
	name, text string
	set        func(f *Fdinfo)
}

func checkFdinfo(t *testing.T, cases []fdinfoCase) {
	t.Helper()
	for _, c := range cases {
		want := Fdinfo{Flags: 2, MntID: 17, Inode: 1038}
		c.set(&want)
		got, err := ParseFdinfo([]byte(fdinfoCommon + c.text))
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%s: %v\n%s", c.name, err, diff)
		}
	}
}

func TestParseFdinfoEvents(t *testing.T) {
	checkFdinfo(t, []fdinfoCase{
		{"plain", "", func(*Fdinfo) {}},
		{"large", "pos:\t9223372036854775807\nflags:\t012000000\nmnt_id:\t-1\n", func(f *Fdinfo) {
			f.Pos, f.Flags, f.MntID = 1<<63-1, 0o12000000, -1
		}},
		{"eventfd", "eventfd-count:               1f\neventfd-id: 4\neventfd-semaphore: 1\n", func(f *Fdinfo) {
			f.EventFD = &EventFD{Count: 0x1f, ID: 4, Semaphore: true, Told: true}
		}},
		{"eventfd 6.1", "eventfd-count: ffffffffffffffff\neventfd-id: 12\n", func(f *Fdinfo) {
			f.EventFD = &EventFD{Count: 1<<64 - 1, ID: 12}
		}},
		{"epoll", "tfd:        4 events:     2019 data: ffffffffffffffff  pos:0 ino:40e sdev:10\n" +
			"tfd:        6 events: 80000019 data:                5  pos:-1 ino:2a8f sdev:fe00000\n", func(f *Fdinfo) {
			f.Epoll = []EpollTarget{
				{FD: 4, Events: 0x2019, Data: 1<<64 - 1, Inode: 0x40e, Device: 0x10},
				{FD: 6, Events: 0x80000019, Data: 5, Pos: -1, Inode: 0x2a8f, Device: 0xfe00000},
			}
		}},
		{"signalfd", "sigmask:\t8000000000004002\n", func(f *Fdinfo) {
			mask := uint64(0x8000000000004002)
			f.SigMask = &mask
		}},
		{"inotify", "inotify wd:2a ino:1 sdev:1b mask:2 ignored_mask:0 fhandle-bytes:c fhandle-type:1 f_handle:b7aaa8160100000000000000\n" +
			"inotify wd:1 ino:3c4a3 sdev:fe00000 mask:3cf ignored_mask:0 \n", func(f *Fdinfo) {
			f.Inotify = []InotifyWatch{
				{WD: 42, Inode: 1, Device: 0x1b, Mask: 2, HandleType: 1, Handle: []byte("\xb7\xaa\xa8\x16\x01\x00\x00\x00\x00\x00\x00\x00")},
				{WD: 1, Inode: 0x3c4a3, Device: 0xfe00000, Mask: 0x3cf},
			}
		}},
		{"timerfd", "clockid: 1\nticks: 3\nsettime flags: 01\nit_value: (99, 999971603)\nit_interval: (1, 500000000)\n", func(f *Fdinfo) {
			f.Timer = &TimerFD{ClockID: 1, Ticks: 3, SettimeFlags: 1, ValueNanos: 99_999971603, IntervalNanos: 1_500000000}
		}},
	})
}

func TestParseFdinfoKinds(t *testing.T) {
	checkFdinfo(t, []fdinfoCase{
		{"pidfd", "Pid:\t7635\nNSpid:\t7635\t12\n", func(f *Fdinfo) { f.PIDFD = &PIDFD{PID: 7635, NSPID: []int{7635, 12}} }},
		{"pidfd of a dead one", "Pid:\t-1\nNSpid:\t-1\n", func(f *Fdinfo) { f.PIDFD = &PIDFD{PID: -1, NSPID: []int{-1}} }},
		{"tty", "tty-index:\t0\n", func(f *Fdinfo) { f.TTYIndex = new(int) }},
		{"userfaultfd", "pending:\t1\ntotal:\t2\nAPI:\taa:1:80000000000001ff\n", func(f *Fdinfo) {
			f.Userfault = &UserfaultFD{Pending: 1, Total: 2, API: 0xaa, Flags: 1, Features: 0x80000000000001ff}
		}},
		{"socket", "scm_fds: 2\n", func(f *Fdinfo) { f.SCMFiles, f.HasSCMFiles = 2, true }},
		{"fanotify", "fanotify flags:0 event-flags:8000\nfanotify ino:98431d sdev:fe00000 mflags:0 mask:2 ignored_mask:0 fhandle-bytes:8 fhandle-type:1 f_handle:1d4398005cf352e7\n", func(f *Fdinfo) {
			f.Fanotify = true
			f.Other = map[string][]string{
				"fanotify flags": {"0 event-flags:8000"},
				"fanotify ino":   {"98431d sdev:fe00000 mflags:0 mask:2 ignored_mask:0 fhandle-bytes:8 fhandle-type:1 f_handle:1d4398005cf352e7"},
			}
		}},
		{"io_uring", "SqMask:\t0x3\nSqTail:\t0\nUserFiles:\t2\n    0: /tmp/a\n    1: inotify\nPollList:\nNAPI:\tdisabled\n", func(f *Fdinfo) {
			f.IOUring = true
			f.Other = map[string][]string{
				"SqMask": {"0x3"}, "SqTail": {"0"}, "UserFiles": {"2"}, "    0": {"/tmp/a"}, "    1": {"inotify"}, "PollList": {""}, "NAPI": {"disabled"},
			}
		}},
		{"dma-buf", "size:\t4096\ncount:\t2\nexp_name:\tsystem\n", func(f *Fdinfo) {
			f.Other = map[string][]string{"size": {"4096"}, "count": {"2"}, "exp_name": {"system"}}
		}},
		{"lock", "lock:\t1: FLOCK  ADVISORY  WRITE 7635 fe:00:9978665 0 EOF\nlock:\t2: POSIX  ADVISORY  WRITE 7635 fe:00:9978665 5 14\n", func(f *Fdinfo) {
			f.Locks = []Lock{
				{ID: 1, Kind: "FLOCK", Mode: "ADVISORY", Type: "WRITE", PID: 7635, Major: 0xfe, Inode: 9978665, End: LockEOF},
				{ID: 2, Kind: "POSIX", Mode: "ADVISORY", Type: "WRITE", PID: 7635, Major: 0xfe, Inode: 9978665, Start: 5, End: 14},
			}
		}},
	})
}

func TestParseFdinfoRefuses(t *testing.T) {
	for _, bad := range []string{
		"pos:\t\n", "flags:\t8\n", "mnt_id:\tx\n", "ino:\t-1\n", "eventfd-count: \n", "tfd: 4 events: 1 data: 2\n",
		"tfd: 4 events: 1 data: 2 pos:x ino:1 sdev:1\n", "inotify wd:1 ino:2\n", "it_value: (1)\n",
		"it_value: (18446744073709551615, 0)\n", "it_value: (1, 1000000000)\n", "API:\taa:0\n", "lock:\t1: POSIX\n",
		"inotify wd:1 ino:2 sdev:1 mask:1 ignored_mask:0 fhandle-bytes:c fhandle-type:1 f_handle:b7aa\n",
		"inotify wd:1 ino:2 sdev:1 mask:1 ignored_mask:0 fhandle-bytes:2 fhandle-type:1 f_handle:b7aaa\n",
		"inotify wd:1 ino:2 sdev:1 mask:1 ignored_mask:0 fhandle-bytes:2 fhandle-type:1 f_handle:b7ag\n",
	} {
		if got, err := ParseFdinfo([]byte(fdinfoCommon + bad)); err == nil {
			t.Errorf("no error for %q: %+v", bad, got)
		}
	}
}

func TestKernelDevice(t *testing.T) {
	if d := KernelDevice(0xfe00001); d.Major() != 254 || d.Minor() != 1 {
		t.Errorf("got %d:%d", d.Major(), d.Minor())
	}
}
