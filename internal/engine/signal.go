package engine

import (
	"github.com/wakepoint/wakepoint/internal/image"
)

// signals describes the process's dispositions and its shared queue.
func (d *dumper) signals(p *process, a *answers, q *image.Process) error {
	q.Actions = a.actions
	var err error
	if q.Pending, err = pending(p.leader(), true); err != nil {
		return err
	}
	q.StopSignal = p.leader().Group
	return nil
}
