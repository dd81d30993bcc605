package engine

import (
	"fmt"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/wakepoint/wakepoint/internal/description"
	"github.com/wakepoint/wakepoint/internal/image"
)

// pipe describes one end of a pipe.
func (d *dumper) pipe(c *descriptor, desc *image.Description) error {
	desc.Kind = image.PipeEnd
	return d.pipeState(c, desc, c.info.Inode)
}

// fifo describes one open end of a FIFO with a name.
func (d *dumper) fifo(c *descriptor, desc *image.Description, st *syscall.Stat_t) error {
	desc.Kind = image.FIFO
	if strings.HasSuffix(c.link, " (deleted)") && st.Nlink == 0 {
		return c.refuse("the removed FIFO at", "")
	}
	if err := d.pipeState(c, desc, st.Ino); err != nil {
		return err
	}
	desc.Pipe.Mode, desc.Pipe.UID, desc.Pipe.GID = st.Mode, st.Uid, st.Gid
	return nil
}

// pipeState notes capacity and contents. The contents are copied by tee(2),
// which leaves them where they are, at the first end that is seen.
func (d *dumper) pipeState(c *descriptor, desc *image.Description, ino uint64) error {
	desc.Pipe = &image.Pipe{ID: ino}
	if d.pipes[ino] {
		return nil
	}
	d.pipes[ino] = true
	fd, err := c.ours()
	if err != nil {
		return err
	}
	if desc.Pipe.Size, err = unix.FcntlInt(uintptr(fd), unix.F_GETPIPE_SZ, 0); err != nil {
		return fmt.Errorf("capacity of pipe: %w", err)
	}
	waiting, err := unix.IoctlGetInt(fd, unix.TIOCINQ)
	if err != nil {
		return fmt.Errorf("contents of pipe: %w", err)
	}
	if waiting == 0 {
		return nil
	}
	packets := desc.Flags&unix.O_DIRECT != 0
	return description.PeekPipe(c.magic(), waiting, desc.Pipe, packets)
}
