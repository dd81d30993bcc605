package engine

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/wakepoint/wakepoint/internal/image"
	"github.com/wakepoint/wakepoint/internal/procfs"
)

// namespaceKinds are the namespaces that a process of a tree, and its children
// to come, must share with the tree's others.
var namespaceKinds = []string{"user", "pid", "net", "uts", "ipc", "mnt", "time", "cgroup"}

// namespaces refuses processes that have left the namespaces of their tree:
// the init's, or where there is none those of this process. Its clocks a tree
// without an init may have to itself: it has when it was restored before.
func (f *Frozen) namespaces() error {
	base := max(int(f.tree.handle.Init), f.tree.within)
	if base == 0 {
		base = os.Getpid()
	}
	for _, k := range namespaceKinds {
		of := base
		if k == "time" && of == os.Getpid() {
			of = int(f.tree.handle.Command)
		}
		want, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", of, k))
		if err != nil {
			continue // a kernel without it
		}
		for _, p := range f.processes {
			if p.zombie || !p.apart(k, want) {
				continue
			}
			if st, err := f.tree.proc.Stat(p.pid); err != nil || strings.ContainsRune("ZX", rune(st.State)) {
				return os.ErrProcessDone // it was killed: it is in none any more
			}
			_ = f.note(refuse(p.pid, fmt.Sprintf("pid %d has a %s namespace of its own, which cannot be saved yet", p.pid, k),
				"start it without unshare, a sandbox or a container inside"))
		}
	}
	return nil
}

// apart says whether a process or its children to come are in another
// namespace than the wanted one.
func (p *process) apart(kind, want string) bool {
	links := []string{kind}
	if kind == "pid" || kind == "time" {
		links = append(links, kind+"_for_children")
	}
	return slices.ContainsFunc(links, func(l string) bool {
		now, _ := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", p.pid, l))
		return now != want
	})
}

// mountsOf counts the mounts that a process sees.
func (t *Tree) mountsOf(pid int) (procfs.MountCount, error) {
	list, err := t.proc.Mounts(pid)
	if errors.Is(err, unix.EINVAL) { // a zombie
		return nil, fmt.Errorf("%w: %w", os.ErrProcessDone, err)
	}
	if err != nil {
		return nil, gone(err)
	}
	return procfs.CountMounts(list), nil
}

// noteMounts remembers the mounts with which a tree began, which the init has
// read before anything of it ran: the host's of that instant, which it keeps
// when the host unmounts them, and its own. Of a tree that is taken over, it is
// those that it has.
//
// BUG: what a program mounted before its tree was taken over is not noticed.
func (t *Tree) noteMounts(began []byte) (err error) {
	if began == nil && t.handle.Init != 0 {
		t.mounts, err = t.mountsOf(int(t.handle.Init))
		return err
	}
	list, err := procfs.ParseMountinfo(began)
	t.mounts = procfs.CountMounts(list)
	return err
}

// guessMounts is noteMounts for a check, which nobody tells: the host's of now
// and those that an init makes.
//
// BUG: what the host has unmounted and the workload kept is listed as its own.
func (t *Tree) guessMounts() (err error) {
	if t.mounts, err = t.mountsOf(os.Getpid()); err == nil {
		t.mounts[procfs.MountName{Point: "/proc", FSType: "proc", Root: "/"}]++
		t.mounts[procfs.MountName{Point: "/dev/pts", FSType: "devpts", Root: "/"}]++
	}
	return err
}

// foreignMounts notes, before the freeze, for mounts that were made inside the
// tree's mount namespace: the tree did not begin with them, and the host does
// not have them.
func (t *Tree) foreignMounts() error {
	init := max(int(t.handle.Init), t.within)
	if init == 0 {
		return nil
	}
	inside, err := t.mountsOf(init)
	if err != nil {
		return err
	}
	host, err := t.mountsOf(os.Getpid())
	if err != nil {
		return err
	}
	foreign := inside.Beyond(t.mounts, host)
	if len(foreign) > 0 { // or it was the host's, which has unmounted it between the two looks
		if inside, err = t.mountsOf(init); err != nil {
			return err
		}
	}
	still := inside.Beyond(t.mounts, host)
	t.foreign = nil
	for _, m := range foreign {
		if slices.Contains(still, m) {
			t.foreign = append(t.foreign, Obstacle{PID: t.handle.Command, What: fmt.Sprintf("the mount of %s at %s was made inside the workload and cannot be saved yet", m.FSType, m.Point),
				Hint: "mount it on the host: it then appears inside"})
		}
	}
	return nil
}

// shared refuses pipes and UNIX connections of which an end is held outside
// the tree. Only a tree that is not a workload of its own can have such: all
// processes of the host are looked at.
func (d *dumper) shared() error {
	if !d.tree.HostPIDs {
		return nil
	}
	ours := map[string]bool{}
	for i := range d.tree.Descriptions {
		x := &d.tree.Descriptions[i]
		switch {
		case x.Pipe != nil && x.Kind == image.PipeEnd:
			ours[fmt.Sprintf("pipe:[%d]", x.Pipe.ID)] = true
		case x.Socket != nil:
			ours[fmt.Sprintf("socket:[%d]", x.Socket.Cookie)] = true
			if x.Socket.Family == unix.AF_UNIX && x.Socket.Reset && d.unix.Peer[x.Socket.Cookie] != 0 {
				_ = d.f.note(refuse(int(d.f.tree.handle.Command), "a connected UNIX socket whose other end lies outside the tree cannot be saved", "dump the other end's process as well, or close the connection"))
				delete(ours, fmt.Sprintf("socket:[%d]", x.Socket.Cookie))
			}
		}
	}
	if len(ours) == 0 {
		return nil
	}
	pids, err := d.proc.Processes()
	if err != nil {
		return err
	}
	for _, pid := range pids {
		if d.f.byPID[pid] != nil || pid == os.Getpid() {
			continue
		}
		for link := d.holder(pid, ours); link != ""; link = d.holder(pid, ours) {
			kind, _, _ := strings.Cut(link, ":")
			if kind != "pipe" || !d.f.tree.handle.Cut {
				_ = d.f.note(refuse(int(d.f.tree.handle.Command), fmt.Sprintf("%s is also held by pid %d, which lies outside the tree", link, pid),
					"dump a process above both ends of the "+kind))
				delete(ours, link)
				continue
			}
			delete(ours, link)
			for _, k := range d.byLink[link] {
				cutOff(&d.tree.Descriptions[k.index])
			}
		}
	}
	return nil
}

// cutOff makes a description lead to /dev/null instead of outside.
func cutOff(desc *image.Description) {
	*desc = image.Description{Kind: image.Device, Path: os.DevNull, Flags: desc.Flags &^ (unix.O_ASYNC | unix.O_DIRECT), Device: unix.Mkdev(1, 3), Object: -1}
}

// holder returns one of the wanted links that a process has open.
func (d *dumper) holder(pid int, wanted map[string]bool) string {
	fds, err := d.proc.FDs(pid)
	if err != nil {
		return "" // it has ended, or has none
	}
	for _, fd := range fds {
		link, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", pid, fd))
		if err == nil && wanted[link] {
			return link
		}
	}
	return ""
}

// unsavable names file systems whose open files are not files.
var unsavable = map[int64]string{
	0x19800202: "a POSIX message queue",
	0x62656570: "a configfs file",
	0x64626720: "a debugfs file",
	0x74726163: "a tracefs file",
	0xcafe4a11: "a BPF object",
	0x5345434d: "secret memory (memfd_secret)",
}
