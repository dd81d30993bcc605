package memory

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/wakepoint/wakepoint/internal/abi"
	"github.com/wakepoint/wakepoint/internal/sys"
)

// plot is memory of this process that the tests look at.
type plot struct {
	bytes []byte
	area  Area
}

func mapPlot(t *testing.T, pages int) *plot {
	t.Helper()
	b, err := unix.Mmap(-1, 0, pages*abi.PageSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Munmap(b) })
	start, err := strconv.ParseUint(fmt.Sprintf("%p", b)[2:], 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	return &plot{b, Area{Range: Range{start, start + uint64(len(b))}, Track: true}}
}

func (p *plot) page(i int) []byte { return p.bytes[i*abi.PageSize : (i+1)*abi.PageSize] }

// numbers are the pages of ranges.
func (p *plot) numbers(list []Range) (out []int) {
	for _, r := range list {
		for at := r.Start; at < r.End; at += abi.PageSize {
			out = append(out, int((at-p.area.Start)/abi.PageSize))
		}
	}
	return out
}

func self(t *testing.T) *Full {
	t.Helper()
	f, err := NewFull(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// TestFull: pages that were written are there; the page of zeros, guard pages
// and what was given back are not. Guard pages are told apart.
func TestFull(t *testing.T) {
	p, f := mapPlot(t, 64), self(t)
	if f.guard == 0 {
		t.Skip("this kernel does not show guard pages (Linux 6.15)")
	}
	for _, i := range []int{0, 1, 2, 7, 8, 20, 63} {
		p.page(i)[5] = byte(i + 1)
	}
	_ = bytes.Count(p.page(30), []byte{0})
	for i, advice := range map[int]int{7: unix.MADV_DONTNEED, 20: 102, 41: 102, 42: 102} { // MADV_GUARD_INSTALL
		if err := unix.Madvise(p.page(i), advice); err != nil {
			t.Fatal(err)
		}
	}
	found, err := f.Look(p.area)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([][]int{{0, 1, 2, 8, 63}, {20, 41, 42}}, [][]int{p.numbers(found.Present), p.numbers(found.Guards)}); d != "" {
		t.Error(d)
	}
	shared := p.area
	shared.Shared = true
	if found, err = f.Look(shared); err != nil || found.Present != nil || len(found.Guards) != 2 {
		t.Errorf("of a shared mapping: %v, %v", found, err)
	}
}

// TestPagemap: without the ioctl the page of zeros counts as present, too.
func TestPagemap(t *testing.T) {
	p, f := mapPlot(t, 64), self(t)
	p.page(3)[0], p.page(4)[0], p.page(63)[0] = 1, 1, 1
	_ = bytes.Count(p.page(30), []byte{0})
	f.noScan = true
	found, err := f.Look(p.area)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]int{3, 4, 30, 63}, p.numbers(found.Present)); d != "" {
		t.Error(d)
	}
}

// TestIncremental lives through random writes, pages given back, and
// checkpoints that are committed or abandoned. What is put together from the
// last committed generation and the fresh pages is the memory as it is.
func TestIncremental(t *testing.T) {
	const pages = 16 << 10
	for _, huge := range []bool{false, true} {
		t.Run(fmt.Sprint("huge ", huge), func(t *testing.T) {
			p := mapPlot(t, pages)
			if huge && unix.Madvise(p.bytes, unix.MADV_HUGEPAGE) != nil {
				t.Skip("this kernel has no huge pages")
			}
			m := tracked(t)
			r := rand.New(rand.NewPCG(3, 4))
			base := map[int][]byte{}
			for round := range 300 {
				change(t, r, p, round)
				next, err := generation(m, p, base)
				if err != nil {
					t.Fatalf("round %d: %v", round, err)
				}
				if r.IntN(3) == 0 {
					m.Abandoned()
				} else {
					m.Committed()
					base = next
				}
			}
		})
	}
}

// tracked is a strategy for this process itself.
func tracked(t *testing.T) *Incremental {
	t.Helper()
	fd, err := sys.Userfaultfd()
	if err != nil {
		t.Skipf("userfaultfd: %v", err)
	}
	m := &Incremental{full: self(t), uffd: fd}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if err := sys.UserfaultAsync(m.uffd); err != nil {
		t.Skipf("userfaultfd: %v", err)
	}
	return m
}

// change does a few things to random pages, near each other and far apart.
func change(t *testing.T, r *rand.Rand, p *plot, round int) {
	t.Helper()
	pages := len(p.bytes) / abi.PageSize
	near := r.IntN(pages - 64)
	for range r.IntN(20) {
		i := near + r.IntN(64)
		if r.IntN(4) == 0 {
			i = r.IntN(pages)
		}
		switch r.IntN(4) {
		case 0:
			k := min(1+r.IntN(40), pages-i)
			if err := unix.Madvise(p.bytes[i*abi.PageSize:(i+k)*abi.PageSize], unix.MADV_DONTNEED); err != nil {
				t.Fatal(err)
			}
		case 1:
			_ = bytes.Count(p.page(i), []byte{1})
		default:
			p.page(i)[r.IntN(abi.PageSize)] = byte(1 + round%255)
		}
	}
}

// generation puts one together and compares it with the memory.
func generation(m *Incremental, p *plot, base map[int][]byte) (map[int][]byte, error) {
	found, err := m.Look(p.area)
	if err != nil {
		return nil, err
	}
	next := map[int][]byte{}
	if m.Complete() {
		for _, i := range p.numbers(found.Present) {
			if b := base[i]; b != nil {
				next[i] = b
			}
		}
	} else {
		found.Fresh = found.Present
	}
	for _, i := range p.numbers(found.Fresh) {
		next[i] = bytes.Clone(p.page(i))
	}
	zero := make([]byte, abi.PageSize)
	for _, i := range p.numbers(found.Present) {
		if want := next[i]; !bytes.Equal(p.page(i), want) && !(want == nil && bytes.Equal(p.page(i), zero)) {
			return nil, fmt.Errorf("page %d is not as it is in memory", i)
		}
	}
	return next, nil
}
