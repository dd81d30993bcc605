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

// startedTwice starts what runs, and starts what does not run twice at the same
// time: there is always one program, and it goes on.
func startedTwice(g *rig) {
	g.boot()
	g.protect("counter")
	before := g.status("counter")
	g.must("systemctl start wakepoint@counter.service && systemctl start wakepoint-recover.service && wakepoint recover")
	g.refused("wakepoint _unit counter", 11, "")
	g.must("systemctl is-active wakepoint@counter.service")
	if after := g.status("counter"); after.PID != before.PID || after.KeeperPID != before.KeeperPID {
		g.t.Errorf("%+v, then %+v", before, after)
	}
	count := g.goesOn("counter", 0)
	g.must("systemctl restart wakepoint@counter.service & systemctl restart wakepoint@counter.service; wait")
	count = g.goesOn("counter", count)
	g.must("systemctl stop wakepoint@counter.service")
	if s := g.status("counter"); s.State != "down" {
		g.t.Errorf("stopped by its unit it is %s", s.State)
	}
	g.show("systemctl start wakepoint@counter.service & wakepoint start counter & wakepoint recover; wait")
	g.until("systemctl is-active wakepoint@counter.service")
	g.goesOn("counter", count)
	if out := g.must("pgrep -fxc '" + working("counter") + "'"); out != "1\n" {
		g.t.Errorf("%s programs run", out)
	}
	g.must("wakepoint verify")
}

// credential has systemd hand over the key, encrypted to the machine, as
// security.md says, and takes the key file away.
func credential(g *rig) {
	g.boot()
	g.protect("counter")
	g.must("mkdir -p /etc/credstore.encrypted && systemd-creds encrypt --name=wakepoint.key /etc/wakepoint/key /etc/credstore.encrypted/wakepoint.key")
	for _, unit := range []string{"wakepoint-recover.service", "wakepoint@.service"} {
		g.write("/etc/systemd/system/"+unit+".d/override.conf", "[Service]\nLoadCredentialEncrypted=wakepoint.key\n")
	}
	g.must("systemctl daemon-reload")
	count := g.promised("counter")
	g.shutDown("reboot")
	g.boot()
	g.must("rm /etc/wakepoint/key")
	count = g.goesOn("counter", count)
	g.shutDown("reboot")
	g.boot()
	g.show("systemctl --no-pager status wakepoint-recover.service; ls -l /etc/wakepoint")
	count = g.goesOn("counter", count)
	g.protect("second") // which finds the key as well
	g.must(fmt.Sprintf("kill -KILL %d", g.status("counter").KeeperPID))
	g.until("sleep 2; wakepoint checkpoint counter")
	count, second := g.promised("counter"), g.promised("second")
	g.cut()
	g.boot()
	g.goesOn("counter", count)
	g.goesOn("second", second)
	g.must("wakepoint verify && test ! -e /etc/wakepoint/key")
}

// oneStuck has one program whose port was taken, and one whose generations are
// damaged: each says why it does not come back, and the others do.
func oneStuck(g *rig) {
	g.boot()
	g.protect("counter")
	g.protect("spoilt")
	const listens = "/usr/bin/systemd-socket-activate -l 127.0.0.1:7000 /bin/cat"
	g.must("wakepoint run -d --name listener -- " + listens)
	g.promised("spoilt")
	g.must("wakepoint checkpoint listener")
	g.write("/etc/systemd/system/taker.service", "[Unit]\nBefore=wakepoint-recover.service\n[Service]\nExecStart="+listens+"\n[Install]\nWantedBy=multi-user.target\n")
	g.must("systemctl enable taker.service")
	count := g.promised("counter")
	g.must("wakepoint stop spoilt && systemctl daemon-reload && sync")
	g.must("wakepoint start spoilt && systemctl kill -s KILL wakepoint@spoilt.service; cd /var/lib/wakepoint/workloads/spoilt; " +
		"find . -type f -size +300c ! -name '*.log' | while read f; do printf xxxx | dd of=$f bs=1 seek=200 conv=notrunc 2>/dev/null; done; sync")
	g.cut()
	g.boot()
	g.goesOn("counter", count)
	g.refused("systemctl --no-pager status wakepoint-recover.service", 0, "status=3")
	g.refused("journalctl --no-pager -b -o cat _SYSTEMD_UNIT=wakepoint-recover.service", 0, "7000")
	g.refused("wakepoint recover", 3, "spoilt")
	g.show("wakepoint ps; wakepoint status listener; wakepoint status spoilt")
	g.must("systemctl stop taker.service && wakepoint start listener")
	g.until("systemctl is-active wakepoint@listener.service")
	g.goesOn("counter", count)
}
