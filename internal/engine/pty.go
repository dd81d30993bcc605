package engine

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/wakepoint/wakepoint/internal/image"
	"github.com/wakepoint/wakepoint/internal/sys"
)

// Sizes of struct termios2 and its ioctls (asm-generic/termbits.h), alike on
// amd64 and arm64.
const (
	termiosSize = 44
	tcgets2     = 0x802c542a
	tcsets2     = 0x402c542b
)

// terminal describes a descriptor of the tree's own terminal. What was typed
// and not yet read is lost: it can only be seen by reading it, which takes it
// away. Put back through the master it would be processed once more, so that the
// modes had to be others until a worker of the kernel has done so; and at no
// instant of that may we die, or the program runs on without its input and with
// modes that are not its own.
func (d *dumper) terminal(c *descriptor, desc *image.Description) error {
	desc.Kind = image.PtySlave
	if d.f.tree.handle.Cut {
		cutOff(desc)
		return nil
	}
	if d.f.tree.terminal == nil {
		return c.refuse("the terminal "+c.link+" at", "start it with `wakepoint run -t -- CMD`, or with its streams redirected")
	}
	n, err := unix.IoctlGetInt(int(d.f.tree.terminal.Fd()), unix.TIOCGPTN)
	if err != nil {
		return err
	}
	if own := fmt.Sprintf("/dev/pts/%d", n); c.link != own && c.link != "/dev/tty" {
		return c.refuse("the terminal "+c.link+" at", "only the workload's own terminal can be saved")
	}
	if d.tree.Terminal != nil {
		return nil
	}
	fd, err := c.ours()
	if err != nil {
		return err
	}
	t := &image.Terminal{Path: fmt.Sprintf("/dev/pts/%d", n), Termios: make([]byte, termiosSize)}
	if err := sys.IoctlBytes(fd, tcgets2, t.Termios); err != nil {
		return fmt.Errorf("modes of the terminal: %w", err)
	}
	ws, err := unix.IoctlGetWinsize(fd, unix.TIOCGWINSZ)
	if err != nil {
		return fmt.Errorf("size of the terminal: %w", err)
	}
	t.Size = [4]uint16{ws.Row, ws.Col, ws.Xpixel, ws.Ypixel}
	d.tree.Terminal = t
	return nil
}

// controlling notes whose controlling terminal it is, and which group is in
// its foreground, in the tree's own numbers.
func (d *dumper) controlling() {
	t := d.tree.Terminal
	if t == nil {
		return
	}
	for _, p := range d.f.processes {
		if p.zombie || p.stat.TTY == 0 {
			continue
		}
		if sid := last(p.status.NSsid, 0); sid == p.ns {
			t.Session = sid
		}
		for _, q := range d.f.processes {
			if q.stat.PGRP == p.stat.TPGID {
				t.Group = last(q.status.NSpgid, 0)
			}
		}
	}
}
