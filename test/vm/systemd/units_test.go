//go:build linux && vmsystemd

package systemd

import (
	"fmt"
	"time"
)

// keeperKilled kills a keeper: its unit starts the next one, and the program
// does not notice.
func keeperKilled(g *rig) {
	g.boot()
	g.protect("counter")
	// What the program speaks to: as long as it is the same socket, nothing that
	// is connected to it is lost.
	const ear = "awk '/counter-.*notify/ { print $7, $8 }' /proc/net/unix"
	socket := g.must(ear)
	for range 3 {
		before, count := g.status("counter"), g.promised("counter")
		g.must(fmt.Sprintf("kill -KILL %d", before.KeeperPID))
		after := before
		for after.KeeperPID == before.KeeperPID || after.KeeperPID == 0 || after.State != "running" {
			if g.ctx.Err() != nil {
				g.t.Fatalf("no other keeper comes: %+v", after)
			}
			time.Sleep(200 * time.Millisecond)
			after = g.status("counter")
		}
		g.t.Logf("keeper %d was killed, keeper %d took over; the program is %d and was %d", before.KeeperPID, after.KeeperPID, after.PID, before.PID)
		if after.PID != before.PID || after.Recovery != nil {
			g.t.Errorf("the program was not left alone: %+v, then %+v", before, after)
		}
		if now := g.must(ear); now != socket || socket == "" {
			g.t.Errorf("it speaks to %q, and spoke to %q", now, socket)
		}
		g.goesOn("counter", count)
		g.promised("counter")
	}
	g.must("systemctl is-active wakepoint@counter.service")
	g.must("wakepoint verify")
}
