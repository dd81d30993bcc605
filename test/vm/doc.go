// Package vm holds the product against real reboots: machines are booted in
// QEMU, programs are protected there, the power is cut, what the disk had not
// flushed is lost sector by sector, and on the next boot `wakepoint recover` has
// to bring them back.
//
// The promise that is checked: what comes back is at least the newest
// generation whose number had been printed. Its program is of one instant, in
// memory and in files, and goes on; nothing is left standing still.
//
//	go test ./test/vm -v                     two cuts, and whether the test can fail
//	make vm N=50 SEED=1                      all there is, on both kernels
//	go test ./test/vm -vm.n 8 -run /gc -v    these alone
//
// What a failed cut has left is kept in build/vm/failed.
package vm
