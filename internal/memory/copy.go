package memory

import (
	"context"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/wakepoint/wakepoint/internal/abi"
	"github.com/wakepoint/wakepoint/internal/sys"
)

// iovMax is the most ranges of one process_vm_readv (UIO_MAXIOV).
const iovMax = 1024

// Copy hands the contents of ranges of a stopped process to put, which may not
// keep what it is given. mem is its /proc/PID/mem, buf whole pages of room.
// Scattered pages are gathered by process_vm_readv; what the program itself may
// not read, and long runs, come through mem.
func Copy(pid int, mem *os.File, ranges []Range, readable bool, buf []byte, put func(off int64, p []byte) error) error {
	var batch []unix.RemoteIovec
	n := 0
	flush := func() error {
		if n == 0 {
			return nil
		}
		got, err := sys.ReadProcess(pid, buf[:n], batch)
		if err != nil || got != n {
			if err := copySlow(mem, batch, buf); err != nil {
				return err
			}
		}
		at := 0
		for _, v := range batch {
			if err := put(int64(v.Base), buf[at:at+v.Len]); err != nil {
				return err
			}
			at += v.Len
		}
		batch, n = batch[:0], 0
		return nil
	}
	for _, r := range ranges {
		for r.Len() > 0 {
			k := min(uint64(len(buf)-n), r.Len())
			if readable && r.Len() < uint64(len(buf)) {
				batch = append(batch, unix.RemoteIovec{Base: uintptr(r.Start), Len: int(k)})
				n += int(k)
			} else {
				if err := flush(); err != nil {
					return err
				}
				k = min(uint64(len(buf)), r.Len())
				if _, err := mem.ReadAt(buf[:k], int64(r.Start)); err != nil {
					return fmt.Errorf("read %d bytes at %#x: %w", k, r.Start, err)
				}
				if err := put(int64(r.Start), buf[:k]); err != nil {
					return err
				}
			}
			r.Start += k
			if n == len(buf) || len(batch) == iovMax {
				if err := flush(); err != nil {
					return err
				}
			}
		}
	}
	return flush()
}

// copySlow reads a batch range by range through /proc/PID/mem.
func copySlow(mem *os.File, batch []unix.RemoteIovec, buf []byte) error {
	at := 0
	for _, v := range batch {
		if _, err := mem.ReadAt(buf[at:at+v.Len], int64(v.Base)); err != nil {
			return fmt.Errorf("read %d bytes at %#x: %w", v.Len, v.Base, err)
		}
		at += v.Len
	}
	return nil
}

// CopyRunning is Copy for a process that runs on. What changes meanwhile the
// next look finds; what cannot be read at the moment is returned as missed.
func CopyRunning(ctx context.Context, pid int, ranges []Range, buf []byte, put func(off int64, p []byte) error) (missed []Range, err error) {
	for _, r := range ranges {
		for r.Len() > 0 {
			if err := ctx.Err(); err != nil {
				return missed, err
			}
			n := min(uint64(len(buf)), r.Len())
			got, err := sys.ReadProcess(pid, buf[:n], []unix.RemoteIovec{{Base: uintptr(r.Start), Len: int(n)}})
			switch {
			case err == unix.ESRCH:
				return missed, nil // it has ended
			case err != nil || got < abi.PageSize:
				missed = append(missed, Range{r.Start, r.Start + abi.PageSize})
				r.Start += abi.PageSize
				continue
			}
			whole := uint64(got) &^ (abi.PageSize - 1)
			if err := put(int64(r.Start), buf[:whole]); err != nil {
				return missed, err
			}
			r.Start += whole
		}
	}
	return missed, nil
}
