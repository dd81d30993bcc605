package procfs

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMountCount(t *testing.T) {
	mount := func(points ...string) (c MountCount) {
		var list []Mount
		for _, p := range points {
			list = append(list, Mount{MountPoint: p, FSType: "tmpfs", Root: "/"})
		}
		return CountMounts(list)
	}
	name := func(points ...string) (list []MountName) {
		for _, p := range points {
			list = append(list, MountName{p, "tmpfs", "/"})
		}
		return list
	}
	for _, tt := range []struct {
		what   string
		c      MountCount
		others []MountCount
		want   []MountName
	}{
		{"all are there", mount("/a", "/b"), []MountCount{mount("/b", "/a", "/c")}, nil},
		{"in order", mount("/c", "/b", "/a"), []MountCount{mount("/b")}, name("/a", "/c")},
		{"one above the other", mount("/a", "/a"), []MountCount{mount("/a")}, name("/a")},
		{"each in another", mount("/a", "/b"), []MountCount{mount("/a"), mount("/b")}, nil},
		{"two in two", mount("/a", "/a"), []MountCount{mount("/a"), mount("/a")}, name("/a")},
		{"nobody else", mount("/a"), []MountCount{nil, nil}, name("/a")},
	} {
		if diff := cmp.Diff(tt.want, tt.c.Beyond(tt.others...)); diff != "" {
			t.Errorf("%s:\n%s", tt.what, diff)
		}
	}
	if got := CountMounts([]Mount{{MountPoint: "/a", FSType: "ext4", Root: "/x"}}).Beyond(CountMounts([]Mount{{MountPoint: "/a", FSType: "ext4", Root: "/y"}})); len(got) != 1 {
		t.Errorf("another directory of the file system is the same mount: %v", got)
	}
}
