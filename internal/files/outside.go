package files

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wakepoint/wakepoint/internal/procfs"
)

// outsideRest is how long it is believed that nobody else has a file open.
const outsideRest = 30 * time.Second

// Sharer is a process that does not belong to a workload and has a file of the
// workload's open for writing: a restore would put it back under its hands.
type Sharer struct {
	Path string // the file's name in the workload
	PID  int
	Name string // of the process
}

// Outside remembers who was found to be alone with the files that it has open
// for writing. The zero value has looked at nothing.
type Outside struct {
	alone  map[inode]bool
	looked time.Time
}

// Look looks for processes that do not descend from root and have open for
// writing what a capture found open for writing. It reads all of /proc, so it
// belongs behind the thaw, and does so only when a file is new, the last look
// was a while ago, or must.
//
// BUG: a process that has mapped such a file, and closed it, is not found.
func (o *Outside) Look(c *Capture, root int, now time.Time, must bool) ([]Sharer, error) {
	wanted := map[inode]string{}
	fresh := must || now.Sub(o.looked) >= outsideRest
	for id, f := range c.held {
		if f.Writable || f.Mapped {
			wanted[id] = f.Path
			fresh = fresh || !o.alone[id]
		}
	}
	if !fresh || len(wanted) == 0 {
		return nil, nil
	}
	found, err := sharers(root, wanted)
	*o = Outside{}
	if err == nil && len(found) == 0 {
		o.alone, o.looked = map[inode]bool{}, now
		for id := range wanted {
			o.alone[id] = true
		}
	}
	return found, err
}

// Sharers is what Look finds, for a process and its descendants as they are;
// those that descend from root are none.
func Sharers(pid, root int) ([]Sharer, error) {
	r := procfs.NewReader("/proc")
	pids, err := r.Processes()
	if err != nil {
		return nil, err
	}
	k := newKin(pid)
	wanted := map[inode]string{}
	for _, p := range pids {
		if ours, _ := k.is(p); ours {
			for id, path := range writing(r, p, nil) {
				wanted[id] = path
			}
		}
	}
	if len(wanted) == 0 {
		return nil, nil
	}
	return sharers(root, wanted)
}

// sharers looks through the processes of the host. Each file is named once.
func sharers(root int, wanted map[inode]string) ([]Sharer, error) {
	r := procfs.NewReader("/proc")
	pids, err := r.Processes()
	if err != nil {
		return nil, err
	}
	k := newKin(root)
	numbers := map[uint64]bool{}
	for id := range wanted {
		numbers[id[1]] = true
	}
	found := map[string]Sharer{}
	for _, p := range pids {
		if ours, _ := k.is(p); ours || p == os.Getpid() {
			continue
		}
		for id := range writing(r, p, numbers) {
			path, ok := wanted[id]
			if _, twice := found[path]; ok && !twice {
				name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", p))
				found[path] = Sharer{Path: path, PID: p, Name: strings.TrimSpace(string(name))}
			}
		}
	}
	out := make([]Sharer, 0, len(found))
	for _, s := range found {
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b Sharer) int { return strings.Compare(a.Path, b.Path) })
	return out, nil
}

// notFiles begin the links of what is open and is no file with a name.
var notFiles = []string{"/proc/", "/sys/", "/dev/pts/", "/memfd:", "/SYSV"}

// writing are the named files that a process has open for writing; numbers, if
// not nil, are the inodes that matter.
func writing(r *procfs.Reader, pid int, numbers map[uint64]bool) map[inode]string {
	fds, err := r.FDs(pid)
	if err != nil {
		return nil // it has ended
	}
	out := map[inode]string{}
	for _, fd := range fds {
		magic := fmt.Sprintf("/proc/%d/fd/%d", pid, fd)
		link, err := os.Readlink(magic)
		if err != nil || !strings.HasPrefix(link, "/") || slices.ContainsFunc(notFiles, func(p string) bool { return strings.HasPrefix(link, p) }) {
			continue
		}
		info, err := r.Fdinfo(pid, fd)
		if err != nil || info.Flags&unix.O_ACCMODE == unix.O_RDONLY || info.Flags&unix.O_PATH != 0 ||
			numbers != nil && info.Inode != 0 && !numbers[info.Inode] { // 0: before Linux 5.14
			continue
		}
		var st unix.Stat_t
		if unix.Stat(magic, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFREG && st.Nlink > 0 {
			out[inode{uint64(st.Dev), st.Ino}] = link
		}
	}
	return out
}
