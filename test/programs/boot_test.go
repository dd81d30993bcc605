//go:build linux

package programs

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"
)

// occupiedMax is how many of the old process numbers are given to others.
const occupiedMax = 12

// crash kills everything at once, as a power cut would: whatever executes the
// binary under test, parents first so that nobody restarts anybody, then the
// namespace's init and every process of the tree. Then it takes away what a
// boot takes away. In a plain or calm run it does nothing.
func (r *rig) crash() {
	r.t.Helper()
	if session.calm {
		return
	}
	inside := r.tree()
	victims := append(keepers(), inside...)
	doomed := r.temporaries(inside)
	grips, err := hold(unique(victims))
	if err != nil {
		r.t.Fatal(err)
	}
	defer release(grips)
	if err := killAll(grips); err != nil {
		r.t.Fatal(err)
	}
	if left := keepers(); len(left) > 0 {
		r.killRest(left)
	}
	for _, p := range inside {
		if now, err := readProcess(p.pid); err == nil && now.nspid == p.nspid && now.name == p.name && !ended(p.pid) {
			r.t.Fatalf("pid %d (%s) outlived its namespace's init", p.pid, p.name)
		}
	}
	for _, path := range append(doomed, r.shm) {
		if err := os.RemoveAll(path); err != nil {
			r.t.Fatal(err)
		}
	}
	r.wake()
	r.occupy(inside)
}

// killRest kills what was born while the others died.
func (r *rig) killRest(list []process) {
	r.t.Helper()
	for range 10 {
		grips, err := hold(list)
		if err != nil {
			r.t.Fatal(err)
		}
		err = killAll(grips)
		release(grips)
		if err != nil {
			r.t.Fatal(err)
		}
		if list = keepers(); len(list) == 0 {
			return
		}
	}
	r.t.Fatalf("processes %v will not end", list)
}

func unique(list []process) []process {
	seen := map[int]bool{}
	return slices.DeleteFunc(list, func(p process) bool {
		double := seen[p.pid]
		seen[p.pid] = true
		return double
	})
}

// temporaries lists the files below /dev/shm that a tree has open or mapped:
// a boot empties it. (r.shm goes as a whole, sockets and directories included;
// SysV objects of the workload's own namespace die with it.)
func (r *rig) temporaries(list []process) []string {
	found := map[string]bool{}
	note := func(path string) {
		if strings.HasPrefix(path, "/dev/shm/") && !strings.HasSuffix(path, " (deleted)") {
			found[path] = true
		}
	}
	for _, p := range list {
		for _, kind := range []string{"fd", "map_files"} {
			entries, _ := os.ReadDir(proc(p.pid, kind))
			for _, e := range entries {
				if link, err := os.Readlink(proc(p.pid, kind, e.Name())); err == nil {
					note(link)
				}
			}
		}
	}
	paths := slices.Collect(maps.Keys(found))
	for _, path := range paths {
		r.used[path] = true
	}
	return paths
}

// occupy moves the PID counter and gives the old numbers to sleepers, as far
// as that is possible beside everything else that starts processes here.
func (r *rig) occupy(old []process) {
	taken := 0
	for i, p := range old {
		if i == occupiedMax {
			break
		}
		if r.sleepAs(p.pid) {
			taken++
		}
	}
	elsewhere := 2000 + rand.IntN(28000)
	if err := setLastPID(elsewhere); err != nil {
		r.t.Logf("the PID counter stays: %v", err)
	}
	r.t.Logf("%d of %d old process numbers are taken, the counter is at %d", taken, len(old), elsewhere)
}

// setLastPID makes the next process number pid+1.
func setLastPID(pid int) error {
	return os.WriteFile("/proc/sys/kernel/ns_last_pid", []byte(strconv.Itoa(pid)), 0)
}

// sleepAs starts a sleeper with a given number; others may be faster.
func (r *rig) sleepAs(pid int) bool {
	for range 3 {
		if _, err := os.Stat(proc(pid)); err == nil {
			return false
		}
		if setLastPID(pid-1) != nil {
			return false
		}
		cmd := exec.Command("sleep", "1000")
		if cmd.Start() != nil {
			return false
		}
		r.sleepers = append(r.sleepers, cmd)
		if cmd.Process.Pid == pid {
			return true
		}
	}
	return false
}

// wake ends the sleepers.
func (r *rig) wake() {
	for _, cmd := range r.sleepers {
		cmd.Process.Kill()
		cmd.Wait()
	}
	r.sleepers = nil
}

// leftovers is what a test could leave behind on the host.
type leftovers struct {
	sysv    []string
	mounts  []string
	sockets []string
}

// look takes stock of the host.
func look() leftovers {
	var l leftovers
	for _, kind := range []string{"shm", "sem", "msg"} {
		for _, fields := range table("/proc/sysvipc/" + kind) {
			l.sysv = append(l.sysv, fmt.Sprintf("SysV %s key %s id %s", kind, fields[0], fields[1]))
		}
	}
	for _, fields := range table("/proc/net/unix") {
		if path := fields[len(fields)-1]; len(fields) == 8 {
			l.sockets = append(l.sockets, "socket "+path)
		}
	}
	for _, fields := range table("/proc/self/mountinfo") {
		l.mounts = append(l.mounts, "mount "+fields[4])
	}
	return l
}

// table reads a table of /proc into its fields.
func table(path string) [][]string {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	var rows [][]string
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) > 4 {
			rows = append(rows, fields)
		}
	}
	return rows
}

// missing lists what a later look has that this one had not. Sockets and
// mounts count when they name one of the places: others work on this host too.
func (l leftovers) missing(after leftovers, places ...string) []string {
	var list []string
	extra := func(before, after []string, must bool) {
		for _, item := range after {
			named := slices.ContainsFunc(places, func(p string) bool { return strings.Contains(item, p) })
			if !slices.Contains(before, item) && (must || named) {
				list = append(list, item)
			}
		}
	}
	extra(l.sysv, after.sysv, true)
	extra(l.sockets, after.sockets, false)
	extra(l.mounts, after.mounts, false)
	return list
}

// idle sleeps for a time between the two.
func idle(from, to time.Duration) { time.Sleep(from + rand.N(to-from)) }
