package keeper

import (
	"context"
	"os"

	"github.com/wakepoint/wakepoint/internal/api"
	"github.com/wakepoint/wakepoint/internal/engine"
	"github.com/wakepoint/wakepoint/internal/files"
)

// prepare begins the section of the workload's files, and copies into it while
// the program runs what need not wait for the freeze.
func (c *capture) prepare(ctx context.Context) error {
	k := c.k
	s, err := c.d.Section(files.SectionName, files.Inherits(k.index))
	if err != nil {
		return err
	}
	c.section = s
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	ended := k.tree.Done()
	go func() { // of one that has ended nothing need be read
		select {
		case <-ended:
			cancel(os.ErrProcessDone)
		case <-ctx.Done():
		}
	}()
	var open []files.Open
	defer func() { closeAll(open) }()
	now := func() (list []files.Open, err error) {
		open, err = k.tree.Written()
		return open, err
	}
	c.ready, err = files.Prepare(k.fileOptions(), now, &running{ctx, s})
	return err
}

// fileOptions says what is captured, beside what the tree holds open.
func (k *keeper) fileOptions() files.Options {
	return files.Options{
		Trees:  k.rec.policy.Data,
		Except: k.except(),
		Keep:   k.rec.policy.Files == api.FilesKeep,
		Last:   k.index,
	}
}

// running is a section that takes contents as long as somebody wants them.
type running struct {
	ctx context.Context
	s   engine.SectionSink
}

func (r *running) Put(off int64, p []byte) error {
	if r.ctx.Err() != nil {
		return context.Cause(r.ctx)
	}
	return r.s.Put(off, p)
}

func (r *running) Zero(off, n int64) error { return r.s.Zero(off, n) }
