//go:build linux && vmsystemd

package systemd

import (
	"fmt"
	"strings"
	"time"

	"github.com/wakepoint/wakepoint/internal/vmtest"
)

// session runs a command in a session of its own, as somebody who has logged
// in over the network, and stays there.
func (g *rig) session(user, command string) *vmtest.Job {
	g.t.Helper()
	j, err := g.vm.Start("sh", "-c", surroundings+fmt.Sprintf("exec ssh -o BatchMode=yes %s@localhost 'set -e\n%s\necho there\nexec sleep 1000000'", user, command))
	if err != nil {
		g.t.Fatal(err)
	}
	select {
	case line, ok := <-j.Lines:
		for ok && line != "there" {
			g.t.Logf("%s: %s", user, line)
			line, ok = <-j.Lines
		}
		if !ok {
			r, err := j.Wait(g.ctx)
			g.t.Fatalf("%s: %+v, %v", command, r, err)
		}
	case <-g.ctx.Done():
		g.t.Fatalf("%s does not come to an end", command)
	}
	return j
}

// cgroups shows in which cgroup each program is.
func (g *rig) cgroups(names []string) {
	g.t.Helper()
	for _, name := range names {
		s := g.status(name)
		g.t.Logf("%s: pid %d in %s keeper %d in %s", name, s.PID, g.must(fmt.Sprintf("cat /proc/%d/cgroup", s.PID)),
			s.KeeperPID, g.must(fmt.Sprintf("cat /proc/%d/cgroup", s.KeeperPID)))
	}
}

// rarely is an interval at which no generation is taken but those that somebody
// asks for, and the last one at a shutdown.
const rarely = " --every 10h "

// rebootFromSessions reboots a machine on which programs run that were started
// in sessions of people: in a unit, outside of one, and adopted where they are.
func rebootFromSessions(g *rig) {
	g.boot()
	g.sessionsReboot("reboot")
}

// rebootKilling does so where the end of a session is the end of what it has
// left behind.
func rebootKilling(g *rig) {
	g.boot()
	g.must("mkdir -p /etc/systemd/logind.conf.d && printf '[Login]\\nKillUserProcesses=yes\\nKillExcludeUsers=nobody\\n' >/etc/systemd/logind.conf.d/kill.conf && systemctl restart systemd-logind")
	g.must("ssh root@localhost 'setsid " + working("gone") + " </dev/null >/dev/null 2>&1 &'")
	g.must("ssh root@localhost 'wakepoint run -d --name left" + rarely + "-- " + working("left") + "'")
	g.until("! pgrep -fx '" + working("gone") + "'")
	g.goesOn("left", 0)
	g.t.Log("the session is gone, and what it has left unprotected; the workload goes on")
	g.sessionsReboot("reboot", "left")
}

func (g *rig) sessionsReboot(command string, names ...string) {
	g.t.Helper()
	g.session("root", "wakepoint run -d --name unit"+rarely+"-- "+working("unit"))
	g.session("root", "taskset -c 0 wakepoint run -d --name outside"+rarely+"-- "+working("outside"))
	g.must("mkdir /srv/theirs && chown user /srv/theirs")
	g.session("user", "setsid "+working("theirs")+" </dev/null >/dev/null 2>&1 &")
	g.must("wakepoint adopt $(pgrep -fx '" + working("theirs") + "') --cut --name theirs" + rarely)
	names = append(names, "unit", "outside", "theirs")
	time.Sleep(5 * time.Second)
	g.cgroups(names)
	before := map[string]uint64{}
	for _, name := range names {
		before[name] = g.goesOn(name, 0)
	}
	g.shutDown(command)
	g.boot()
	g.show("journalctl --no-pager -b -1 -u 'wakepoint*' -o cat | tail -n 20")
	g.show("wakepoint ps")
	for _, name := range names {
		first := g.goesOn(name, before[name])
		g.t.Logf("%s: at %d before the shutdown was asked for, found at %d: %v", name, before[name], first, strings.TrimSpace(g.must("wakepoint status "+name+" | grep -i -m1 restored || true")))
	}
	g.must("wakepoint verify")
}
