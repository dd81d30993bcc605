package keeper

import (
	"context"
	"os"

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
	defer func() { files.CloseAll(open) }()
	now := func() (list []files.Open, err error) {
		open, err = k.tree.Written()
		return open, err
	}
	o, _ := k.fileOptions()
	c.ready, err = files.Prepare(o, now, &running{ctx, s})
	return err
}

// fileOptions says what is captured, beside what the tree holds open: b is
// what it has written and closed, nil when nobody watches.
func (k *keeper) fileOptions() (o files.Options, b *files.Batch) {
	o = files.Options{
		Trees:  k.rec.policy.Data,
		Except: k.except(),
		Keep:   keepsFiles(k.rec.policy),
		Last:   k.index,
		Follow: k.written.names,
	}
	if w := k.written.w; w != nil {
		b = w.Collect()
		o.Written, o.Gone = b.Files, b.Gone
	}
	return o, b
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
