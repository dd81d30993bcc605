package generation

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/wakepoint/wakepoint/internal/files"
	"github.com/wakepoint/wakepoint/internal/image"
)

func TestActor(t *testing.T) {
	user := image.Creds{UID: [4]uint32{1000, 1000, 1000, 1000}, GID: [4]uint32{100, 100, 100, 100}, Groups: []uint32{7, 8}}
	other := user
	other.UID = [4]uint32{1001, 1001, 1001, 1001}
	root := image.Creds{}
	rootToBe := user
	rootToBe.UID[2] = 0 // seteuid(2) makes it root again
	anywhere := user
	anywhere.Permitted = 1 << 1 // CAP_DAC_OVERRIDE
	ports := user
	ports.Permitted = 1 << 10 // CAP_NET_BIND_SERVICE
	want := &files.Identity{UID: 1000, GID: 100, Groups: []uint32{7, 8}}
	for name, c := range map[string]struct {
		threads []image.Creds
		want    *files.Identity
	}{
		"a user":                      {[]image.Creds{user, user}, want},
		"two users":                   {[]image.Creds{user, other}, want},
		"root":                        {[]image.Creds{root}, nil},
		"a user, and root":            {[]image.Creds{user, root}, nil},
		"one that can be root":        {[]image.Creds{user, rootToBe}, nil},
		"one that may write anywhere": {[]image.Creds{anywhere}, nil},
		"one with another capability": {[]image.Creds{ports}, want},
		"nobody":                      {nil, nil},
	} {
		tree := &image.Tree{}
		for i, creds := range c.threads {
			tree.Processes = append(tree.Processes, image.Process{PID: i, Threads: []image.Thread{{Creds: creds}}})
		}
		if d := cmp.Diff(c.want, actor(tree)); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}
