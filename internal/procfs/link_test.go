package procfs

import "testing"

func TestParseLink(t *testing.T) {
	for _, c := range []struct {
		target string
		want   Link
	}{
		{"/dev/null", Link{Path: "/dev/null"}},
		{"/", Link{Path: "/"}},
		{"/tmp/ma\np (x) (deleted) (deleted)", Link{Path: "/tmp/ma\np (x) (deleted)", Deleted: true}},
		{"/memfd:a b (deleted)", Link{Path: "/memfd:a b", Deleted: true}},
		{"/tmp/pipe:[5]", Link{Path: "/tmp/pipe:[5]"}},
		{"pipe:[8405]", Link{Kind: LinkPipe, Inode: 8405}},
		{"socket:[10931]", Link{Kind: LinkSocket, Inode: 10931}},
		{"anon_inode:[eventfd]", Link{Kind: LinkAnon, Name: "eventfd"}},
		{"anon_inode:inotify", Link{Kind: LinkAnon, Name: "inotify"}},
		{"anon_inode:[perf_event]", Link{Kind: LinkAnon, Name: "perf_event"}},
		{"anon_inode:kvm-vcpu:0", Link{Kind: LinkAnon, Name: "kvm-vcpu:0"}},
		{"mnt:[4026531832]", Link{Kind: LinkNamespace, Inode: 4026531832, Name: "mnt"}},
		{"pidfd:[77]", Link{Kind: LinkOther, Inode: 77, Name: "pidfd"}},
		{"pipe:[x]", Link{Path: "pipe:[x]"}},
		{"pipe:[8", Link{Path: "pipe:[8"}},
		{"", Link{}},
	} {
		if got := ParseLink(c.target); got != c.want {
			t.Errorf("%q: got %+v, want %+v", c.target, got, c.want)
		}
	}
}

func TestParseTaskPath(t *testing.T) {
	for _, c := range []struct {
		path string
		want TaskPath
		of   string // process 7, thread 8
	}{
		{"/proc/12", TaskPath{PID: 12, FD: -1}, "/proc/7"},
		{"/proc/12/status", TaskPath{PID: 12, Rest: "status", FD: -1}, "/proc/7/status"},
		{"/proc/12/task", TaskPath{PID: 12, Rest: "task", FD: -1}, "/proc/7/task"},
		{"/proc/12/task/13", TaskPath{PID: 12, TID: 13, FD: -1}, "/proc/7/task/8"},
		{"/proc/12/task/13/stat (deleted)", TaskPath{PID: 12, TID: 13, Rest: "stat", FD: -1}, "/proc/7/task/8/stat"},
		{"/proc/12/task/13/fdinfo/5", TaskPath{PID: 12, TID: 13, Rest: "fdinfo/5", FD: 5}, "/proc/7/task/8/fdinfo/5"},
		{"/proc/12/fdinfo/x", TaskPath{PID: 12, Rest: "fdinfo/x", FD: -1}, "/proc/7/fdinfo/x"},
		{"/proc/0/status", TaskPath{}, ""},
		{"/proc/version", TaskPath{}, ""},
		{"/tmp/12/status", TaskPath{}, ""},
	} {
		got, ok := ParseTaskPath(c.path)
		if got != c.want || ok != (c.of != "") || ok && got.Of(7, 8) != c.of {
			t.Errorf("%q: got %+v %v, of another %q", c.path, got, ok, got.Of(7, 8))
		}
	}
}
