package main

import (
	"os"
	"os/exec"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// scriptSmall mounts a file system in memory of a few MiB.
func scriptSmall(ts *testscript.TestScript, _ bool, args []string) {
	dir := ts.MkAbs(args[0])
	ts.Check(os.Mkdir(dir, 0o700))
	ts.Check(unix.Mount("wakepoint-test", dir, "tmpfs", 0, "mode=0700,size="+args[1]))
	ts.Defer(func() {
		_ = unix.Mount("", dir, "", unix.MS_REMOUNT, "")
		removeAll(dir)
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			ts.Logf("unmount: %v", err)
		}
	})
}

// clones says that XFS can be made and mounted, and the kernel has Landlock, by
// which clones of files are shown elsewhere.
func clones() bool {
	const version = 1
	_, _, e := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, version)
	_, mkfs := exec.LookPath("mkfs.xfs")
	_, loop := os.Stat("/dev/loop-control")
	return e == 0 && mkfs == nil && loop == nil
}

// scriptMade mounts a file system that is in a file, by a loop device that goes
// with the mount.
func scriptMade(ts *testscript.TestScript, _ bool, args []string) {
	dir := ts.MkAbs(args[0])
	ts.Check(os.Mkdir(dir, 0o700))
	ts.Check(ts.Exec("truncate", "-s", args[2], dir+".image"))
	ts.Check(ts.Exec("mkfs."+args[1], "-q", dir+".image"))
	ts.Check(ts.Exec("mount", "-t", args[1], "-o", "loop", dir+".image", dir))
	ts.Defer(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			ts.Logf("unmount: %v", err)
		}
	})
}

func scriptRemount(ts *testscript.TestScript, _ bool, args []string) {
	flags := uintptr(unix.MS_REMOUNT)
	if args[1] == "ro" {
		flags |= unix.MS_RDONLY
	}
	// A keeper that has let go of its workload closes its log a moment later.
	err := unix.EBUSY
	for deadline := time.Now().Add(patience); err == unix.EBUSY && time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		err, _ = unix.Mount("", ts.MkAbs(args[0]), "", flags, "").(unix.Errno)
	}
	if err != 0 {
		ts.Check(err)
	}
}
