package vmtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Machine is what a machine is made of.
type Machine struct {
	Kernel    Kernel
	Initrd    string
	Args      string    // for the kernel, besides what it gets anyway
	Disk      *Disk     // the first disk, /dev/vda; nil: none
	Images    []string  // more disks: files, in the raw format, that lose nothing
	MemoryMiB int       // 0: 512
	CPUs      int       // 0: 1
	Clock     time.Time // what its clock says at the start; zero: the time
	Dir       string    // takes console.log, and the sockets while it runs
}

// kvmVar lets machines use KVM.
const kvmVar = "WAKEPOINT_KVM"

// VM is a machine that runs.
type VM struct {
	Release string // of its kernel

	machine Machine
	qemu    *os.Process
	ended   chan struct{} // QEMU has, with end
	end     error
	outlet  *outlet // of its disk, nil without
	conn    net.Conn
	talk    *talk
}

// Boot starts a machine and returns when its first process, or what that has
// started, listens; an error ends with the end of what the console said. The
// machine must be ended by Cut or End.
func Boot(ctx context.Context, m Machine) (*VM, error) {
	vm := &VM{machine: m, ended: make(chan struct{})}
	if err := os.Remove(vm.console()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	err := vm.boot(ctx)
	if err != nil {
		return nil, fmt.Errorf("boot %s: %w\n%s", m.Kernel.Line, errors.Join(err, vm.Cut()), vm.Console())
	}
	return vm, nil
}

func (vm *VM) boot(ctx context.Context) error {
	m := vm.machine
	dir, err := os.MkdirTemp("", "vmtest-") // the path of a socket is short
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	ctl, err := net.Listen("unix", filepath.Join(dir, "ctl"))
	if err != nil {
		return err
	}
	defer ctl.Close()
	if m.Disk != nil {
		if vm.outlet, err = m.Disk.plug(filepath.Join(dir, "nbd")); err != nil {
			return err
		}
	}
	if err := vm.start(m.command(dir, vm.console())); err != nil {
		return err
	}
	go func() {
		select {
		case <-ctx.Done():
		case <-vm.ended:
		}
		ctl.Close() // ends Accept
	}()
	if vm.conn, err = ctl.Accept(); err != nil {
		return errors.Join(err, ctx.Err())
	}
	vm.talk = newTalk(vm.conn)
	go vm.talk.listen(vm.conn)
	select {
	case vm.Release = <-vm.talk.hello:
		return nil
	case <-vm.talk.gone:
		return errors.New("the machine ended before its first process was there")
	case <-ctx.Done():
		return ctx.Err()
	}
}

// command is QEMU's command line.
func (m Machine) command(dir, console string) []string {
	accel := "tcg"
	if os.Getenv(kvmVar) == "1" {
		accel = "kvm"
	}
	positive := func(n, otherwise int) string {
		if n > 0 {
			otherwise = n
		}
		return strconv.Itoa(otherwise)
	}
	args := []string{
		"qemu-system-x86_64", "-accel", accel, "-machine", "q35", "-cpu", "max",
		"-m", positive(m.MemoryMiB, 512), "-smp", positive(m.CPUs, 1),
		"-display", "none", "-nodefaults", "-no-reboot", "-monitor", "none",
		"-serial", "file:" + console,
		"-chardev", "socket,id=ctl,path=" + filepath.Join(dir, "ctl"), "-serial", "chardev:ctl",
		"-kernel", m.Kernel.Image, "-initrd", m.Initrd,
		"-append", strings.TrimSpace("console=ttyS0 quiet panic=-1 reboot=t " + m.Args),
	}
	if !m.Clock.IsZero() {
		args = append(args, "-rtc", "base="+m.Clock.UTC().Format("2006-01-02T15:04:05"))
	}
	if m.Disk != nil {
		args = append(args, "-drive", "file=nbd+unix:///?socket="+filepath.Join(dir, "nbd")+",if=virtio,format=raw,cache=none")
	}
	for _, image := range m.Images {
		args = append(args, "-drive", "file="+image+",if=virtio,format=raw,cache=unsafe")
	}
	return args
}

// start starts QEMU so that it dies with us: by the death of the thread that
// started it, which therefore waits for it.
func (vm *VM) start(argv []string) error {
	path, err := find(argv[0])
	if err != nil {
		return err
	}
	var complaint bytes.Buffer
	cmd := exec.Command(path, argv[1:]...)
	cmd.Stderr = &complaint
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		vm.end = cmd.Wait()
		if complaint.Len() > 0 {
			vm.end = fmt.Errorf("qemu: %s: %w", bytes.TrimSpace(complaint.Bytes()), errors.Join(vm.end))
		}
		close(vm.ended)
	}()
	if err := <-started; err != nil {
		return err
	}
	vm.qemu = cmd.Process
	return nil
}

func (vm *VM) console() string { return filepath.Join(vm.machine.Dir, "console.log") }

// Console returns the end of what the kernel has said.
func (vm *VM) Console() string {
	p, err := os.ReadFile(vm.console())
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.ReplaceAll(string(p), "\r", ""), "\n")
	return strings.Join(lines[max(0, len(lines)-30):], "\n")
}

// Run runs a command in the machine, as root, to its end. That it fails is no
// error: Result.Code says so.
func (vm *VM) Run(ctx context.Context, argv ...string) (Result, error) {
	j, err := vm.Start(argv...)
	if err != nil {
		return Result{}, err
	}
	r, err := j.Wait(ctx)
	if err != nil {
		err = fmt.Errorf("%s: %w", strings.Join(argv, " "), err)
	}
	return r, err
}

// Start begins a command in the machine. It lives as long as it likes, or the
// machine.
func (vm *VM) Start(argv ...string) (*Job, error) { return vm.talk.start(slices.Clone(argv)) }

// Cut takes the power away: QEMU is killed and its disk pulled. What the machine had
// said by then has been heard when it returns.
func (vm *VM) Cut() error {
	if vm.qemu != nil {
		if err := vm.qemu.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return err
		}
		<-vm.ended
	}
	return vm.gone()
}

// End waits until the machine has ended by itself: it was powered off or, as
// none boots again, rebooted.
func (vm *VM) End(ctx context.Context) error {
	select {
	case <-vm.ended:
		return errors.Join(vm.end, vm.gone())
	case <-ctx.Done():
		return ctx.Err()
	}
}

// gone frees what belonged to the machine.
func (vm *VM) gone() error {
	if vm.talk != nil {
		<-vm.talk.gone
		vm.conn.Close()
	}
	if vm.outlet != nil {
		return vm.outlet.pull()
	}
	return nil
}
