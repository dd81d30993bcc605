package memory

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/wakepoint/wakepoint/internal/abi"
	"github.com/wakepoint/wakepoint/internal/sys"
	"github.com/wakepoint/wakepoint/internal/tape"
	"github.com/wakepoint/wakepoint/internal/tracee"
)

// ErrNoTracking says that writes cannot be tracked in this process; the full
// strategy remains.
var ErrNoTracking = errors.New("writes cannot be tracked")

// Incremental reads what was written since the last look.
//
// The scan clears what it reports. So the set of a look is kept until its
// checkpoint is committed; if it is abandoned, the set joins the next one's.
// An area that is not registered (new, moved, or mapped over) fails the
// protecting scan with EPERM: it is registered then and reads as written.
type Incremental struct {
	full    *Full
	uffd    int
	base    bool    // a look was committed
	copied  bool    // a look was copied and is not committed yet
	taken   []Range // fresh pages of the look in progress
	pending []Range // fresh pages of abandoned looks
}

// NewIncremental has a stopped thread create a userfaultfd for its space and
// fetches it. The thread's own descriptor is closed by the same tape, also if
// we die in the middle. ErrNoTracking where the kernel cannot do it.
func NewIncremental(t *tracee.Thread, s *tracee.Space) (*Incremental, error) {
	full, err := NewFull(t.TGID)
	if err != nil {
		return nil, err
	}
	m := &Incremental{full: full, uffd: -1}
	var tp tape.Tape
	fd := tp.Add("userfaultfd", t.Arch.NR.Userfaultfd, tape.N(sys.UserfaultFlags))
	tp.Pause()
	tp.Add("close", t.Arch.NR.Close, tp.Result(fd))
	_, err = t.Play(s, &tp, func(p *tracee.Played) error {
		if p.Results[fd] < 0 {
			return nil // Play reports it
		}
		pidfd, err := unix.PidfdOpen(t.TGID, 0)
		if err != nil {
			return err
		}
		defer unix.Close(pidfd)
		m.uffd, err = unix.PidfdGetfd(pidfd, int(p.Results[fd]), 0)
		return err
	})
	if err == nil {
		err = sys.UserfaultAsync(m.uffd)
	}
	if err == nil {
		_, _, err = scan(full.pagemap, own, Range{0, abi.PageSize}, full.regions)
	}
	if err != nil {
		_ = m.Close()
		return nil, fmt.Errorf("%w: %w", ErrNoTracking, err)
	}
	return m, nil
}

// Look implements Strategy.
func (m *Incremental) Look(a Area) (Found, error) {
	present, guards, err := m.full.present(a)
	if err != nil {
		return Found{}, fmt.Errorf("scan %#x: %w", a.Start, err)
	}
	if a.Shared {
		return Found{Guards: guards}, nil
	}
	written := []Range{a.Range}
	if a.Track {
		if written, err = m.written(a, present); err != nil {
			return Found{}, fmt.Errorf("scan %#x for writes: %w", a.Start, err)
		}
	}
	m.taken = append(m.taken, written...)
	fresh := present
	if m.base || m.copied {
		fresh = intersect(present, union(written, m.pending))
	}
	return Found{Present: present, Fresh: fresh, Guards: guards}, nil
}

// written returns and clears what was written in an area, given what is there
// now. What it returns may hold pages that are not there.
//
// Only where pages are is anything protected: to protect what is not there the
// kernel makes page tables for it, 200 MiB for a reservation of 100 GiB, and
// walks them in every scan from then on. A page that comes later is not
// protected when it comes, and so reads as written.
func (m *Incremental) written(area Area, present []Range) ([]Range, error) {
	a := changed
	if area.File {
		a = ownOverFile
		a.All |= sys.PageWritten
		a.Protect = true
	}
	near := windows(present)
	var out []Range
	for _, r := range near {
		w, _, err := scan(m.full.pagemap, a, r, m.full.regions)
		if errors.Is(err, unix.EPERM) {
			return []Range{area.Range}, m.register(area.Range, near, a)
		}
		if err != nil {
			return nil, err
		}
		out = append(out, w...)
	}
	return out, nil
}

// register begins to track an area of which nothing is known: all of it counts
// as written. One that cannot be tracked stays so.
func (m *Incremental) register(area Range, near []Range, a sys.ScanArgs) error {
	if err := sys.UserfaultRegister(m.uffd, area.Start, area.Len()); err != nil {
		return nil
	}
	for _, r := range near {
		if _, _, err := scan(m.full.pagemap, a, r, m.full.regions); err != nil && !errors.Is(err, unix.EPERM) {
			return err
		}
	}
	return nil
}

// tableSpan is how much memory, in bytes, one page of page table describes:
// to walk it takes as long as to begin another scan.
const tableSpan = 2 << 20

// windows joins sorted ranges that lie less than a page table apart.
func windows(ranges []Range) []Range {
	var out []Range
	for _, r := range ranges {
		if k := len(out); k > 0 && r.Start-out[k-1].End < tableSpan {
			out[k-1].End = r.End
		} else {
			out = append(out, r)
		}
	}
	return out
}

// Complete implements Strategy.
func (m *Incremental) Complete() bool { return m.base }

// Copied implements Strategy.
func (m *Incremental) Copied() bool {
	if m.base {
		return false
	}
	m.copied, m.taken = true, nil
	return true
}

// Missed implements Strategy.
func (m *Incremental) Missed(r []Range) { m.pending = union(m.pending, r) }

// Committed implements Strategy.
func (m *Incremental) Committed() { m.base, m.copied, m.taken, m.pending = true, false, nil, nil }

// Abandoned implements Strategy.
func (m *Incremental) Abandoned() {
	m.copied = false
	m.pending, m.taken = union(m.pending, m.taken), nil
}

// Close implements Strategy: with the descriptor all tracking ends.
func (m *Incremental) Close() error {
	if m.uffd >= 0 {
		_ = unix.Close(m.uffd)
		m.uffd = -1
	}
	return m.full.Close()
}

var _ = []Strategy{(*Full)(nil), (*Incremental)(nil)}
