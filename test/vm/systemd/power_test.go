//go:build linux && vmsystemd

package systemd

import (
	"strings"
)

// typed runs a command on a terminal where keys are typed, one after the other,
// and returns what the terminal has shown.
func (g *rig) typed(command string, keys ...string) string {
	g.t.Helper()
	var typing strings.Builder
	for _, k := range keys {
		typing.WriteString("sleep 2; printf '" + k + "'; ")
	}
	return g.show("export TERM=xterm; (" + typing.String() + "sleep 3) | script -qec 'stty rows 24 cols 80; " + command + "' /dev/null")
}

// detach is what is typed to leave a terminal as it is.
const detach = `\034d`

// powerCut cuts the power while programs work, and lets the machine boot.
func powerCut(g *rig) {
	g.boot()
	g.protect("counter")
	g.protect("second")
	g.typed("wakepoint run -t --name shell -- bash --norc", `PS1="shell> "\n`, `echo $((6*7)) bottles\n`, detach)
	g.must("wakepoint checkpoint shell")
	for range 2 {
		count, second := g.promised("counter"), g.promised("second")
		g.cut()
		g.boot()
		g.show("systemctl --no-pager status wakepoint-recover.service")
		g.show("wakepoint ps")
		g.goesOn("counter", count)
		g.goesOn("second", second)
		if out := g.show("wakepoint status counter"); !strings.Contains(out, "restored") && !strings.Contains(out, "recover") {
			g.t.Error("status does not say that it was brought back")
		}
		if out := g.typed("wakepoint attach shell", detach); !strings.Contains(out, "42 bottles") {
			g.t.Error("attach does not show what was on the screen")
		}
		if out := g.typed("wakepoint attach shell", `echo still $((7*7))\n`, detach); !strings.Contains(out, "still 49") {
			g.t.Error("the shell does not answer")
		}
		g.must("wakepoint verify")
	}
}
