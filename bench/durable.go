package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wakepoint/wakepoint/durable"
)

// item is a value as a server has them: a struct, which the default codec
// encodes. The rivals are given the bytes alone.
type item struct {
	Version uint32 `cbor:"1,keyasint"`
	Data    []byte `cbor:"2,keyasint"`
}

// durableEngine is the package that is measured.
type durableEngine struct {
	db    *durable.DB
	found *durable.Recovery
	items *durable.Table[string, item]
}

func openDurable(dir string, _ int) (engine, error) { return openOurs(durable.Options{Dir: dir}) }

// budgeted opens one that makes its checkpoints for another RecoveryBudget.
func budgeted(budget time.Duration) func(string, int) (engine, error) {
	return func(dir string, _ int) (engine, error) {
		return openOurs(durable.Options{Dir: dir, RecoveryBudget: budget})
	}
}

func openOurs(o durable.Options) (engine, error) {
	d := &durableEngine{items: durable.NewTable[string, item]("items")}
	var err error
	d.db, d.found, err = durable.Open(context.Background(), o, d.items)
	return d, err
}

func (d *durableEngine) Put(key string, value []byte) error {
	return d.db.Update(context.Background(), func(tx *durable.Tx) error {
		d.items.Put(tx, key, item{1, value})
		return nil
	})
}

func (d *durableEngine) Get(key string) (value []byte, err error) {
	return value, d.db.View(context.Background(), func(tx *durable.Tx) error {
		it, _ := d.items.Get(tx, key)
		value = it.Data
		return nil
	})
}

func (d *durableEngine) Load(pairs iter.Seq2[string, []byte]) error {
	for list := range batches(pairs, 1000) {
		err := d.db.Update(context.Background(), func(tx *durable.Tx) error {
			for _, p := range list {
				d.items.Put(tx, p.key, item{1, p.value})
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (d *durableEngine) Scan() (n int, err error) {
	return n, d.db.View(context.Background(), func(tx *durable.Tx) error {
		for range d.items.All(tx) {
			n++
		}
		return nil
	})
}

// Wait: it is loaded in the background.
func (d *durableEngine) Wait() error { return d.db.Load(context.Background()) }

func (d *durableEngine) Checkpoint() error { return d.db.Checkpoint(context.Background()) }

func (d *durableEngine) Close() error { return d.db.Close() }

// newest is the number of the newest generation.
func (d *durableEngine) newest() uint64 {
	if list := d.db.Generations(); len(list) > 0 {
		return uint64(list[0].Number)
	}
	return 0
}

// fullWithin is how long logFull waits for a checkpoint that comes by itself.
const fullWithin = 10 * time.Minute

// logFull commits as fast as it can until the log is nearly as long as it is
// ever let to be: as many commits came since a checkpoint ended as came between
// any two of them before, less a little. Then comes the crash.
func logFull(t task, m maker) (engine, result, error) {
	e, err := m.open(t.Dir, parallel)
	if err != nil {
		return nil, nil, err
	}
	d, s := e.(*durableEngine), newState(t.Keys, t.Value)
	var count atomic.Int64
	failed := make(chan error, 1)
	go func() { failed <- putForever(e, s, &count) }()
	begun, last, since, most := time.Now(), d.newest(), int64(0), int64(0)
	for ends := 0; ends < 3 || count.Load()-since < most*9/10; {
		select {
		case err := <-failed:
			return nil, nil, err
		case <-time.After(time.Millisecond):
		}
		if time.Since(begun) > fullWithin {
			return nil, nil, fmt.Errorf("no checkpoint came by itself within %v", fullWithin)
		}
		if n := d.newest(); n != last {
			now := count.Load()
			last, ends, since, most = n, ends+1, now, max(most*9/10, now-since) // one that never comes again is forgotten
		}
	}
	return e, result{"commits": float64(count.Load() - since)}, nil
}

// putForever commits until that fails, and counts.
func putForever(e putter, s state, count *atomic.Int64) error {
	var wg sync.WaitGroup
	errs := make([]error, parallel)
	for w := range parallel {
		wg.Go(func() {
			for errs[w] == nil {
				errs[w] = putAny(e, s)
				count.Add(1)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}
