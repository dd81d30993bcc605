package main

import (
	"fmt"
	"slices"
)

// logRecordsOf is how many records the log has that is recovered with the state.
const logRecordsOf = 10_000

// runRecovery measures how long a state takes to be there again after a crash,
// from a disk of which nothing is in the page cache.
func runRecovery(c config) error {
	if c.only == "" {
		c.only = "durable,raft,redis"
	}
	list, err := choose(c.only)
	if err != nil {
		return err
	}
	s := newState(c.keys, c.value)
	size := float64(s.bytes())
	columns := []string{"first ms", "from start ms", "all s", "peak MiB", "peak/state", "records", "open ms"}
	t := newTable(fmt.Sprintf("recovery: %d keys, %.0f MiB, cold, %d records of log, median of %d rounds", c.keys, size/(1<<20), logRecordsOf, c.rounds), columns...)
	full := newTable(fmt.Sprintf("recovery with a full log: the same, median of %d rounds", c.rounds), columns...)
	dirs := map[string]string{}
	for _, m := range list {
		dir, remove, err := c.scratch(m.name)
		if err != nil {
			return err
		}
		defer remove()
		dirs[m.name] = dir
		if _, err := c.task("fill", m.name, dir).do(); err != nil {
			return err
		}
	}
	for round := range c.rounds {
		for i := range list {
			name := list[(i+round)%len(list)].name
			if err := c.recoverOnce(t, "log", name, dirs[name], size); err != nil {
				return err
			}
		}
	}
	t.print()
	judgeRecovery(t)
	if dirs[ours] == "" {
		return nil
	}
	for range c.rounds {
		if err := c.recoverOnce(full, "full", ours, dirs[ours], size); err != nil {
			return err
		}
	}
	full.print()
	atMost("first reply with a full log, the slowest, seconds", slices.Max(full.values[[2]string{ours, "first ms"}])/1e3, c.budget.Seconds())
	return nil
}

// recoverOnce lets a child write a log and crash, and another one recover.
func (c config) recoverOnce(t *table, before, engine, dir string, size float64) error {
	do := c.task(before, engine, dir)
	do.Log = logRecordsOf
	if _, err := do.do(); err != nil {
		return err
	}
	if err := c.chill(dir); err != nil {
		return err
	}
	r, err := c.task("recover", engine, dir).do()
	if err != nil {
		return err
	}
	values := []float64{r["first"] * 1e3, r["process"] * 1e3, r["all"], r["peak"] / (1 << 20), r["peak"] / size}
	if engine == ours {
		values = append(values, r["records"], r["open"]*1e3)
	}
	t.add(engine, values...)
	return nil
}

func judgeRecovery(t *table) {
	if len(t.values[[2]string{ours, "all s"}]) == 0 {
		return
	}
	atMost("first reply, ms", t.median(ours, "first ms"), 100)
	for _, rival := range []string{"redis", "raft"} {
		if all := t.median(rival, "all s"); all > 0 {
			atMost("all in memory, of "+rival+"'s time", t.median(ours, "all s")/all, 1.0/3)
		}
	}
	atMost("peak memory, of the state", t.median(ours, "peak/state"), 1.3)
}
