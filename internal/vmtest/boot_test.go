package vmtest_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/wakepoint/wakepoint/internal/vmtest"
)

// patience is how long a machine may take for anything, on a host that has
// much else to do.
const patience = 4 * time.Minute

// TestBoot starts a machine with a disk, talks to it, and cuts its power.
func TestBoot(t *testing.T) {
	if missing := vmtest.Missing(); missing != nil {
		t.Skipf("skip: no machines here: %s not installed", strings.Join(missing, ", "))
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cache, err := vmtest.Cache()
	if err != nil {
		t.Fatal(err)
	}
	kernel, err := vmtest.FindKernel(cache, "6.1")
	if err != nil {
		t.Fatal(err)
	}
	box, err := vmtest.Unpacked(cache, "busybox-static")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	guest, initrd := filepath.Join(dir, "guest"), filepath.Join(dir, "initrd")
	if err := vmtest.Build(guest, "github.com/wakepoint/wakepoint/internal/vmtest/guest"); err != nil {
		t.Fatal(err)
	}
	files := map[string]string{"/init": guest, "/bin/sh": filepath.Join(box, "bin", "busybox")}
	if err := vmtest.WriteInitrd(initrd, kernel, files); err != nil {
		t.Fatal(err)
	}
	image := filepath.Join(dir, "disk")
	if err := os.WriteFile(image, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	disk, err := vmtest.OpenDisk(image)
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	clock := time.Date(2031, 5, 1, 12, 0, 0, 0, time.UTC)
	vm, err := vmtest.Boot(ctx, vmtest.Machine{Kernel: kernel, Initrd: initrd, Disk: disk, Dir: dir, Clock: clock})
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
	if _, err := job.Wait(ctx); err != vmtest.ErrCut {
		t.Errorf("the job has ended with %v", err)
	}
	if p, err := os.ReadFile(image); err != nil || !strings.HasPrefix(string(p), "safe") {
		t.Errorf("on the disk: %.8q, %v", p, err)
	}
}
