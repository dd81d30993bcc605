package memory

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/wakepoint/wakepoint/internal/abi"
	"github.com/wakepoint/wakepoint/internal/sys"
)

// own is what a private page with contents of its own looks like: there, and
// not the page of zeros.
var own = sys.ScanArgs{
	All:      sys.PageZeroPFN,
	Inverted: sys.PageZeroPFN,
	Any:      sys.PagePresent | sys.PageSwapped,
}

// ownOverFile also leaves out the file's own pages. The kernel has to touch
// the descriptor of every page for that, which takes four times as long.
var ownOverFile = sys.ScanArgs{
	All:      sys.PageFile | sys.PageZeroPFN,
	Inverted: sys.PageFile | sys.PageZeroPFN,
	Any:      sys.PagePresent | sys.PageSwapped,
}

// changed finds and protects what was written. Exactly this shape takes the
// kernel's fast path (fs/proc/task_mmu.c, pagemap_scan_pmd_entry); it also
// reports pages that are not there.
var changed = sys.ScanArgs{All: sys.PageWritten, Return: sys.PageWritten, Protect: true}

// scan collects the regions of r that match a; guard pages apart, if a asks for them.
func scan(pagemap *os.File, a sys.ScanArgs, r Range, buf []sys.PageRegion) (out, guards []Range, err error) {
	a.Start, a.End = r.Start, r.End
	for a.Start < a.End {
		n, end, err := sys.PagemapScan(int(pagemap.Fd()), a, buf)
		for _, g := range buf[:n] {
			if g.Categories&sys.PageGuard != 0 {
				guards = extend(guards, Range{g.Start, g.End})
			} else {
				out = extend(out, Range{g.Start, g.End})
			}
		}
		if err != nil {
			return out, guards, err
		}
		if end <= a.Start {
			return out, guards, fmt.Errorf("scan at %#x made no progress", a.Start)
		}
		a.Start = end
	}
	return out, guards, nil
}

// extend appends a range, to the last one where that ends at its start.
func extend(list []Range, r Range) []Range {
	if k := len(list); k > 0 && list[k-1].End == r.Start {
		list[k-1].End = r.End
		return list
	}
	return append(list, r)
}

// Bits of /proc/PID/pagemap (Documentation/admin-guide/mm/pagemap.rst).
const (
	bitPresent = 1 << 63
	bitSwapped = 1 << 62
	bitFile    = 1 << 61
)

// readPagemap is scan for kernels without the ioctl. It cannot tell the page
// of zeros, which the store then finds out by its contents.
func readPagemap(pagemap *os.File, r Range, buf []byte) ([]Range, error) {
	var out []Range
	for at := r.Start; at < r.End; {
		n := min(uint64(len(buf))/8, (r.End-at)/abi.PageSize)
		got, err := pagemap.ReadAt(buf[:n*8], int64(at/abi.PageSize*8))
		if got == 0 && err != nil {
			return nil, fmt.Errorf("read pagemap at %#x: %w", at, err)
		}
		for i := 0; i+8 <= got; i += 8 {
			e := binary.LittleEndian.Uint64(buf[i:])
			if e&(bitPresent|bitSwapped) != 0 && e&bitFile == 0 {
				out = extend(out, Range{at, at + abi.PageSize})
			}
			at += abi.PageSize
		}
	}
	return out, nil
}

// Full reads all that is present.
type Full struct {
	pagemap *os.File
	noScan  bool
	guard   uint64 // PageGuard, where the kernel has it
	regions []sys.PageRegion
}

// NewFull opens the strategy for a process.
func NewFull(pid int) (*Full, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/pagemap", pid))
	if err != nil {
		return nil, err
	}
	m := &Full{pagemap: f, guard: sys.PageGuard, regions: make([]sys.PageRegion, 1024)}
	if _, _, err := scan(f, sys.ScanArgs{Any: sys.PageGuard}, Range{0, abi.PageSize}, m.regions); errors.Is(err, unix.EINVAL) {
		m.guard = 0
	}
	return m, nil
}

// Look implements Strategy.
func (f *Full) Look(a Area) (Found, error) {
	p, guards, err := f.present(a)
	return Found{Present: p, Fresh: p, Guards: guards}, err
}

func (f *Full) present(a Area) (present, guards []Range, err error) {
	what := own
	switch {
	case a.Shared && f.guard == 0:
		return nil, nil, nil
	case a.Shared:
		what = sys.ScanArgs{All: f.guard}
	case a.File:
		what = ownOverFile
	}
	if !f.noScan {
		what.Return = f.guard
		present, guards, err = scan(f.pagemap, what, a.Range, f.regions)
		if !errors.Is(err, unix.ENOTTY) {
			return present, guards, err
		}
		f.noScan = true
	}
	if !a.Shared {
		present, err = readPagemap(f.pagemap, a.Range, make([]byte, 1<<16))
	}
	return present, nil, err
}

// Complete implements Strategy.
func (f *Full) Complete() bool { return false }

// Copied implements Strategy.
func (f *Full) Copied() bool { return false }

// Missed implements Strategy.
func (f *Full) Missed([]Range) {}

// Committed implements Strategy.
func (f *Full) Committed() {}

// Abandoned implements Strategy.
func (f *Full) Abandoned() {}

// Close implements Strategy.
func (f *Full) Close() error { return f.pagemap.Close() }
