// Package vmtest boots machines in QEMU whose power can be cut.
//
// A machine runs a kernel of Debian's, an initramfs that has been made here,
// and disks. Its first process (package guest) listens on a serial line and
// does what it is told. A [Disk] is volatile as real ones are: what was written
// and not flushed may be there after the power has gone, or not, sector by
// sector.
//
//	kernel, err := vmtest.FindKernel(cache, "6.1")
//	err = vmtest.WriteInitrd("initrd", kernel, map[string]string{"/init": guest, "/bin/wakepoint": bin})
//	disk, err := vmtest.FormatDisk("disk", 256<<20)
//	vm, err := vmtest.Boot(ctx, vmtest.Machine{Kernel: kernel, Initrd: "initrd", Disk: disk, Dir: dir})
//	result, err := vm.Run(ctx, "wakepoint", "doctor")
//	err = vm.Cut()
//	disk.Cut(rng, 0.5)
//
// Everything is emulated. WAKEPOINT_KVM=1 uses KVM, which is never chosen
// because it is there: a device that opens may still hang.
package vmtest
