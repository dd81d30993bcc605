package engine

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/wakepoint/wakepoint/internal/abi"
	"github.com/wakepoint/wakepoint/internal/image"
	"github.com/wakepoint/wakepoint/internal/tape"
)

// TestOtherVdso restores as if the kernel's vdso were another one: the entry
// points of the old one are redirected. A generation taken then must restore too.
func TestOtherVdso(t *testing.T) {
	other := func(now []byte) []byte { return now }
	vdsoCycles(t, "clocks.c", other)
}

// TestLackingVdso restores as if the kernel's vdso had none of the functions
// of the old one, as an older kernel has no getrandom.
func TestLackingVdso(t *testing.T) {
	older := func(now []byte) []byte {
		now = bytes.ReplaceAll(now, []byte("get"), []byte("put"))
		return bytes.ReplaceAll(now, []byte("time\x00"), []byte("none\x00"))
	}
	t.Run("clocks", func(t *testing.T) { vdsoCycles(t, "clocks.c", older) })
	t.Run("random", func(t *testing.T) {
		if said := vdsoCycles(t, "random.c", older); !strings.Contains(said, "plain") {
			t.Errorf("random never made the plain system call:\n%s", said)
		}
	})
}

// TestDroppable: a kernel that refuses MAP_DROPPABLE is left with private memory
// that is wiped for a child.
func TestDroppable(t *testing.T) {
	r := &restorer{arch: abi.AMD64}
	tp := new(tape.Tape)
	r.planArea(tp, &image.Area{Kind: image.Anonymous, Start: 0x10000, End: 0x12000, Prot: 3, Object: -1, NoReserve: true,
		Blank: true, Droppable: true, Advice: []int{unix.MADV_WIPEONFORK, unix.MADV_DONTDUMP}}, nil)
	want := `0 mmap(0x10000, 0x2000, 0x3, 0x104022, 0xffffffffffffffff, 0x0)
1 mmap(0x10000, 0x2000, 0x3, 0x4038, 0xffffffffffffffff, 0x0) may fail
2 madvise(0x10000, 0x2000, 0x12)
3 madvise(0x10000, 0x2000, 0x10)
`
	if diff := cmp.Diff(want, tp.Format()); diff != "" {
		t.Error(diff)
	}
}

// TestOtherProcessor: a program saved where the processor could more is refused
// by what is missing here, since it may use it.
func TestOtherProcessor(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	program, out, rec := startProgram(t, dir, compiled(t, dir, "clocks.c"))
	goesOn(t, out)
	s := checkpoint(t, program, nil)
	killTree(t, program)
	tree, err := image.Decode(s.blobs[TreeBlob])
	if err != nil {
		t.Fatal(err)
	}
	tree.Processes[0].Threads[0].Float[abi.AMD64.FloatKept+5] |= 1 // part 40
	if s.blobs[TreeBlob], err = image.Encode(tree); err != nil {
		t.Fatal(err)
	}
	_, err = Restore(context.Background(), s.source(), RestoreOptions{Record: rec})
	if err == nil || !strings.Contains(err.Error(), "saved on a machine with part 40") {
		t.Errorf("restored with error %v", err)
	}
}

// vdsoCycles brings a program back with another vdso every second time, and
// returns what it printed.
func vdsoCycles(t *testing.T, program string, other func([]byte) []byte) string {
	t.Helper()
	needRoot(t)
	dir := t.TempDir()
	tree, out, rec := startProgram(t, dir, compiled(t, dir, program))
	defer func() { killTree(t, tree) }()
	for i := range count("WAKEPOINT_CYCLES", 6) {
		goesOn(t, out)
		s := checkpoint(t, tree, nil)
		killTree(t, tree)
		o := RestoreOptions{Record: rec}
		if i%2 == 0 {
			o.otherVdso = other
		}
		r, err := Restore(context.Background(), s.source(), o)
		if err != nil && strings.Contains(err.Error(), "inside the vdso of another kernel") {
			t.Log(err) // it never left it: refused by name
			r, err = Restore(context.Background(), s.source(), RestoreOptions{Record: rec})
		}
		if err != nil {
			t.Fatal(err)
		}
		if tree, err = r.Run(); err != nil {
			t.Fatal(err)
		}
	}
	goesOn(t, out)
	return fileText(t, out)
}
