//go:build linux && vmsystemd

package systemd

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// status is what is looked at of `status -o json`.
type status struct {
	State      string
	PID        int
	KeeperPID  int `json:"keeper_pid"`
	Generation string
	Recovery   *struct{ Generation string } `json:"last_recovery"`
}

func (g *rig) status(name string) (s status) {
	g.t.Helper()
	if err := json.Unmarshal([]byte(g.must("wakepoint status "+name+" -o json")), &s); err != nil {
		g.t.Fatal(err)
	}
	return s
}

// working is the command line of the program that counts, in a directory of its
// own.
func working(name string) string { return "program work /srv/" + name + " 1" }

// protect starts the program that counts, under protection.
func (g *rig) protect(name string) {
	g.t.Helper()
	g.must("wakepoint run -d --name " + name + " -- " + working(name))
}

// count returns how far the program is. It must have found everything right.
func (g *rig) count(name string) uint64 {
	g.t.Helper()
	var count, wrong uint64
	out := g.must("program look /srv/" + name)
	if _, err := fmt.Sscan(out, &count, &wrong); err != nil || wrong != 0 {
		g.t.Fatalf("%s says of itself: %q, %v", name, out, err)
	}
	return count
}

// onward is how far a program must come to have compared everything, twice.
const onward = 100

// goesOn waits until a program has counted on from at least a number, and
// finds everything as it was. It returns the number at which it was found.
func (g *rig) goesOn(name string, least uint64) uint64 {
	g.t.Helper()
	first := g.count(name)
	if first < least {
		g.t.Fatalf("%s goes on at %d and had come to %d", name, first, least)
	}
	for g.count(name) < first+onward {
		if g.ctx.Err() != nil {
			g.t.Fatalf("%s stands still at %d", name, g.count(name))
		}
		time.Sleep(100 * time.Millisecond)
	}
	return first
}

// promised takes a generation, and returns how far the program was before.
func (g *rig) promised(name string) uint64 {
	g.t.Helper()
	count := g.count(name)
	generation := strings.TrimSpace(g.must("wakepoint checkpoint " + name))
	g.t.Logf("%s: %s is promised, at %d or later", name, generation, count)
	return count
}
