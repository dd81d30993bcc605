package engine

import (
	"fmt"
	"os"
	"strings"

	"github.com/wakepoint/wakepoint/internal/image"
)

// credentials is done per thread; here is what concerns the whole process.
func (d *dumper) credentials(p *process, q *image.Process) error {
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
	q.Umask, q.Dumpable, q.Subreaper, q.THPDisable = int(p.status.Umask), a.dumpable, a.subreaper, a.noTHP
	limits, err := d.proc.Limits(p.pid)
	if err != nil {
		return err
	}
	for i, l := range limits {
		q.Limits[i] = image.Limit{Soft: l.Soft, Hard: l.Hard}
	}
	if q.OOMScoreAdj, err = d.proc.OOMScoreAdj(p.pid); err != nil {
		return err
	}
	if filter, err := d.proc.CoredumpFilter(p.pid); err == nil {
		q.CoreFilter = int(filter)
	}
	for name, to := range map[string]*string{"cwd": &q.Cwd, "root": &q.Root} {
		if *to, err = os.Readlink(fmt.Sprintf("/proc/%d/%s", p.pid, name)); err != nil {
			return err
		}
		if strings.HasSuffix(*to, " (deleted)") {
			return refuse(p.pid, fmt.Sprintf("the %s directory %s of pid %d has been removed", name, *to, p.pid), "change to a directory that exists")
		}
	}
	return nil
}

// timers describes interval timers and POSIX timers. CPU-time clocks are
// those of the process or thread itself; others are refused.
func (d *dumper) timers(p *process, a *answers, q *image.Process) error {
	q.Itimers = a.itimers
	for _, t := range a.timers {
		if t.Clock < 0 && t.Clock != -6 && t.Clock != -2 {
			return refuse(p.pid, fmt.Sprintf("timer %d of pid %d runs on the CPU clock of another process", t.ID, p.pid), "")
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
