package files

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
)

// kin knows which processes descend from a root. One that has ended is taken
// for what it was when it was last looked at.
type kin struct {
	root  int
	known map[int]bool // what was seen, of processes that may have ended
	fresh map[int]bool // what was seen since begin
}

func newKin(root int) *kin {
	k := &kin{root: root, known: map[int]bool{}}
	k.begin()
	return k
}

const kinMax = 65536

// begin says that what was seen must be looked at anew.
func (k *kin) begin() {
	k.fresh = map[int]bool{}
	if len(k.known) > kinMax {
		clear(k.known)
	}
}

// is says whether a process descends from the root, and whether that is known.
func (k *kin) is(pid int) (ours, known bool) {
	var line []int
	for p := pid; ; {
		if v, ok := k.fresh[p]; ok {
			ours = v
			break
		}
		line = append(line, p)
		if p == k.root || p <= 1 {
			ours = p == k.root
			break
		}
		next, ok := parentOf(p)
		if !ok {
			if len(line) > 1 { // its parent has just ended: look again
				return k.is(pid)
			}
			ours, known = k.known[pid]
			return ours, known
		}
		p = next
	}
	for _, p := range line {
		k.fresh[p], k.known[p] = ours, ours
	}
	return ours, true
}

// parentOf is the parent of a process (proc_pid_stat(5), field 4).
func parentOf(pid int) (int, bool) {
	p, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, false
	}
	f := bytes.Fields(p[bytes.LastIndexByte(p, ')')+1:])
	if len(f) < 2 {
		return 0, false
	}
	n, err := strconv.Atoi(string(f[1]))
	return n, err == nil
}

// ours says whether the workload wrote a file. What a process wrote that has
// ended, and that nobody had looked at before, may be anybody's: it is not
// taken, since a restore would roll back the files of others; but it is told.
func (w *Watch) ours(pid int, path string) bool {
	ours, known := w.kin.is(pid)
	if !known {
		w.missed.unknown++
		w.missed.example = path
	}
	return ours
}
