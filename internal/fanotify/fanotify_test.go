package fanotify

import (
	"os"
	"slices"
	"testing"

	"github.com/wakepoint/wakepoint/internal/procfs"
)

func TestProbe(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("skip: needs root: mounts are watched by fanotify")
	}
	if err := Probe(t.TempDir()); err != nil {
		t.Error(err)
	}
}

// Each point is marked once; what is no place for data is not, and neither is
// what lies below another mount.
func TestPoints(t *testing.T) {
	list := []procfs.Mount{
		{MountPoint: "/", FSType: "ext4"}, {MountPoint: "/proc", FSType: "proc"}, {MountPoint: "/dev", FSType: "devtmpfs"},
		{MountPoint: "/dev/shm", FSType: "tmpfs"}, {MountPoint: "/mnt", FSType: "xfs"}, {MountPoint: "/mnt", FSType: "nfs4"},
		{MountPoint: "/hidden", FSType: "ext4"}, {MountPoint: "/hidden", FSType: "proc"}, {MountPoint: "/a b", FSType: "fuse.sshfs"},
	}
	want := []string{"/", "/dev/shm", "/mnt", "/a b"}
	if got := points(list); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
