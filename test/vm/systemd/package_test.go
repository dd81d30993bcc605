//go:build linux && vmsystemd

package systemd

import (
	"encoding/json"
	"fmt"
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

// doctorFixed has doctor install the units, where there is no package.
func doctorFixed(g *rig) {
	g.boot()
	g.must("dpkg-deb -x /opt/wakepoint.deb /tmp/package && install -m 755 /tmp/package/usr/bin/wakepoint /usr/local/bin/wakepoint && rm -r /tmp/package")
	if out := g.show("wakepoint doctor"); !strings.Contains(out, "doctor --fix") {
		g.t.Error("doctor does not say what to do")
	}
	if out := g.show("wakepoint doctor --fix"); !strings.Contains(out, "a boot brings back what was running") {
		g.t.Error("doctor has not installed the units")
	}
	g.protect("counter")
	g.must("systemctl is-active wakepoint@counter.service")
	count := g.promised("counter")
	g.must("sync")
	g.cut()
	g.boot()
	g.goesOn("counter", count)
	g.shutDown("reboot")
	g.boot()
	g.goesOn("counter", count)
	g.must("wakepoint verify")
}

// rows returns what `wakepoint ps` knows, by name.
func (g *rig) rows() map[string]status {
	g.t.Helper()
	var list []struct {
		Name string
		status
	}
	if err := json.Unmarshal([]byte(g.must("wakepoint ps -o json")), &list); err != nil {
		g.t.Fatal(err)
	}
	rows := map[string]status{}
	for _, r := range list {
		rows[r.Name] = r.status
	}
	return rows
}

// upgraded installs another version under ten programs: they go on, and so do
// their keepers, with the new one.
func upgraded(g *rig) {
	g.boot()
	var names []string
	for _, name := range []string{"counter", "second"} {
		names = append(names, name)
		g.must("wakepoint run -d --every 5s --name " + name + " -- " + working(name))
	}
	for i := range 8 {
		g.must(fmt.Sprintf("wakepoint run -d --every 10s --name shell%d -- sh -c 'n=0; while sleep 1; do n=$((n+1)); echo $n; done'", i))
	}
	before, counts, version := g.rows(), map[string]uint64{}, g.must("wakepoint version")
	for _, name := range names {
		counts[name] = g.count(name)
	}
	g.show("dpkg -i /opt/next.deb")
	if now := g.must("wakepoint version"); now == version || !strings.Contains(now, "next") {
		g.t.Fatalf("installed is %s", now)
	}
	g.until("! ls -l $(pgrep -f '^/usr/bin/wakepoint _unit' | sed 's|.*|/proc/&/exe|') | grep deleted")
	g.until("! wakepoint ps -o json | grep -E 'keeper_pid.: ?0\\b'")
	g.show("wakepoint ps")
	after := g.rows()
	for name := range before {
		if after[name].PID != before[name].PID || after[name].KeeperPID != before[name].KeeperPID || after[name].State != "running" {
			g.t.Errorf("%s was %+v, and is %+v", name, before[name], after[name])
		}
		g.must("systemctl is-active wakepoint@" + name + ".service")
		lines := strings.Count(g.must("wakepoint logs "+name), "\n")
		if strings.HasPrefix(name, "shell") {
			g.until(fmt.Sprintf("test $(wakepoint logs %s | wc -l) -gt %d", name, lines))
		}
	}
	for _, name := range names {
		g.goesOn(name, counts[name])
		counts[name] = g.promised(name)
	}
	g.must("wakepoint checkpoint shell0 && sync")
	g.cut()
	g.boot()
	for name, s := range g.rows() {
		if s.State != "running" {
			g.t.Errorf("%s is %s", name, s.State)
		}
	}
	for _, name := range names {
		g.goesOn(name, counts[name])
	}
	g.must("wakepoint verify")
}

// removed removes the package under a program, installs it again, and purges
// it. What was kept stays.
func removed(g *rig) {
	g.boot()
	g.protect("counter")
	before, count := g.status("counter"), g.promised("counter")
	g.show("dpkg -r wakepoint")
	count = g.goesOn("counter", count)
	g.must(fmt.Sprintf("kill -0 %d && kill -0 %d", before.PID, before.KeeperPID))
	g.refused("systemctl cat wakepoint-recover.service wakepoint@.service", 1, "No files found")
	g.must("! find /etc/systemd /usr/lib/systemd /lib/systemd | grep wakepoint")
	g.must("test -d /var/lib/wakepoint/workloads/counter && test -e /etc/wakepoint/key")
	g.show("dpkg -i /opt/wakepoint.deb")
	if after := g.status("counter"); after.PID != before.PID || after.State != "running" {
		g.t.Errorf("%+v, then %+v", before, after)
	}
	count = g.goesOn("counter", count)
	count = max(count, g.promised("counter"))
	g.must("dpkg -r wakepoint")
	g.shutDown("reboot")
	g.boot()
	g.must("! pgrep -f '^program work' && test -d /var/lib/wakepoint/workloads/counter")
	g.show("dpkg -i /opt/wakepoint.deb")
	g.until("systemctl is-active wakepoint@counter.service")
	g.goesOn("counter", count)
	g.must("wakepoint stop counter")
	g.show("dpkg -P wakepoint")
	g.show("find / -xdev -path /proc -prune -o -iname '*wakepoint*' -print | grep -v ^/opt")
	g.refused("systemctl cat wakepoint-recover.service", 1, "No files found")
	g.must("! dpkg -s wakepoint && test -d /var/lib/wakepoint/workloads/counter")
}
