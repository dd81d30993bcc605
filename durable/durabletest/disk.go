package durabletest

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/wakepoint/wakepoint/durable"
	"github.com/wakepoint/wakepoint/internal/disk"
	"github.com/wakepoint/wakepoint/internal/disk/crashfs"
)

// ErrCut is the error of each call after the power was cut.
var ErrCut = errors.New("the power is cut")

// Sector is the size of what a disk writes whole or not at all, in bytes.
const Sector = crashfs.Sector

// Op is a call on a disk.
type Op struct {
	// Verb is create, append, modify, write, truncate, sync (Datasync as well),
	// rename, remove, mkdir or syncdir for a call that changes the disk, and
	// open, read, readdir, lstat or lock for one that does not.
	Verb string
	Name string // the one by which a file was opened
	To   string // of a rename: the new name
	Size int64  // of a read, write, truncate: bytes
}

// String returns a call as a line of a trace.
func (o Op) String() string { return disk.Op(o).String() }

// Disk is a file system in memory. Its root is "/", and its directories are
// made by Mkdir. It may be used from any goroutine.
//
// After an fsync that failed, what it should have written is lost even if the
// next one succeeds, as with the file systems of Linux; what is written while an
// fsync is on its way is not a part of it.
type Disk struct {
	durable.FS
	fs *crashfs.FS

	mu     sync.Mutex // guards what follows
	calls  int
	last   Op  // that changed the disk, or was to
	failed Op  // the first that met a fault
	end    int // the call at which the power goes; 0: none
	off    bool
	delay  time.Duration
	faults []*Fault
}

// NewDisk returns an empty disk.
func NewDisk() *Disk { return newDisk(crashfs.New()) }

func newDisk(fs *crashfs.FS) *Disk {
	d := &Disk{FS: fs, fs: fs}
	fs.Watch(d.ask)
	return d
}

// Survivors says what of that which was not synced is there after a cut.
type Survivors uint64

// What survives. From Drawn on the number draws it: Drawn, Drawn+1 and so on.
const (
	LoseAll   Survivors = crashfs.LoseAll   // nothing
	KeepAll   Survivors = crashfs.KeepAll   // everything
	KeepNames Survivors = crashfs.KeepNames // all names, and no contents
	KeepBytes Survivors = crashfs.KeepBytes // all contents, and no names
	KeepSizes Survivors = crashfs.KeepSizes // all names and sizes, and zeros
	Drawn     Survivors = crashfs.Drawn
)

// String returns the name.
func (s Survivors) String() string {
	if s < Drawn {
		return [...]string{"LoseAll", "KeepAll", "KeepNames", "KeepBytes", "KeepSizes"}[s]
	}
	return fmt.Sprintf("Drawn+%d", uint64(s-Drawn))
}

// Cut cuts the power, and returns the disk as it is when it is back. From then
// on each call on d fails with ErrCut; d can be cut again, to see what else may
// have survived. The new disk has no locks, no faults and no end of room.
func (d *Disk) Cut(keep Survivors) *Disk {
	return d.next(d.fs.Crash(uint64(keep)))
}

// Kill is Cut for a program that was killed: the system stays, and the next
// program finds what was written, synced or not. A full disk is still full.
func (d *Disk) Kill() *Disk { return d.next(d.fs.Clone()) }

func (d *Disk) next(fs *crashfs.FS) *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.turnOff()
	n := newDisk(fs)
	n.delay = d.delay
	return n
}

// CutAt cuts the power in place of a call that changes the disk: 1 is the next
// one. What is left is what Cut returns.
func (d *Disk) CutAt(call int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.end = d.calls + call
}

func (d *Disk) turnOff() {
	d.off = true
	d.fs.Stop(ErrCut)
}

func (d *Disk) isOff() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.off
}

// Calls is how many calls have changed the disk, or were to.
func (d *Disk) Calls() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.calls
}

// A Fault makes calls fail.
type Fault struct {
	On    func(Op) bool // of which calls; nil: of those that change the disk
	After int           // so many of them are done before
	Times int           // so many fail; 0: all from then on
	Done  bool          // they are done all the same
	Err   error         // what they say; nil: syscall.EIO
}

// Inject makes calls fail from now on. Of several faults that meet a call the
// one that was injected first counts.
func (d *Disk) Inject(f Fault) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.faults = append(d.faults, &f)
}

// Heal ends all faults.
func (d *Disk) Heal() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.faults = nil
}

// SetDelay makes each sync, of files and of directories, take a while
// (time.Sleep).
func (d *Disk) SetDelay(delay time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.delay = delay
}

// SetRoom says how many bytes can still be stored; what needs more fails with
// syscall.ENOSPC, a write when it has stored what it could, until something is
// removed or there is more room. Less than 0 is without end. A name takes a
// sector.
func (d *Disk) SetRoom(bytes int64) { d.fs.SetRoom(bytes) }

// Flip flips a bit of a file, as rot does: whoever reads it sees that.
func (d *Disk) Flip(name string, bit int64) error { return d.fs.Flip(name, bit) }

// Shorten cuts the end off a file, behind everybody's back.
func (d *Disk) Shorten(name string, size int64) error { return d.fs.Cut(name, size) }

// ask says what becomes of a call.
func (d *Disk) ask(op disk.Op) (disk.Verdict, error) {
	d.mu.Lock()
	if crashfs.Changes(op) && !d.off {
		d.calls++
		d.last = Op(op)
		if d.calls == d.end {
			d.turnOff()
		}
	}
	v, err := d.judge(op)
	delay := d.delay
	if d.off || !strings.HasPrefix(op.Verb, "sync") {
		delay = 0
	}
	d.mu.Unlock()
	if delay > 0 {
		time.Sleep(delay)
	}
	return v, err
}

// judge finds the fault that meets a call.
func (d *Disk) judge(op disk.Op) (disk.Verdict, error) {
	v, err := disk.Do, error(nil)
	for _, f := range d.faults {
		if f.On != nil && !f.On(Op(op)) || f.On == nil && !crashfs.Changes(op) || f.Times < 0 {
			continue
		}
		if f.After > 0 {
			f.After--
			continue
		}
		if v != disk.Do {
			continue
		}
		if d.failed.Verb == "" {
			d.failed = Op(op)
		}
		if v, err = disk.Fail, f.Err; f.Done {
			v = disk.Lie
		}
		if err == nil {
			err = syscall.EIO
		}
		if f.Times--; f.Times == 0 {
			f.Times = -1 // over
		} else if f.Times < 0 {
			f.Times = 0 // for ever
		}
	}
	return v, err
}
