package engine

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/wakepoint/wakepoint/internal/abi"
	"github.com/wakepoint/wakepoint/internal/image"
	"github.com/wakepoint/wakepoint/internal/tape"
	"github.com/wakepoint/wakepoint/internal/tracee"
)

const (
	getRegistrations = 1 << 9 // of membarrier(2), since Linux 6.3
	nodesMax         = 1024   // of a memory policy
)

// credentials is done per thread; here is what concerns the whole process, and
// refuses what cannot be put back.
//
// BUG: Landlock's confinement is lost. The kernel shows it to nobody, and it
// answers like missing rights do.
func (d *dumper) credentials(p *process) error {
	const flusher = 0x80000 | 0x100000 // PF_MEMALLOC_NOIO, PF_LOCAL_THROTTLE
	if p.stat.Flags&flusher == flusher {
		_ = d.f.note(refuse(p.pid, fmt.Sprintf("pid %d serves a block device or file system (PR_SET_IO_FLUSHER)", p.pid), "what the kernel waits for cannot be stopped"))
	}
	if m := p.status.Memory.UntagMask; m != 0 && m != ^uint64(0) {
		_ = d.f.note(refuse(p.pid, fmt.Sprintf("pid %d uses tagged addresses", p.pid), "start it without them"))
	}
	if label, err := d.proc.ProcessFile(p.pid, "attr/current"); err == nil {
		l := strings.TrimRight(string(label), "\x00\n")
		if l != "" && l != "unconfined" && !strings.Contains(l, "unconfined_t") && l != "kernel" {
			return refuse(p.pid, fmt.Sprintf("pid %d is confined by a security module (%s)", p.pid, l), "its profile cannot be put back yet")
		}
	}
	return nil
}

// attributes describes the rest of a process.
func (d *dumper) attributes(p *process, a *answers, q *image.Process) error {
	q.Umask, q.Dumpable, q.Settings, q.Barriers = int(p.status.Umask), a.dumpable, a.settings, a.barriers
	limits, err := d.proc.Limits(p.pid)
	if err != nil {
		return err
	}
	if q.LockFuture, err = d.lockFuture(p); err != nil {
		return err
	}
	for i, l := range limits {
		q.Limits[i] = image.Limit{Soft: l.Soft, Hard: l.Hard}
	}
	if q.OOMScoreAdj, err = d.proc.OOMScoreAdj(p.pid); err != nil {
		return err
	}
	if q.PID == q.SID {
		q.Autogroup = d.autogroup(p.pid)
	}
	if filter, err := d.proc.CoredumpFilter(p.pid); err == nil {
		q.CoreFilter = int(filter)
	}
	for name, to := range map[string]*string{"cwd": &q.Cwd, "root": &q.Root} {
		if *to, err = os.Readlink(fmt.Sprintf("/proc/%d/%s", p.pid, name)); err != nil {
			return err
		}
		if strings.HasSuffix(*to, " (deleted)") {
			_ = d.f.note(refuse(p.pid, fmt.Sprintf("the %s directory %s of pid %d has been removed", name, *to, p.pid), "change to a directory that exists"))
		}
	}
	return nil
}

// autogroup is the nice value of a session, "/autogroup-25 nice 0" (sched(7)).
func (d *dumper) autogroup(pid int) (nice int) {
	b, _ := d.proc.ProcessFile(pid, "autogroup")
	_, _ = fmt.Sscanf(string(b), "/autogroup-%d nice %d", new(int), &nice)
	return nice
}

// lockFuture finds out what mlockall(2) said of mappings to come: a new one
// has it. Only a program that has something locked is asked.
func (d *dumper) lockFuture(p *process) (int, error) {
	if p.status.Memory.LckKB == 0 {
		return 0, nil
	}
	nr, how := &d.f.tree.arch.NR, 0
	var tp tape.Tape
	at := tp.Add("mmap", nr.Mmap, tape.N(0), tape.N(abi.PageSize), tape.N(unix.PROT_NONE),
		tape.N(unix.MAP_SHARED|unix.MAP_ANONYMOUS), tape.N(^uint64(0)))
	tp.Pause()
	tp.Add("munmap", nr.Munmap, tp.Result(at), tape.N(abi.PageSize))
	_, err := p.leader().Play(&p.space.space, &tp, func(r *tracee.Played) error {
		list, err := d.proc.Smaps(p.pid)
		for _, m := range list {
			if m.Start != uint64(r.Results[at]) {
				continue
			}
			if m.Flags.Has("lo") {
				how |= unix.MCL_FUTURE
			}
			if m.Flags.Has("lf") {
				how |= unix.MCL_ONFAULT
			}
		}
		return err
	})
	return how, err
}

// timers describes interval timers and POSIX timers. CPU-time clocks are
// those of the process or thread itself; others are refused.
func (d *dumper) timers(p *process, a *answers, q *image.Process) error {
	q.Itimers = a.itimers
	for _, t := range a.timers {
		if t.Clock < 0 && t.Clock != -6 && t.Clock != -2 {
			return refuse(p.pid, fmt.Sprintf("timer %d of pid %d runs on the CPU clock of another process", t.ID, p.pid), "let it measure its own time, or start it without that timer")
		}
		if t.Notify&4 != 0 {
			target := 0
			for i, th := range p.threads {
				if th.TID == t.Target {
					target = p.threads[i].NSTID
				}
			}
			t.Target = target
		}
		q.Timers = append(q.Timers, t)
	}
	return nil
}
