package main

import (
	"errors"
	"fmt"
	"time"
)

const (
	diskRate  = 100  // writes a second that show what the disk itself does meanwhile
	loopRate  = 1000 // puts a second while a checkpoint is taken
	dirtyStep = 100  // every one of so many keys is changed: 1 %, in no two places alike
)

// runCheckpoint measures what others notice of a checkpoint, and what it
// writes when little has changed.
func runCheckpoint(c config) error {
	if c.only == "" {
		c.only = "durable,raft,redis"
	}
	list, err := choose(c.only)
	if err != nil {
		return err
	}
	size := float64(newState(c.keys, c.value).bytes())
	t := newTable(fmt.Sprintf("checkpoint: %d keys, %.0f MiB, all new, %d puts a second, median of %d rounds", c.keys, size/(1<<20), loopRate, c.rounds),
		"stall before ms", "stall ms", "disk ms", "took s", "memory %", "1 % changed: written %")
	for round := range c.rounds {
		for i := range list {
			m := list[(i+round)%len(list)]
			dir, remove, err := c.scratch(m.name)
			if err != nil {
				return err
			}
			do := c.task("checkpoint", m.name, dir)
			do.Budget = time.Hour // none is made before it is asked for
			r, err := do.do()
			if remove(); err != nil {
				return err
			}
			values := []float64{r["calm"] * 1e3, r["stall"] * 1e3, r["disk"] * 1e3, r["took"], 100 * r["memory"] / size}
			if n, ok := r["written"]; ok {
				values = append(values, 100*n/size)
			}
			t.add(m.name, values...)
		}
	}
	t.print()
	if len(t.values[[2]string{ours, "stall ms"}]) == 0 {
		return nil
	}
	stall := t.median(ours, "stall ms")
	atMost("longest stall, ms", stall, 25)
	if raft := t.median("raft", "stall ms"); raft > 0 {
		atMost("longest stall, of raft's", stall/raft, 1.0/30)
	}
	atMost("memory more than before, % of the state", t.median(ours, "memory %"), 5)
	atMost("written with 1 % changed, % of the state", t.median(ours, "1 % changed: written %"), 5)
	return nil
}

// checkpointState loads a state, takes a checkpoint of all of it while another
// writes, changes a little and takes one more.
func checkpointState(t task, m maker) (engine, result, error) {
	e, err := m.open(t.Dir, parallel)
	if err != nil {
		return nil, nil, err
	}
	s := newState(t.Keys, t.Value)
	if err := e.Load(s.pairs(1)); err != nil {
		return nil, nil, err
	}
	r := result{}
	if err := stallOf(e, s, r, t, m); err != nil {
		return nil, nil, err
	}
	if _, ok := e.(served); ok {
		return e, r, nil // others write for it
	}
	if err := e.Load(s.pairs(dirtyStep)); err != nil {
		return nil, nil, err
	}
	before, err := written(pidOf(e))
	if err != nil {
		return nil, nil, err
	}
	if err := e.Checkpoint(); err != nil {
		return nil, nil, err
	}
	after, err := written(pidOf(e))
	r["written"] = float64(after - before)
	return e, r, err
}

// stallOf takes the checkpoint beside the writer.
func stallOf(e engine, s state, r result, t task, m maker) error {
	f, err := openFloor(t.Dir + "-floor")
	if err != nil {
		return err
	}
	defer f.Close()
	loop, disk := startLoop(e, s, loopRate), startLoop(f, s, diskRate)
	time.Sleep(t.Calm / 2) // nothing is measured while it begins
	if _, err := loop.longest(); err != nil {
		return err
	}
	time.Sleep(t.Calm)
	before, err := loop.longest()
	if err != nil {
		return err
	}
	held, err := resetPeak(pidOf(e))
	if err != nil {
		return err
	}
	stop, err := config{profile: t.Profile}.startProfile(m.name, "checkpoint")
	if err != nil {
		return err
	}
	if _, err := disk.longest(); err != nil {
		return err
	}
	begun := time.Now()
	if err := e.Checkpoint(); err != nil {
		return err
	}
	took := time.Since(begun)
	stop()
	if err := errors.Join(loop.stop(), disk.stop()); err != nil {
		return err
	}
	stall, _ := loop.longest()
	alone, _ := disk.longest()
	most, err := peak(pidOf(e))
	r["calm"], r["stall"], r["disk"] = before.Seconds(), stall.Seconds(), alone.Seconds()
	r["took"], r["memory"] = took.Seconds(), float64(most-held)
	return err
}
