package vmtest_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/wakepoint/wakepoint/internal/vmtest"
)

// patience is how long a machine may take for anything, on a host that has
// much else to do.
const patience = 4 * time.Minute

// parts are what a machine is made of here.
type parts struct {
	dir, guest, box string
	vmtest.Machine
}

// newParts makes the initramfs of a machine that has a shell.
func newParts(t *testing.T) parts {
	t.Helper()
	if missing := vmtest.Missing(); missing != nil {
		t.Skipf("skip: no machines here: %s not installed", strings.Join(missing, ", "))
	}
	cache, err := vmtest.Cache()
	if err != nil {
		t.Fatal(err)
	}
	kernel, err := vmtest.FindKernel(cache, "6.1")
	if err != nil {
		t.Skipf("skip: no machines here: %v", err) // no archive of Debian's to fetch it from
	}
	box, err := vmtest.Unpacked(cache, "busybox-static")
	if err != nil {
		t.Skipf("skip: no machines here: %v", err)
	}
	dir := t.TempDir()
	p := parts{dir: dir, guest: filepath.Join(dir, "guest"), box: filepath.Join(box, "bin", "busybox")}
	p.Kernel, p.Dir, p.Initrd = kernel, dir, filepath.Join(dir, "initrd")
	if err := vmtest.Build(p.guest, "github.com/wakepoint/wakepoint/internal/vmtest/guest"); err != nil {
		t.Fatal(err)
	}
	if err := vmtest.WriteInitrd(p.Initrd, kernel, map[string]string{"/init": p.guest, "/bin/sh": p.box}); err != nil {
		t.Fatal(err)
	}
	return p
}

// TestBoot starts a machine with a disk, talks to it, and cuts its power.
func TestBoot(t *testing.T) {
	p := newParts(t)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	image := filepath.Join(p.dir, "disk")
	if err := os.WriteFile(image, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	disk, err := vmtest.OpenDisk(image)
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	p.Disk, p.Clock = disk, time.Date(2031, 5, 1, 12, 0, 0, 0, time.UTC)
	vm, err := vmtest.Boot(ctx, p.Machine)
	if err != nil {
		t.Fatal(err)
	}
	defer vm.Cut()
	if !strings.HasPrefix(vm.Release, "6.1.") {
		t.Errorf("release %q", vm.Release)
	}
	r, err := vm.Run(ctx, "sh", "-c", "date +%Y-%m; echo no >&2; echo safe | dd of=/dev/vda conv=fsync 2>/dev/null; exit 3")
	if want := (vmtest.Result{Out: "2031-05\n", Err: "no\n", Code: 3}); err != nil || r != want {
		t.Errorf("%+v, %v", r, err)
	}
	job, err := vm.Start("sh", "-c", "echo here; exec sleep 1000")
	if err != nil {
		t.Fatal(err)
	}
	if line := <-job.Lines; line != "here" {
		t.Errorf("said %q", line)
	}
	if err := vm.Cut(); err != nil {
		t.Error(err)
	}
	if _, err := job.Wait(ctx); !errors.Is(err, vmtest.ErrCut) {
		t.Errorf("the job has ended with %v", err)
	}
	if p, err := os.ReadFile(image); err != nil || !strings.HasPrefix(string(p), "safe") {
		t.Errorf("on the disk: %.8q, %v", p, err)
	}
}

// TestRoot starts a machine whose root is a disk, with an init of its own, and
// waits for its end.
func TestRoot(t *testing.T) {
	p := newParts(t)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	root := filepath.Join(p.dir, "root")
	for _, dir := range []string{"bin", "sbin", "proc", "sys", "dev", "run"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	box, err := os.ReadFile(p.box)
	if err != nil {
		t.Fatal(err)
	}
	// As systemd does it: it finds the unit in /run, and executes its command.
	script := "#!/bin/sh\ncmd=$(sed -n s/^ExecStart=//p /run/systemd/system/basic.target.wants/vmtest.service)\n$cmd\n"
	for name, text := range map[string][]byte{"bin/busybox": box, "sbin/init": []byte(script)} {
		if err := os.WriteFile(filepath.Join(root, name), text, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"sh", "sed", "poweroff"} {
		if err := os.Symlink("busybox", filepath.Join(root, "bin", name)); err != nil {
			t.Fatal(err)
		}
	}
	image := filepath.Join(p.dir, "disk")
	if out, err := exec.Command("/usr/sbin/mkfs.ext4", "-q", "-d", root, image, "16M").CombinedOutput(); err != nil {
		t.Fatalf("mkfs.ext4: %v\n%s", err, out)
	}
	p.Images, p.Args, p.MemoryMiB, p.CPUs = []string{image}, "vmtest.root=/dev/vda", 256, 2
	vm, err := vmtest.Boot(ctx, p.Machine)
	if err != nil {
		t.Fatal(err)
	}
	defer vm.Cut()
	r, err := vm.Run(ctx, "/bin/sh", "-c", "echo /sbin/*; exec 3>/here")
	if err != nil || r.Out != "/sbin/init\n" || r.Code != 0 {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := vm.Run(ctx, "/bin/poweroff", "-f"); !errors.Is(err, vmtest.ErrCut) {
		t.Error(err)
	}
	if err := vm.End(ctx); err != nil {
		t.Error(err)
	}
}
