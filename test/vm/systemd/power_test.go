//go:build linux && vmsystemd

package systemd

import (
	"fmt"
	"os"
	"regexp"
	"strings"
)

// typed runs a command on a terminal where keys are typed, one after the other,
// once it shows a screen, and returns what the terminal has shown.
func (g *rig) typed(command string, keys ...string) string {
	g.t.Helper()
	typing := "until grep -q \"$(printf '\\033')\" /tmp/typed; do sleep 0.2; done; "
	for _, k := range keys {
		typing += "sleep 2; printf '" + k + "'; "
	}
	return g.show("export TERM=xterm; : >/tmp/typed; (" + typing + "sleep 3) | script -qefc 'stty rows 24 cols 80; " + command + "' /tmp/typed")
}

// detach is what is typed to leave a terminal as it is.
const detach = `\034d`

// record is what is written down of a power cut: commands, and what they said.
type record struct {
	g    *rig
	text strings.Builder
}

func (r *record) say(format string, args ...any) { fmt.Fprintf(&r.text, format+"\n\n", args...) }

// note writes down a command and what it says, and returns that.
func (r *record) note(command string) string {
	r.g.t.Helper()
	out := r.g.show(command)
	r.say("```console\n# %s\n%s\n```", command, strings.TrimSpace(out))
	return out
}

// screen writes down what a terminal has shown, without what moves its cursor.
func (r *record) screen(command, out string) {
	out = regexp.MustCompile(`\x1b\[[0-9;]*H|\r`).ReplaceAllString(out, "\n")
	out = regexp.MustCompile(`\x1b(\[[0-9;?]*[a-zA-Z]|[()][A-Z]|[78])|[\x0e\x0f]`).ReplaceAllString(out, "")
	var lines []string
	for line := range strings.Lines(out) {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	r.say("```console\n# %s\n%s\n```", command, strings.Join(lines, "\n"))
}

// powerCut cuts the power while programs work, and lets the machine boot.
func powerCut(g *rig) {
	g.boot()
	r := &record{g: g}
	r.say("# A power cut, from before it to after the next boot")
	r.say("Written by `make vm-systemd`, from what was said in a machine in QEMU: %s, Linux %s.",
		strings.TrimSpace(g.must(". /etc/os-release; echo $PRETTY_NAME")), g.vm.Release)
	r.note("wakepoint run -d --name counter -- " + working("counter"))
	r.note("wakepoint run -d --name second -- " + working("second"))
	const shell = "wakepoint run -t --name shell -- bash --norc"
	r.screen(shell, g.typed(shell, `echo $((6*7)) bottles\n`, detach))
	g.must("wakepoint checkpoint shell")
	r.note("wakepoint ps")
	for i := range 2 {
		count, second := g.promised("counter"), g.promised("second")
		g.cut()
		g.boot()
		if i > 0 {
			r = &record{g: g} // the first one is written down
		}
		r.say("Here QEMU was killed, and its disk lost what was not flushed. The machine was started again; nobody typed anything until it had booted.")
		r.note("systemctl --no-pager status wakepoint-recover.service")
		r.note("wakepoint ps")
		g.goesOn("counter", count)
		g.goesOn("second", second)
		if out := r.note("wakepoint status counter"); !strings.Contains(out, "last recovery") {
			g.t.Error("status does not say that it was brought back")
		}
		out := g.typed("wakepoint attach shell", detach)
		if r.screen("wakepoint attach shell", out); !strings.Contains(out, "42 bottles") {
			g.t.Error("attach does not show what was on the screen")
		}
		if out := g.typed("wakepoint attach shell", `echo still $((7*7))\n`, detach); !strings.Contains(out, "still 49") {
			g.t.Error("the shell does not answer")
		}
		g.must("wakepoint verify")
		if i == 0 && *notes != "" && !g.t.Failed() {
			text := regexp.MustCompile(`[ \t]+\n`).ReplaceAllString(r.text.String(), "\n")
			if err := os.WriteFile(*notes, []byte(strings.TrimSpace(text)+"\n"), 0o644); err != nil {
				g.t.Fatal(err)
			}
		}
	}
}
