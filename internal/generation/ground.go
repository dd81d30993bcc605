package generation

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/user"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/wakepoint/wakepoint/internal/engine"
	"github.com/wakepoint/wakepoint/internal/image"
	"github.com/wakepoint/wakepoint/internal/procfs"
)

// groundName is the blob with what a generation stands on.
const groundName = "ground"

// A ground is what a workload needs of the host before anything of it is put
// back, and what a boot may bring late, or not at all.
type ground struct {
	Mounts []mount           `json:"mounts"` // by where they are mounted
	Users  map[uint32]string `json:"users"`  // names, by number
}

// mount is a file system, and one directory of it that is used.
type mount struct {
	Point string `json:"point"`
	Dir   string `json:"dir"`
}

// Noted is a Sink that remembers the image that passes through. Nothing is
// copied for that: it passes while the program stands still.
type Noted struct {
	engine.Sink
	tree []byte
}

// Note makes a Noted of a sink.
func Note(s engine.Sink) *Noted { return &Noted{Sink: s} }

// Blob is that of the sink.
func (n *Noted) Blob(name string, data []byte) error {
	if name == engine.TreeBlob {
		n.tree = data
	}
	return n.Sink.Blob(name, data)
}

// Ground notes in the generation on which file systems and users of this host
// it stands. Nothing must be frozen for that.
func (n *Noted) Ground() error {
	if n.tree == nil {
		return nil // nothing runs in it
	}
	t, err := image.Decode(n.tree)
	if err != nil {
		return err
	}
	mounts, err := mounted()
	if err != nil {
		return err
	}
	g := ground{Mounts: under(mounts, directories(t)), Users: map[uint32]string{}}
	for _, p := range t.Processes {
		for _, th := range p.Threads {
			for _, uid := range th.Creds.UID {
				if _, known := g.Users[uid]; known || uid == 0 {
					continue
				}
				if u, err := user.LookupId(strconv.FormatUint(uint64(uid), 10)); err == nil {
					g.Users[uid] = u.Username
				}
			}
		}
	}
	text, err := json.Marshal(g)
	if err != nil {
		return err
	}
	return n.Sink.Blob(groundName, text)
}

// Missing names what a generation stands on and this host does not have, for
// people: "the file system at /data is not mounted". A path of a file system
// counts as there when something is mounted at its place, or when the
// directories that the workload uses are there without: so it is on a host on
// which they are not a file system of their own.
func Missing(r engine.Source) ([]string, error) {
	text, err := r.Blob(groundName)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var g ground
	if err := json.Unmarshal(text, &g); err != nil {
		return nil, fmt.Errorf("what it stands on: %w", err)
	}
	mounts, err := mounted()
	if err != nil {
		return nil, err
	}
	var out []string
	for _, m := range g.Mounts {
		if !slices.Contains(mounts, m.Point) && !stands(m) {
			out = append(out, "the file system at "+m.Point+" is not mounted")
		}
	}
	for _, uid := range slices.Sorted(maps.Keys(g.Users)) {
		var unknown user.UnknownUserIdError
		if _, err := user.LookupId(strconv.FormatUint(uint64(uid), 10)); errors.As(err, &unknown) {
			out = append(out, fmt.Sprintf("there is no user %d (%s)", uid, g.Users[uid]))
		}
	}
	return out, nil
}

// stands says whether what is used of a file system is there although it is
// not mounted. A place where nothing but its mount point is left is empty.
func stands(m mount) bool {
	if m.Dir != m.Point {
		_, err := os.Stat(m.Dir)
		return err == nil
	}
	list, err := os.ReadDir(m.Point)
	return err == nil && len(list) > 0
}

// passing are file systems that hold nothing across a boot, or that every boot
// brings before anything else.
var passing = strings.Fields("autofs binfmt_misc bpf cgroup cgroup2 configfs debugfs devpts devtmpfs efivarfs fusectl hugetlbfs mqueue nsfs proc pstore ramfs rpc_pipefs securityfs selinuxfs sysfs tmpfs tracefs")

// mounted lists where file systems that last are mounted, but for the root.
func mounted() ([]string, error) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	list, err := procfs.ParseMountinfo(text)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, m := range list {
		if m.MountPoint != "/" && !slices.Contains(passing, m.FSType) {
			out = append(out, m.MountPoint)
		}
	}
	return out, nil
}

// directories lists those that a tree uses by name: of its executables and
// libraries, its open files, and in which it works.
func directories(t *image.Tree) []string {
	seen := map[string]bool{}
	add := func(dir string) {
		if path.IsAbs(dir) {
			seen[path.Clean(dir)] = true
		}
	}
	for _, s := range t.Spaces {
		add(path.Dir(s.Exe))
		for i := range s.Areas {
			if a := &s.Areas[i]; a.Kind == image.PrivateFile || a.Kind == image.SharedFile {
				add(path.Dir(a.Path))
			}
		}
	}
	for i := range t.Descriptions {
		switch d := &t.Descriptions[i]; d.Kind {
		case image.Regular, image.FIFO:
			add(path.Dir(d.Path))
		case image.Directory, image.PathOnly:
			add(d.Path)
		}
	}
	for _, p := range t.Processes {
		add(p.Cwd)
		add(p.Root)
	}
	return slices.Sorted(maps.Keys(seen))
}

// under finds the file systems that directories lie on, each with the first of
// its directories that is not its mount point, where there is one.
func under(mounts, dirs []string) []mount {
	found := map[string]string{}
	for _, dir := range dirs {
		point := ""
		for _, m := range mounts {
			if in, err := filepath.Rel(m, dir); err == nil && in != ".." && !strings.HasPrefix(in, "../") && len(m) > len(point) {
				point = m
			}
		}
		if old := found[point]; point != "" && (old == "" || old == point) {
			found[point] = dir
		}
	}
	var out []mount
	for _, point := range slices.Sorted(maps.Keys(found)) {
		out = append(out, mount{point, found[point]})
	}
	return out
}
