// Package sandbox seals a process off: what it and its children do to files,
// over the network or to the kernel does not leave.
//
// The process is born in PID, mount, network, IPC and UTS namespaces of its own
// (Attr) and then seals itself (Enter). All file systems become overlays whose
// upper side is memory, without devices; UNIX sockets and pipes that lie below
// them lead nowhere, since an overlay's are its own. Files that were made for it
// can be seen at paths instead of those that are there. /dev, /dev/shm and the
// message queues are new. In the network every address is here and nobody
// answers, so that what listens can, and what connects is refused. Calls that
// change the clock, the kernel or the machine are refused by a filter.
//
// It is a seal for programs that do what they did before, not a prison: one
// with root's rights that wants out finds a way.
package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/wakepoint/wakepoint/internal/procfs"
	"github.com/wakepoint/wakepoint/internal/sys"
)

// doors are the calls by which a program changes more than itself and its files.
var doors = []int{
	unix.SYS_CLOCK_SETTIME, unix.SYS_SETTIMEOFDAY, unix.SYS_ADJTIMEX, unix.SYS_CLOCK_ADJTIME,
	unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE, unix.SYS_DELETE_MODULE, unix.SYS_KEXEC_LOAD, unix.SYS_KEXEC_FILE_LOAD,
	unix.SYS_REBOOT, unix.SYS_SWAPON, unix.SYS_SWAPOFF, unix.SYS_ACCT, unix.SYS_QUOTACTL,
}

// Attr is how a process that is to be sealed is started. When it ends, all that
// it has started ends with it.
func Attr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS,
		Setsid:     true,
	}
}

// Options says how a process is sealed.
type Options struct {
	Scratch string // an empty directory of the host, over which is mounted
	Budget  int64  // bytes of files that may be written or changed
	// Over are files that are to be seen at paths instead of those that are there:
	// what is written to them lies where they do, and is not bounded here. Nothing
	// inside can rename or delete these names (EBUSY), or link to them.
	Over map[string]*os.File
}

// Room is what a sealed process has.
type Room struct {
	Fixed []string        // mount points of which the file systems cannot be overlaid: they are read-only
	Over  map[string]bool // the paths at which other files are seen, as was asked for
	scope int             // the memory in which written files lie
}

// Left is how much may still be written, in bytes.
func (r *Room) Left() int64 {
	var st unix.Statfs_t
	if unix.Fstatfs(r.scope, &st) != nil {
		return 0
	}
	return int64(st.Bavail) * st.Bsize
}

// Writable says whether what is written below a path stays inside.
func (r *Room) Writable(path string) bool {
	return !slices.ContainsFunc(r.Fixed, func(dir string) bool { return below(path, dir) })
}

// Enter seals this process, which was started with Attr, and all its threads.
// After an error it may be half sealed, and should end.
func Enter(o Options) (*Room, error) {
	if os.Getpid() != 1 {
		return nil, errors.New("seal: not the first process of a namespace")
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return nil, fmt.Errorf("seal the mounts: %w", err)
	}
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("seal the mounts: %w", err)
	}
	mounts, err := procfs.ParseMountinfo(text)
	if err != nil {
		return nil, fmt.Errorf("seal the mounts: %w", err)
	}
	b := builder{scratch: o.Scratch, root: filepath.Join(o.Scratch, "root"), over: map[string]bool{}}
	if err := unix.Mount("tmpfs", o.Scratch, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755,size="+strconv.FormatInt(o.Budget, 10)); err != nil {
		return nil, fmt.Errorf("seal the mounts: %w", err)
	}
	scope, err := unix.Open(o.Scratch, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if err := b.build(mounts, o.Over); err != nil {
		return nil, fmt.Errorf("seal the mounts: %w", err)
	}
	if err := loopback(); err != nil {
		return nil, fmt.Errorf("seal the network: %w", err)
	}
	if err := sys.Forbid(doors); err != nil {
		return nil, fmt.Errorf("seal the kernel: %w", err)
	}
	return &Room{Fixed: b.fixed, Over: b.over, scope: scope}, nil
}

// builder builds the tree of mounts below root.
type builder struct {
	scratch, root string
	overlays      int
	fixed         []string
	over          map[string]bool
}

func (b *builder) build(mounts []procfs.Mount, over map[string]*os.File) error {
	if err := os.Mkdir(b.root, 0o755); err != nil {
		return err
	}
	for _, m := range visible(mounts) {
		if m.MountPoint != b.scratch && !below(m.MountPoint, b.scratch) {
			if err := b.add(m); err != nil {
				return fmt.Errorf("%s: %w", m.MountPoint, err)
			}
		}
	}
	if err := b.devices(); err != nil {
		return fmt.Errorf("/dev: %w", err)
	}
	if err := b.mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("/proc: %w", err)
	}
	for path, f := range over {
		b.over[path] = b.cover(path, f) == nil
	}
	return b.pivot()
}

// cover shows an open file at a path.
func (b *builder) cover(path string, f *os.File) error {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_SYMLINKS}
	at, err := unix.Openat2(unix.AT_FDCWD, b.root+path, &how)
	if err != nil {
		return err
	}
	defer unix.Close(at)
	tree, err := unix.OpenTree(int(f.Fd()), "", unix.AT_EMPTY_PATH|unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return err
	}
	defer unix.Close(tree)
	return unix.MoveMount(tree, "", at, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
}

// visible are the mounts that can be seen, those above before those below.
func visible(mounts []procfs.Mount) []procfs.Mount {
	last := map[string]int{}
	for i, m := range mounts {
		last[m.MountPoint] = i
	}
	var list []procfs.Mount
	for i, m := range mounts {
		if last[m.MountPoint] == i && !m.RootDeleted {
			list = append(list, m)
		}
	}
	slices.SortStableFunc(list, func(a, c procfs.Mount) int { return depth(a.MountPoint) - depth(c.MountPoint) })
	return list
}

// depth is how many names a path has.
func depth(path string) int {
	if path == "/" {
		return 0
	}
	return strings.Count(path, "/")
}

// shut are kinds of file systems of which nothing is shown: they are doors to
// the kernel, or to somebody else.
var shut = []string{"autofs", "binfmt_misc", "bpf", "configfs", "debugfs", "efivarfs", "fusectl", "nsfs", "pstore", "rpc_pipefs", "tracefs"}

// add shows one mount of the host.
func (b *builder) add(m procfs.Mount) error {
	switch {
	case below(m.MountPoint, "/dev"), below(m.MountPoint, "/proc"), slices.Contains(shut, m.FSType):
		return nil
	case below(m.MountPoint, "/sys"), slices.Contains(m.Options, "ro"):
		return b.fix(m)
	}
	to := b.root + m.MountPoint
	if st, err := os.Stat(m.MountPoint); err == nil && st.IsDir() {
		flags := uintptr(unix.MS_NODEV)
		if slices.Contains(m.Options, "nosuid") {
			flags |= unix.MS_NOSUID
		}
		if slices.Contains(m.Options, "noexec") {
			flags |= unix.MS_NOEXEC
		}
		if b.overlay(m.MountPoint, to, flags) == nil {
			return nil
		}
	}
	if m.MountPoint == "/" {
		return errors.New("an overlay over it cannot be mounted (is the kernel's overlay module there?)")
	}
	b.fixed = append(b.fixed, m.MountPoint)
	return b.fix(m)
}

// overlay shows a directory of the host, and keeps what is changed to itself.
func (b *builder) overlay(of, to string, flags uintptr) error {
	b.overlays++
	upper := filepath.Join(b.scratch, "upper"+strconv.Itoa(b.overlays))
	work := filepath.Join(b.scratch, "work"+strconv.Itoa(b.overlays))
	st, err := os.Stat(of)
	if err != nil {
		return err
	}
	for _, dir := range []string{upper, work} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
	}
	// The upper side lends the root its owner and mode.
	sys := st.Sys().(*syscall.Stat_t)
	if err := errors.Join(os.Chown(upper, int(sys.Uid), int(sys.Gid)), unix.Chmod(upper, sys.Mode&0o7777)); err != nil {
		return err
	}
	escape := strings.NewReplacer(`\`, `\\`, `:`, `\:`, `,`, `\,`)
	data := "lowerdir=" + escape.Replace(of) + ",upperdir=" + escape.Replace(upper) + ",workdir=" + escape.Replace(work)
	return unix.Mount("overlay", to, "overlay", flags, data)
}

// fix shows a mount of the host as it is, read-only. One whose place is not
// shown is left out.
func (b *builder) fix(m procfs.Mount) error {
	to := b.root + m.MountPoint
	if _, err := os.Lstat(to); err != nil {
		return nil
	}
	if err := unix.Mount(m.MountPoint, to, "", unix.MS_BIND, ""); err != nil {
		return err
	}
	a := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NODEV}
	return unix.MountSetattr(-1, to, 0, &a)
}

// mount mounts a new file system; where there is no place for it, it is left out.
func (b *builder) mount(source, at, kind string, flags uintptr, data string) error {
	if _, err := os.Stat(b.root + at); err != nil {
		return nil
	}
	return unix.Mount(source, b.root+at, kind, flags, data)
}

// devices makes a /dev of what every program may use.
func (b *builder) devices() error {
	if err := b.mount("tmpfs", "/dev", "tmpfs", unix.MS_NOSUID, "mode=0755,size=65536k"); err != nil {
		return err
	}
	dev := b.root + "/dev/"
	for _, name := range []string{"null", "zero", "full", "random", "urandom", "tty"} {
		f, err := os.Create(dev + name)
		if err != nil {
			return err
		}
		_ = f.Close()
		if err := unix.Mount("/dev/"+name, dev+name, "", unix.MS_BIND, ""); err != nil {
			return err
		}
	}
	for name, to := range map[string]string{"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2", "ptmx": "pts/ptmx"} {
		if err := os.Symlink(to, dev+name); err != nil {
			return err
		}
	}
	for _, d := range []struct{ name, kind, data string }{
		{"pts", "devpts", "newinstance,ptmxmode=0666,mode=0620,gid=5"},
		{"mqueue", "mqueue", ""},
	} {
		if err := os.Mkdir(dev+d.name, 0o755); err != nil {
			return err
		}
		err := b.mount(d.kind, "/dev/"+d.name, d.kind, unix.MS_NOSUID|unix.MS_NOEXEC, d.data)
		if err != nil && d.kind != "mqueue" {
			return err
		}
	}
	return b.shm(dev + "shm")
}

// shm makes a /dev/shm, of the same memory as all that is written.
func (b *builder) shm(at string) error {
	dir := filepath.Join(b.scratch, "shm")
	if err := errors.Join(os.Mkdir(at, 0o755), os.Mkdir(dir, 0o755), os.Chmod(dir, os.ModeSticky|0o777)); err != nil {
		return err
	}
	if err := unix.Mount(dir, at, "", unix.MS_BIND, ""); err != nil {
		return err
	}
	a := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC}
	return unix.MountSetattr(-1, at, 0, &a)
}

// pivot makes the new tree the root of this process, and lets go of the old one
// (pivot_root(2), NOTES: both at the same place).
func (b *builder) pivot() error {
	if err := unix.Chdir(b.root); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return err
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return err
	}
	return unix.Chdir("/")
}

// below says that a path is dir or lies in it.
func below(path, dir string) bool {
	return path == dir || dir == "/" || strings.HasPrefix(path, dir+"/")
}
