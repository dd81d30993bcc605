package keeper

import (
	"context"
	"time"

	"github.com/wakepoint/wakepoint/internal/engine"
)

// lateMachine is the engine, in simulated time.
type lateMachine struct {
	realMachine
	now *time.Time
}

func (m lateMachine) Start(ctx context.Context, o engine.StartOptions) (tree, error) {
	return m.late(m.realMachine.Start(ctx, o))
}

func (m lateMachine) Restore(ctx context.Context, s engine.Source, o engine.RestoreOptions) (restored, error) {
	r, err := m.realMachine.Restore(ctx, s, o)
	if err != nil {
		return nil, err
	}
	return lateRestored{r, m}, nil
}

func (m lateMachine) late(t tree, err error) (tree, error) {
	if err != nil {
		return nil, err
	}
	return lateTree{t.(realTree), m.now}, nil
}

type lateRestored struct {
	restored
	m lateMachine
}

func (r lateRestored) Run() (tree, error) { return r.m.late(r.restored.Run()) }

type lateTree struct {
	realTree
	now *time.Time
}

func (t lateTree) Freeze(ctx context.Context) (frozen, error) {
	f, err := t.realTree.Freeze(ctx)
	if err != nil {
		return nil, err
	}
	return lateFrozen{f, *t.now}, nil
}

// lateFrozen says that it was frozen at a simulated instant.
type lateFrozen struct {
	frozen
	since time.Time
}

func (f lateFrozen) Since() time.Time { return f.since }
