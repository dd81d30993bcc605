// Package systemd holds the package and its units against Debian with systemd,
// in machines in QEMU that are rebooted, and whose power is cut. Its tests are
// built with the tag vmsystemd.
//
//	make vm-systemd              all there is
//	RUN=keeper make vm-systemd   this, once the package is installed
//
// What a failed test has left is kept in build/vm/failed.
package systemd
