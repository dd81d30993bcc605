//go:build linux

package programs

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// facts is all that can be seen of a tree from outside, by "WHO WHAT": WHO is
// a process by its number in its own namespace, or process:thread.
type facts map[string]string

// collector gathers facts. Numbers that the kernel gives out anew, such as
// those of inodes, become the order in which they are met: what is compared
// is who shares what with whom.
type collector struct {
	facts   facts
	inside  map[int]int    // host number of a process or thread to its own
	classes map[string]int // identities met, in order, by kind
	names   map[string]string
}

// snapshot takes down the whole tree except its init, which is Wakepoint's.
func (r *rig) snapshot() facts {
	r.t.Helper()
	w := r.waitRunning()
	processes, err := tree(w.PID)
	if err != nil {
		r.t.Fatal(err)
	}
	processes = slices.DeleteFunc(processes, func(p process) bool { return p.nspid == 1 })
	c := &collector{facts: facts{}, inside: map[int]int{}, classes: map[string]int{}, names: map[string]string{}}
	for _, p := range processes {
		c.inside[p.pid] = p.nspid
		for _, tid := range threads(p.pid) {
			c.inside[tid] = nspid(tid)
		}
	}
	for _, p := range processes {
		c.process(p)
	}
	c.sharing(processes)
	return c.facts
}

// settled takes snapshots until two in a row agree, for a keeper may have the
// program stopped, and a timer may fire, in the middle of one.
func (r *rig) settled() facts {
	r.t.Helper()
	last := r.snapshot()
	for range 12 {
		time.Sleep(130 * time.Millisecond)
		now := r.snapshot()
		if len(differences(last, now)) == 0 {
			return now
		}
		last = now
	}
	return last
}

func (c *collector) add(who, what, value string) { c.facts[who+" "+what] = value }

// class returns a name for an identity: its kind, and how many of that kind
// were met before it.
func (c *collector) class(kind, identity string) string {
	key := kind + "|" + identity
	if name, ok := c.names[key]; ok {
		return name
	}
	c.classes[kind]++
	c.names[key] = fmt.Sprintf("%s#%d", kind, c.classes[kind])
	return c.names[key]
}

// translate gives a process number of the host as the tree sees it.
func (c *collector) translate(host string) string {
	n, err := strconv.Atoi(strings.TrimSpace(host))
	if err != nil {
		return host
	}
	if own, ok := c.inside[n]; ok {
		return strconv.Itoa(own)
	}
	if n <= 0 {
		return strconv.Itoa(n)
	}
	return "outside"
}

// threads lists the host numbers of a process's threads.
func threads(pid int) []int {
	entries, err := os.ReadDir(proc(pid, "task"))
	if err != nil {
		return nil
	}
	var list []int
	for _, e := range entries {
		if tid, err := strconv.Atoi(e.Name()); err == nil {
			list = append(list, tid)
		}
	}
	slices.Sort(list)
	return list
}

func nspid(tid int) int {
	fields, err := statusFields(proc(tid, "status"))
	if err != nil {
		return 0
	}
	return innermost(fields["NSpid"])
}

// process takes down what belongs to a process as a whole, then its threads.
func (c *collector) process(p process) {
	who := strconv.Itoa(p.nspid)
	for _, name := range []string{
		"oom_score_adj", "coredump_filter", "personality", "cmdline", "loginuid", "sessionid",
		"uid_map", "gid_map", "setgroups", "cgroup", "environ", "auxv", "mountinfo", "limits",
	} {
		c.text(who, p.pid, name)
	}
	for _, name := range []string{"exe", "cwd", "root"} {
		link, err := os.Readlink(proc(p.pid, name))
		c.add(who, name, link+said(err))
	}
	c.namespaces(who, p.pid)
	c.stat(who, p.pid)
	c.timers(who, p.pid)
	c.maps(who, p.pid)
	c.descriptors(who, p.pid)
	for _, tid := range threads(p.pid) {
		c.thread(fmt.Sprintf("%d:%d", p.nspid, c.inside[tid]), tid)
	}
}

func said(err error) string {
	var errno unix.Errno
	if errors.As(err, &errno) {
		return " " + errno.Error()
	}
	if err != nil {
		return " " + err.Error()
	}
	return ""
}

// text takes down a file of /proc: a table by its lines, the rest as one.
func (c *collector) text(who string, pid int, name string) {
	text, err := os.ReadFile(proc(pid, name))
	if err != nil {
		c.add(who, name, said(err))
		return
	}
	switch name {
	case "limits":
		for line := range strings.Lines(string(text)) {
			if len(line) > 26 {
				c.add(who, "limits/"+strings.TrimSpace(line[:26]), strings.Join(strings.Fields(line[26:]), " "))
			}
		}
	case "environ", "auxv":
		sum := sha256.Sum256(text)
		c.add(who, name, hex.EncodeToString(sum[:8]))
	case "mountinfo":
		for line := range strings.Lines(string(text)) {
			// 36 35 98:0 /root /point options shared:1 - type source options
			fields := strings.Fields(line)
			_, after, _ := strings.Cut(line, " - ")
			if len(fields) > 5 {
				c.add(who, "mountinfo/"+fields[4], fields[3]+" "+fields[5]+" "+strings.TrimSpace(after))
			}
		}
	default:
		c.add(who, name, strings.ReplaceAll(strings.TrimSpace(string(text)), "\x00", " "))
	}
}

func (c *collector) namespaces(who string, pid int) {
	for _, kind := range []string{"net", "user", "uts", "cgroup"} {
		link, err := os.Readlink(proc(pid, "ns", kind))
		c.add(who, "ns/"+kind, link+said(err))
	}
	for _, kind := range []string{"pid", "mnt", "ipc", "time"} {
		link, err := os.Readlink(proc(pid, "ns", kind))
		c.add(who, "ns/"+kind, c.class(kind, link)+said(err))
	}
}

// stat takes down fields of /proc/PID/stat, see proc_pid_stat(5), that stand
// nowhere else.
func (c *collector) stat(who string, pid int) {
	text, err := os.ReadFile(proc(pid, "stat"))
	if err != nil {
		c.add(who, "stat", said(err))
		return
	}
	_, after, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(after) // fields[0] is field 3
	named := map[string]int{
		"tty_nr": 7, "start_code": 26, "end_code": 27, "start_stack": 28, "exit_signal": 38, "start_data": 45, "end_data": 46,
		"start_brk": 47, "arg_start": 48, "arg_end": 49, "env_start": 50, "env_end": 51, "exit_code": 52,
	}
	for name, number := range named {
		if number-3 < len(fields) {
			c.add(who, "stat/"+name, fields[number-3])
		}
	}
	c.add(who, "stat/tpgid", c.translate(fields[8-3]))
}

// timers takes down /proc/PID/timers: blocks of four lines.
func (c *collector) timers(who string, pid int) {
	text, err := os.ReadFile(proc(pid, "timers"))
	if err != nil {
		c.add(who, "timers", said(err))
		return
	}
	id := ""
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		value = strings.TrimSpace(value)
		if key == "ID" {
			id = value
		}
		if kind, target, ok := strings.Cut(value, "."); ok && key == "notify" {
			value = kind + "." + c.translate(target)
		}
		c.add(who, "timers/"+id+"/"+key, value)
	}
}

// thread takes down what each thread has of its own.
func (c *collector) thread(who string, tid int) {
	fields, err := statusFields(proc(tid, "status"))
	if err != nil {
		c.add(who, "status", said(err))
		return
	}
	for key, value := range fields {
		switch key {
		case "NStgid", "NSpid", "NSpgid", "NSsid":
			value = strconv.Itoa(innermost(value))
		case "Tgid", "Pid", "PPid", "TracerPid":
			value = c.translate(value)
		}
		c.add(who, "status/"+key, strings.Join(strings.Fields(value), " "))
	}
	for _, name := range []string{"comm", "timerslack_ns", "personality", "attr/current"} {
		c.text(who, tid, name)
	}
	if attr, err := unix.SchedGetAttr(tid, 0); err == nil {
		c.add(who, "sched/attr", fmt.Sprintf("%+v", *attr))
	}
	var cpus unix.CPUSet
	if err := unix.SchedGetaffinity(tid, &cpus); err == nil {
		c.add(who, "sched/affinity", fmt.Sprintf("%x", cpus))
	}
	const whoProcess = 1 // IOPRIO_WHO_PROCESS
	priority, _, errno := unix.Syscall(unix.SYS_IOPRIO_GET, whoProcess, uintptr(tid), 0)
	c.add(who, "sched/ioprio", fmt.Sprintf("%d %d", priority, int(errno)))
}

// area is a mapping of smaps.
type area struct {
	start, end, offset uint64
	perms, path        string
	inode              string // "dev:inode", "" where there is none
	flags              []string
}

// pad says whether this is the room for calls that a keeper plays inside the
// process: a shared area of 68 KiB that children do not inherit.
func (a area) pad() bool {
	return a.path == "/dev/zero (deleted)" && a.perms == "rw-s" && a.end-a.start == 68<<10 && slices.Contains(a.flags, "dc")
}

// follows says whether b continues a, so that the kernel may show them as one
// or as two.
func (a area) follows(b area) bool {
	return a.end == b.start && a.perms == b.perms && a.path == b.path && a.inode == b.inode &&
		slices.Equal(lasting(a.flags), lasting(b.flags)) &&
		(a.inode == "" || a.offset+a.end-a.start == b.offset)
}

// lasting leaves out flags that may differ anyway.
func lasting(flags []string) []string {
	return slices.DeleteFunc(slices.Clone(flags), func(f string) bool { return permitted("map/x/flag/"+f, "", "set") })
}

func (c *collector) maps(who string, pid int) {
	text, err := os.ReadFile(proc(pid, "smaps"))
	if err != nil {
		c.add(who, "maps", said(err))
		return
	}
	var joined []area
	for _, a := range parseAreas(string(text)) {
		if n := len(joined); n > 0 && joined[n-1].follows(a) {
			joined[n-1].end = a.end
			continue
		}
		joined = append(joined, a)
	}
	for _, a := range joined {
		what := fmt.Sprintf("map/%x", a.start)
		if a.pad() {
			c.add(who, "pad", "mapped")
			continue
		}
		path := a.path
		if a.inode != "" && (path == "" || !strings.HasPrefix(path, "/") || strings.HasSuffix(path, " (deleted)")) {
			path += " " + c.class("object", a.inode)
		}
		c.add(who, what, strings.TrimSpace(fmt.Sprintf("%x %s %x %s", a.end, a.perms, a.offset, path)))
		for _, flag := range a.flags {
			c.add(who, what+"/flag/"+flag, "set")
		}
	}
}

// parseAreas reads smaps, see proc_pid_smaps(5): a line as in maps, then
// fields, of which VmFlags is kept.
func parseAreas(text string) []area {
	var areas []area
	for line := range strings.Lines(text) {
		if flags, ok := strings.CutPrefix(line, "VmFlags:"); ok && len(areas) > 0 {
			areas[len(areas)-1].flags = strings.Fields(flags)
			slices.Sort(areas[len(areas)-1].flags)
			continue
		}
		fields := strings.Fields(line)
		if len(fields) < 5 || strings.HasSuffix(fields[0], ":") {
			continue
		}
		var a area
		if _, err := fmt.Sscanf(fields[0]+" "+fields[2], "%x-%x %x", &a.start, &a.end, &a.offset); err != nil {
			continue
		}
		a.perms, a.path = fields[1], strings.Join(fields[5:], " ")
		if fields[4] != "0" {
			a.inode = fields[3] + ":" + fields[4]
		}
		areas = append(areas, a)
	}
	return areas
}

// numbers lists a directory's entries that are numbers, in order.
func numbers(dir string) []int {
	entries, _ := os.ReadDir(dir)
	var list []int
	for _, e := range entries {
		if n, err := strconv.Atoi(filepath.Base(e.Name())); err == nil {
			list = append(list, n)
		}
	}
	slices.Sort(list)
	return list
}
