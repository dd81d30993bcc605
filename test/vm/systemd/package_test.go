//go:build linux && vmsystemd

package systemd

import (
	"strings"
)

// packageInstalled installs the package on a machine that runs. What it leaves is
// what all others begin with.
func packageInstalled(g *rig) {
	g.boot()
	g.show("dpkg -i /opt/wakepoint.deb")
	g.must("wakepoint version")
	if out := g.show("wakepoint doctor"); !strings.Contains(out, "a boot brings back what was running") {
		g.t.Error("doctor does not find the units")
	}
	g.must("systemctl is-enabled wakepoint-recover.service")
	g.until("systemctl is-active wakepoint-recover.service")
	g.shutDown("poweroff")
	if err := copyImage(session.installed, g.dir+"/root"); err != nil {
		g.t.Fatal(err)
	}
}
