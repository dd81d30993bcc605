package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

const (
	steadyRate = 10_000 // commits a second
	killWithin = 4 * time.Second
)

// runBudget kills a process that commits, again and again, and counts how often
// the next one answered within RecoveryBudget.
func runBudget(c config) error {
	dir, remove, err := c.scratch(ours)
	if err != nil {
		return err
	}
	defer remove()
	if _, err := c.task("fill", ours, dir).do(); err != nil {
		return err
	}
	var took []float64
	rate := 0.0
	for range c.kills {
		if err := c.chill(dir); err != nil {
			return err
		}
		first, per, err := c.killOnce(dir)
		if err != nil {
			return err
		}
		took, rate = append(took, first), rate+per/float64(c.kills)
	}
	kept := 0
	for _, s := range took {
		if s <= c.budget.Seconds() {
			kept++
		}
	}
	fmt.Printf("\nbudget: %d keys, %d kills within %v of the first reply, at %.0f commits a second (%d meant)\n",
		c.keys, c.kills, killWithin, rate, steadyRate)
	fmt.Printf("  first reply: median %.0f ms, most %.0f ms\n", 1e3*median(took), 1e3*slices.Max(took))
	atLeast(fmt.Sprintf("%% of %d starts that answered within %v", c.kills, c.budget), 100*float64(kept)/float64(c.kills), 99)
	return nil
}

// killOnce starts a child on what the one before has left, and kills it at
// some time. It returns how long the first reply took, in seconds, and the
// commits a second.
func (c config) killOnce(dir string) (first, rate float64, err error) {
	cmd, out, said, err := c.task("steady", ours, dir).start()
	if err != nil {
		return 0, 0, err
	}
	lines, r := json.NewDecoder(out), result{}
	if err := lines.Decode(&r); err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return 0, 0, fmt.Errorf("no first reply: %w\n%s", err, bytes.TrimSpace(said.Bytes()))
	}
	alive := time.AfterFunc(time.Duration(rand.Int64N(int64(killWithin))), func() { _ = cmd.Process.Kill() })
	last := result{}
	for lines.Decode(&last) == nil { // until it is dead
	}
	if err := cmd.Wait(); alive.Stop() {
		return 0, 0, fmt.Errorf("it ended by itself: %w\n%s", err, bytes.TrimSpace(said.Bytes()))
	}
	return r["first"], last["rate"], nil
}

// steady answers once, says how long that took, and commits until it is killed.
func steady(t task, m maker) (engine, result, error) {
	s := newState(t.Keys, t.Value)
	e, first, err := openAndAsk(t, m, s)
	if err != nil {
		return nil, nil, err
	}
	if err := (result{"first": first.Seconds()}).print(); err != nil {
		return nil, nil, err
	}
	begun := time.Now()
	loop := startLoop(e, s, steadyRate)
	for {
		time.Sleep(100 * time.Millisecond)
		if _, err := loop.longest(); err != nil {
			return nil, nil, err
		}
		loop.mu.Lock()
		rate := float64(loop.count) / time.Since(begun).Seconds()
		loop.mu.Unlock()
		if err := (result{"rate": rate}).print(); err != nil {
			return nil, nil, err
		}
	}
}
