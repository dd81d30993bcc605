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
	var took, rates, waits []float64
	for range c.kills {
		if err := c.chill(dir); err != nil {
			return err
		}
		first, last, err := c.killOnce(dir)
		if err != nil {
			return err
		}
		took = append(took, first)
		if rate, ok := last["rate"]; ok { // it lived long enough to say
			rates, waits = append(rates, rate), append(waits, last["wait"])
		}
	}
	kept := 0
	for _, s := range took {
		if s <= c.budget.Seconds() {
			kept++
		}
	}
	fmt.Printf("\nbudget: %d keys, %d kills within %v of the first reply, at %.0f commits a second (%d meant)\n",
		c.keys, c.kills, killWithin, median(rates), steadyRate)
	fmt.Printf("  first reply: median %.0f ms, most %.0f ms\n", 1e3*median(took), 1e3*slices.Max(took))
	fmt.Printf("  longest wait for a commit in each life: median %.0f ms, most %.0f ms\n", 1e3*median(waits), 1e3*slices.Max(append(waits, 0)))
	atLeast(fmt.Sprintf("%% of %d starts that answered within %v", c.kills, c.budget), 100*float64(kept)/float64(c.kills), 99)
	return nil
}

// killOnce starts a child on what the one before has left, and kills it at
// some time. It returns how long the first reply took, in seconds, and what was
// last heard of it.
func (c config) killOnce(dir string) (first float64, last result, err error) {
	cmd, out, said, err := c.task("steady", ours, dir).start()
	if err != nil {
		return 0, nil, err
	}
	lines, r := json.NewDecoder(out), result{}
	if err := lines.Decode(&r); err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return 0, nil, fmt.Errorf("no first reply: %w\n%s", err, bytes.TrimSpace(said.Bytes()))
	}
	alive := time.AfterFunc(time.Duration(rand.Int64N(int64(killWithin))), func() { _ = cmd.Process.Kill() })
	last = result{}
	for lines.Decode(&last) == nil { // until it is dead
	}
	if err := cmd.Wait(); alive.Stop() {
		return 0, nil, fmt.Errorf("it ended by itself: %w\n%s", err, bytes.TrimSpace(said.Bytes()))
	}
	return r["first"], last, nil
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
	begun, wait := time.Now(), time.Duration(0)
	loop := startLoop(e, s, steadyRate)
	for {
		time.Sleep(100 * time.Millisecond)
		worst, err := loop.longest()
		if err != nil {
			return nil, nil, err
		}
		wait = max(wait, worst)
		loop.mu.Lock()
		rate := float64(loop.count) / time.Since(begun).Seconds()
		loop.mu.Unlock()
		if err := (result{"rate": rate, "wait": wait.Seconds()}).print(); err != nil {
			return nil, nil, err
		}
	}
}
