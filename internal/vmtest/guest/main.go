//go:build linux

// Command guest is the first process of a machine under test. It sets up what
// a boot sets up, and does what the host tells it on the second serial line.
//
// With vmtest.root=/dev/vda1 among the kernel's arguments it mounts that file
// system, makes a service of itself there, in /run, and hands over to its
// /sbin/init: whatever boots with systemd can be talked to, and stays as it is.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// listening is the argument with which it listens, and does nothing else.
const listening = "listen"

func main() {
	if len(os.Args) > 1 && os.Args[1] == listening {
		fmt.Fprintln(os.Stderr, "guest:", listen())
		os.Exit(1)
	}
	err := live()
	fmt.Fprintln(os.Stderr, "guest:", err)
	unix.Sync()
	unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

// live is the life of the first process. It does not return unless it fails.
func live() error {
	for _, m := range []mount{
		{"proc", "/proc", "proc"}, {"sysfs", "/sys", "sysfs"}, {"devtmpfs", "/dev", "devtmpfs"},
	} {
		if err := m.make(); err != nil {
			return err
		}
	}
	if err := loadModules(); err != nil {
		return err
	}
	if root := argument("vmtest.root"); root != "" {
		return handOver(root)
	}
	for _, m := range []mount{
		{"devpts", "/dev/pts", "devpts"}, {"tmpfs", "/dev/shm", "tmpfs"}, {"tmpfs", "/run", "tmpfs"},
		{"tmpfs", "/tmp", "tmpfs"}, {"cgroup2", "/sys/fs/cgroup", "cgroup2"},
	} {
		if err := m.make(); err != nil {
			return err
		}
	}
	for _, dir := range []string{"/root", "/etc", "/var/lib"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	cmd := exec.Command("/proc/self/exe", listening)
	cmd.Stdout, cmd.Stderr, cmd.Dir = os.Stdout, os.Stderr, "/root"
	cmd.Env = []string{"PATH=/usr/bin:/bin:/usr/sbin:/sbin", "HOME=/root", "TERM=linux"}
	if err := cmd.Start(); err != nil {
		return err
	}
	for { // what has lost its parent is reaped here
		pid, err := unix.Wait4(-1, nil, 0, nil)
		if pid == cmd.Process.Pid || err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("nobody listens any more: %v", err)
		}
	}
}

// argument returns the value of one of the kernel's arguments.
func argument(name string) string {
	text, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return ""
	}
	for _, f := range strings.Fields(string(text)) {
		if value, ok := strings.CutPrefix(f, name+"="); ok {
			return value
		}
	}
	return ""
}

type mount struct{ source, target, kind string }

func (m mount) make() error {
	if err := os.MkdirAll(m.target, 0o755); err != nil {
		return err
	}
	err := unix.Mount(m.source, m.target, m.kind, 0, "")
	if err != nil && !errors.Is(err, unix.EBUSY) { // the kernel may have mounted it
		return fmt.Errorf("mount %s: %w", m.target, err)
	}
	return nil
}

// loadModules loads what the host has put there, in its order. A kernel that
// compresses its modules knows how to open them.
func loadModules() error {
	list, err := filepath.Glob("/modules/*")
	if err != nil {
		return err
	}
	for _, name := range list {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		flags := 0
		if !strings.HasSuffix(name, ".ko") {
			flags = unix.MODULE_INIT_COMPRESSED_FILE
		}
		err = unix.FinitModule(int(f.Fd()), "", flags)
		f.Close()
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("load %s: %w", name, err)
		}
	}
	return nil
}

// unit is the service that listens in a machine with systemd.
const unit = `[Unit]
Description=Listens to the host
DefaultDependencies=no
After=sysinit.target

[Service]
ExecStart=/run/vmtest/guest listen
KillMode=process
Environment=HOME=/root TERM=linux
WorkingDirectory=/
`

// handOver makes device the root, and executes its init.
func handOver(device string) error {
	const root = "/sysroot"
	for range 100 { // until the disk is there
		if _, err := os.Stat(device); err == nil {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	if err := (mount{device, root, "ext4"}).make(); err != nil {
		return err
	}
	if err := (mount{"tmpfs", root + "/run", "tmpfs"}).make(); err != nil {
		return err
	}
	self, err := os.ReadFile("/init")
	if err != nil {
		return err
	}
	wants := root + "/run/systemd/system/basic.target.wants"
	if err := errors.Join(os.MkdirAll(wants, 0o755), os.MkdirAll(root+"/run/vmtest", 0o755)); err != nil {
		return err
	}
	err = errors.Join(
		os.WriteFile(root+"/run/vmtest/guest", self, 0o755),
		os.WriteFile(root+"/run/systemd/system/vmtest.service", []byte(unit), 0o644),
		os.Symlink("../vmtest.service", wants+"/vmtest.service"),
	)
	for _, dir := range []string{"/dev", "/proc", "/sys"} {
		err = errors.Join(err, unix.Mount(dir, root+dir, "", unix.MS_MOVE, ""))
	}
	if err != nil {
		return err
	}
	// As switch_root(8) does it; what is in the initramfs stays in memory.
	err = errors.Join(unix.Chdir(root), unix.Mount(".", "/", "", unix.MS_MOVE, ""), unix.Chroot("."), unix.Chdir("/"))
	if err != nil {
		return err
	}
	return syscall.Exec("/sbin/init", []string{"/sbin/init"}, []string{"HOME=/", "TERM=linux"})
}
