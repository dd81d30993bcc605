//go:build linux && vmsystemd

package systemd

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/wakepoint/wakepoint/internal/vmtest"
)

// patience is how long anything may take on a busy host before a test calls it
// stuck.
const patience = 12 * time.Minute

// fill makes the bare file system: Debian's, with files of the host.
func fill(name string, files map[string]string) error {
	if err := copyImage(name, *image); err != nil {
		return err
	}
	var script strings.Builder
	for place, file := range files {
		fmt.Fprintf(&script, "cd %s\nwrite %s %s\n", filepath.Dir(place), file, filepath.Base(place))
	}
	cmd := exec.Command("/usr/sbin/debugfs", "-w", "-f", "-", name)
	cmd.Stdin = strings.NewReader(script.String())
	out, err := cmd.CombinedOutput()
	if err == nil && strings.Count(string(out), "Allocated inode") != len(files) {
		err = errors.New("not everything was written")
	}
	if err != nil {
		return fmt.Errorf("debugfs: %w\n%s", err, out)
	}
	return nil
}

// copyImage copies a file system, and not its holes.
func copyImage(to, from string) error {
	if out, err := exec.Command("cp", "--sparse=always", "--reflink=auto", from, to).CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// rig is a machine with a disk, which holds everything.
type rig struct {
	t      *testing.T
	r      *rand.Rand
	ctx    context.Context
	dir    string
	disk   *vmtest.Disk
	images []string // more disks, from /dev/vdb on
	vm     *vmtest.VM
}

// newRig makes a machine with a file system, not running yet.
func newRig(t *testing.T, from string, r *rand.Rand) *rig {
	t.Helper()
	dir := t.TempDir()
	root := filepath.Join(dir, "root")
	if err := copyImage(root, from); err != nil {
		t.Fatal(err)
	}
	disk, err := vmtest.OpenDisk(root)
	if err != nil {
		t.Fatal(err)
	}
	g := &rig{t: t, r: r, dir: dir, disk: disk}
	t.Cleanup(g.close)
	return g
}

// close ends everything, and keeps what there is when the test has failed.
func (g *rig) close() {
	failed := g.t.Failed()
	if g.vm != nil {
		if failed {
			g.explain()
		}
		if err := g.vm.Cut(); err != nil {
			g.t.Error(err)
		}
	}
	g.disk.Close()
	if !failed {
		return
	}
	kept := filepath.Join(session.cache, "failed", strings.ReplaceAll(g.t.Name(), "/", "-"))
	err := errors.Join(os.RemoveAll(kept), os.MkdirAll(filepath.Dir(kept), 0o755))
	if err == nil {
		var out []byte
		if out, err = exec.Command("cp", "-r", "--sparse=always", g.dir, kept).CombinedOutput(); err != nil {
			err = fmt.Errorf("%w: %s", err, out)
		}
	}
	g.t.Logf("kept: %s %v", kept, err)
}

// explain prints what the machine knows.
func (g *rig) explain() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for _, command := range []string{
		"wakepoint ps; for n in $(wakepoint ps -o json | sed -n 's/.*\"name\": \"\\(.*\\)\".*/\\1/p'); do wakepoint status $n; done",
		"systemctl --no-pager list-jobs; systemctl --no-pager --failed; systemctl --no-pager status 'wakepoint*' | tail -n 60",
		"journalctl --no-pager -b -u 'wakepoint*' | tail -n 60", "ps -eo pid,ppid,stat,cgroup,args | grep -v ']$'",
	} {
		r, err := g.vm.Run(ctx, "sh", "-c", surroundings+command)
		g.t.Logf("%s: %v %d\n%s%s", command, err, r.Code, r.Out, r.Err)
		if err != nil {
			break
		}
	}
	g.t.Logf("the console:\n%s", g.vm.Console())
}

// surroundings come before every command in a machine.
const surroundings = "export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin; cd /root; "

// boot starts the machine on what is on its disks, and waits until it has
// booted.
func (g *rig) boot() {
	g.t.Helper()
	g.power()
	state := strings.TrimSpace(g.try("systemctl is-system-running --wait").Out)
	g.t.Logf("booted, %s, %s after its start", state, strings.TrimSpace(g.must("cut -d' ' -f1 /proc/uptime"))+" s")
}

// power starts the machine, and waits until it listens.
func (g *rig) power() {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	g.t.Cleanup(cancel)
	if err := g.disk.Check(); err != nil {
		g.t.Fatal(err)
	}
	vm, err := vmtest.Boot(ctx, vmtest.Machine{
		Kernel: session.kernel, Initrd: session.initrd, Disk: g.disk, Images: g.images, Dir: g.dir,
		Args: "vmtest.root=/dev/vda", MemoryMiB: 1024, CPUs: 2,
	})
	if err != nil {
		g.t.Fatal(err)
	}
	g.vm, g.ctx = vm, ctx
}

// try runs a command in the machine.
func (g *rig) try(command string) vmtest.Result {
	g.t.Helper()
	r, err := g.vm.Run(g.ctx, "sh", "-c", surroundings+command)
	if err != nil {
		g.t.Fatal(err)
	}
	return r
}

func (g *rig) must(command string) string {
	g.t.Helper()
	r := g.try(command)
	if r.Code != 0 {
		g.t.Fatalf("%s: exit code %d\n%s%s", command, r.Code, r.Out, r.Err)
	}
	return r.Out
}

// show runs a command, and has it and what it says in the record.
func (g *rig) show(command string) string {
	g.t.Helper()
	r := g.try(command)
	g.t.Logf("# %s (%d)\n%s%s", command, r.Code, r.Out, r.Err)
	return r.Out + r.Err
}

// untilMax is how long something may take that is asked for over and over.
const untilMax = 3 * time.Minute

// until waits until a command succeeds.
func (g *rig) until(command string) {
	g.t.Helper()
	for end := time.Now().Add(untilMax); ; time.Sleep(200 * time.Millisecond) {
		r := g.try(command)
		if r.Code == 0 {
			return
		}
		if time.Now().After(end) {
			g.t.Fatalf("%s: it is never so; the last time: %d\n%s%s", command, r.Code, r.Out, r.Err)
		}
	}
}

// refused runs a command that must end with an exit code, and say a word.
func (g *rig) refused(command string, code int, word string) {
	g.t.Helper()
	r := g.try(command)
	g.t.Logf("# %s (%d)\n%s%s", command, r.Code, r.Out, r.Err)
	if r.Code != code || !strings.Contains(r.Out+r.Err, word) {
		g.t.Errorf("%s: exit code %d, not %d, or it does not say %q", command, r.Code, code, word)
	}
}

// write writes a file in the machine.
func (g *rig) write(name, text string) {
	g.t.Helper()
	g.must(fmt.Sprintf("mkdir -p $(dirname '%s') && cat >'%s' <<'---'\n%s---\n", name, name, text))
}

// shutDown has the machine stop by systemctl COMMAND, and waits until it has.
func (g *rig) shutDown(command string) {
	g.t.Helper()
	r, err := g.vm.Run(g.ctx, "sh", "-c", surroundings+"systemctl "+command)
	if err != nil && !errors.Is(err, vmtest.ErrCut) || err == nil && r.Code != 0 {
		g.t.Fatalf("systemctl %s: %+v, %v", command, r, err)
	}
	begun := time.Now()
	if err := g.vm.End(g.ctx); err != nil {
		g.t.Fatalf("systemctl %s: %v", command, err)
	}
	g.t.Logf("systemctl %s: down after %.0f s", command, time.Since(begun).Seconds())
	g.vm = nil
}

// cut takes the power away.
func (g *rig) cut() {
	g.t.Helper()
	if err := g.vm.Cut(); err != nil {
		g.t.Fatal(err)
	}
	g.vm = nil
	p := []float64{0, .05, .5, .9, 1}[g.r.IntN(5)]
	kept, lost, err := g.disk.Cut(g.r, p)
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Logf("the power is cut; of what was not flushed %d sectors are kept, %d lost", kept, lost)
}
