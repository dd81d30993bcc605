package engine

import (
	"fmt"

	"github.com/wakepoint/wakepoint/internal/image"
)

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
