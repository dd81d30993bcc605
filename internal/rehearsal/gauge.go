package rehearsal

import (
	"context"
	"time"

	"github.com/wakepoint/wakepoint/internal/files"
	"github.com/wakepoint/wakepoint/internal/sandbox"
)

// gauge looks at what room there is while a rehearsal goes on. A program that is
// told that there is none may give all of it back before it dies: to open a file
// for writing that cannot be copied does so.
//
// BUG: what is taken and given back between two looks is not seen.
type gauge struct {
	ctx   context.Context // ends when a file system runs short
	stop  context.CancelFunc
	done  chan struct{}
	least int64 // bytes that were left; after end
	short error // what ran short; after end
}

// look begins to look.
func look(ctx context.Context, room *sandbox.Room, in *files.StandIns) *gauge {
	g := &gauge{done: make(chan struct{}), least: room.Left()}
	g.ctx, g.stop = context.WithCancel(ctx)
	go func() {
		defer close(g.done)
		tick := time.NewTicker(lookEvery)
		defer tick.Stop()
		for {
			g.least = min(g.least, room.Left())
			if g.short = in.Short(); g.short != nil {
				g.stop()
			}
			select {
			case <-g.ctx.Done():
				return
			case <-tick.C:
			}
		}
	}()
	return g
}

// end ends the looking.
func (g *gauge) end() {
	g.stop()
	<-g.done
}
