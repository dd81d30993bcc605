package procfs

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

const mountinfoText = `27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard,resuid=65534
36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
37 27 0:40 /a\040b\134c /m\011n\012o\043 ro,nosuid shared:7 master:8 propagate_from:2 unbindable future:x - fuse.sshfs me@host:/d\040e rw
38 27 0:41 /gone//deleted /x rw - tmpfs  rw,size=4k
39 27 0:4 net:[4026531833] /run/netns/a rw shared:1 - nsfs nsfs rw
40 27 0:42 / /y rw - overlay - rw,lowerdir=/a\134:b
`

func TestParseMountinfo(t *testing.T) {
	want := []Mount{
		{ID: 27, Parent: 1, Major: 254, Root: "/", MountPoint: "/", Options: []string{"rw", "relatime"}, FSType: "ext4", Source: "/dev/vda", SuperOptions: "rw,discard,resuid=65534"},
		{ID: 36, Parent: 35, Major: 98, Root: "/mnt1", MountPoint: "/mnt2", Options: []string{"rw", "noatime"}, Master: 1, FSType: "ext3", Source: "/dev/root", SuperOptions: "rw,errors=continue"},
		{ID: 37, Parent: 27, Minor: 40, Root: `/a b\c`, MountPoint: "/m\tn\no#", Options: []string{"ro", "nosuid"}, Shared: 7, Master: 8, PropagateFrom: 2, Unbindable: true, FSType: "fuse.sshfs", Source: "me@host:/d e", SuperOptions: "rw"},
		{ID: 38, Parent: 27, Minor: 41, Root: "/gone", RootDeleted: true, MountPoint: "/x", Options: []string{"rw"}, FSType: "tmpfs", SuperOptions: "rw,size=4k"},
		{ID: 39, Parent: 27, Minor: 4, Root: "net:[4026531833]", MountPoint: "/run/netns/a", Options: []string{"rw"}, Shared: 1, FSType: "nsfs", Source: "nsfs", SuperOptions: "rw"},
		{ID: 40, Parent: 27, Minor: 42, Root: "/", MountPoint: "/y", Options: []string{"rw"}, FSType: "overlay", Source: "-", SuperOptions: `rw,lowerdir=/a\134:b`},
	}
	got, err := ParseMountinfo([]byte(mountinfoText))
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	for _, bad := range []string{
		"\n", "27 1 254:0 / / rw", "27 1 254 / / rw - ext4 a rw", "27 x 254:0 / / rw - ext4 a rw", "27 1 254:0 / / rw - ext4 a",
		"27 1 254:0 / / rw shared:x - ext4 a rw", "27 1 254:0 / - ext4 a rw", "27 1 4294967296:0 / / rw - ext4 a rw",
	} {
		if got, err := ParseMountinfo([]byte(bad)); err == nil {
			t.Errorf("no error for %q: %+v", bad, got)
		}
	}
}

func TestUnescape(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "plain": "plain", `\040`: " ", `a\134040`: `a\040`, `\04`: `\04`, `\`: `\`, `\x41`: `\x41`,
		`\377`: "\xff", `\777`: `\777`, `\089`: `\089`, `\040\012x`: " \nx",
	} {
		if got := Unescape([]byte(in)); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}
