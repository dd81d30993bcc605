package engine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/wakepoint/wakepoint/internal/description"
	"github.com/wakepoint/wakepoint/internal/image"
	"github.com/wakepoint/wakepoint/internal/namespace"
	"github.com/wakepoint/wakepoint/internal/sys"
	"github.com/wakepoint/wakepoint/internal/tape"
)

// fillTables gives every process its descriptors.
func (r *restorer) fillTables() error {
	if err := errors.Join(r.openDescriptions(), r.sealObjects()); err != nil {
		return err
	}
	for _, b := range r.order {
		if b.image.Zombie {
			continue
		}
		if err := r.raiseFiles(b); err != nil {
			return err
		}
		tp := r.planTable(b.image, &r.tree.Tables[b.image.Table])
		if _, err := b.leader().Play(&b.space, tp); err != nil {
			return fmt.Errorf("process %d: %w", b.ns, err)
		}
	}
	return nil
}

// raiseFiles lifts the soft limit of open files for the time of the building.
func (r *restorer) raiseFiles(b *builtProcess) error {
	var l unix.Rlimit
	if err := unix.Prlimit(b.pid, unix.RLIMIT_NOFILE, nil, &l); err != nil {
		return err
	}
	l.Cur = l.Max
	return unix.Prlimit(b.pid, unix.RLIMIT_NOFILE, &l, nil)
}

// planTable fetches descriptors by ascending number. The lowest free number,
// at which each arrives, is then never above the wanted one, so that what is
// in place already is not overwritten; what arrives below stays as litter in
// the gaps, which are closed at the end. When a descriptor arrives at its very
// number dup3 fails with EINVAL, which is as good.
func (r *restorer) planTable(p *image.Process, t *image.Table) *tape.Tape {
	nr := &r.arch.NR
	tp := new(tape.Tape)
	top := 0
	for _, e := range t.Entries {
		top = max(top, e.FD)
	}
	self := max(top, namespace.FDSelf) + 2
	tp.Add("dup3", nr.Dup3, tape.N(namespace.FDSelf), tape.N(self), tape.N(unix.O_CLOEXEC))
	closeRange := func(from, to int) {
		if from <= to {
			tp.Add("close_range", nr.CloseRange, tape.N(from), tape.N(to), tape.N(0))
		}
	}
	closeRange(0, self-1)
	closeRange(self+1, 1<<30)
	for _, e := range t.Entries {
		r.planFetch(tp, self, e)
	}
	next := 0
	for _, e := range t.Entries {
		closeRange(next, e.FD-1)
		next = e.FD + 1
	}
	closeRange(next, self-1)
	closeRange(self+1, 1<<30)
	r.planOwners(tp, t)
	r.planWatches(tp, p.Table, self)
	closeRange(self, self)
	r.planLocks(tp, p, t)
	return tp
}

// planFetch fetches one descriptor to its number.
func (r *restorer) planFetch(tp *tape.Tape, self int, e image.Entry) {
	nr := &r.arch.NR
	got := tp.Add("pidfd_getfd", nr.PidfdGetfd, tape.N(self), tape.N(int(r.files[e.Description].Fd())), tape.N(0))
	tp.Try("dup3", nr.Dup3, tp.Result(got), tape.N(e.FD), tape.N(unix.O_CLOEXEC))
	flag := 0
	if e.CloseOnExec {
		flag = unix.FD_CLOEXEC
	}
	tp.Add("fcntl", nr.Fcntl, tape.N(e.FD), tape.N(unix.F_SETFD), tape.N(flag))
}

// planOwners says who gets SIGIO: by a process that has the descriptor, since
// the numbers are those of its namespace.
func (r *restorer) planOwners(tp *tape.Tape, t *image.Table) {
	for _, e := range t.Entries {
		d := &r.tree.Descriptions[e.Description]
		if d.Flags&unix.O_ASYNC == 0 {
			continue
		}
		if d.Owner.PID != 0 {
			owner := make([]byte, 8)
			binary.LittleEndian.PutUint32(owner, uint32(d.Owner.Type))
			binary.LittleEndian.PutUint32(owner[4:], uint32(d.Owner.PID))
			tp.Try("fcntl", r.arch.NR.Fcntl, tape.N(e.FD), tape.N(unix.F_SETOWN_EX), tape.At(tp.Bytes(owner), 0))
		}
		if d.Owner.Sig != 0 {
			tp.Add("fcntl", r.arch.NR.Fcntl, tape.N(e.FD), tape.N(unix.F_SETSIG), tape.N(d.Owner.Sig))
		}
		tp.Add("fcntl", r.arch.NR.Fcntl, tape.N(e.FD), tape.N(unix.F_SETFL), tape.N(d.Flags))
	}
}

// planLocks takes the record locks of a process (F_SETLK). The lock of a
// process is noted at the description through which it was seen.
func (r *restorer) planLocks(tp *tape.Tape, p *image.Process, t *image.Table) {
	for _, e := range t.Entries {
		for _, l := range r.tree.Descriptions[e.Description].Locks {
			if l.Class != "POSIX" || l.PID != p.PID {
				continue
			}
			k := description.Flock(l)
			b := make([]byte, 32) // struct flock: short, short, off_t, off_t, pid_t
			binary.LittleEndian.PutUint16(b, uint16(k.Type))
			binary.LittleEndian.PutUint64(b[8:], uint64(k.Start))
			binary.LittleEndian.PutUint64(b[16:], uint64(k.Len))
			tp.Add("fcntl", r.arch.NR.Fcntl, tape.N(e.FD), tape.N(unix.F_SETLK), tape.At(tp.Bytes(b), 0))
		}
	}
}

// controlTerminal makes the terminal the session's, with its modes, size and
// foreground group.
func (r *restorer) controlTerminal() error {
	t := r.tree.Terminal
	if t == nil {
		return nil
	}
	if err := sys.IoctlBytes(int(r.master.Fd()), tcsets2, append([]byte(nil), t.Termios...)); err != nil {
		return fmt.Errorf("modes of the terminal: %w", err)
	}
	b := r.built[t.Session]
	if b == nil || b.image == nil || b.image.Zombie {
		return nil
	}
	slave, err := os.OpenFile(r.inside(t.Path), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return err
	}
	defer slave.Close()
	fds, err := r.fetch(b, []*os.File{slave})
	if err != nil {
		return err
	}
	tp := new(tape.Tape)
	tp.Add("ioctl", r.arch.NR.Ioctl, tape.N(fds[0]), tape.N(unix.TIOCSCTTY), tape.N(0))
	if t.Group != 0 {
		group := make([]byte, 4)
		binary.LittleEndian.PutUint32(group, uint32(t.Group))
		tp.Try("ioctl", r.arch.NR.Ioctl, tape.N(fds[0]), tape.N(unix.TIOCSPGRP), tape.At(tp.Bytes(group), 0))
	}
	_, err = b.leader().Play(&b.space, tp)
	return err
}
