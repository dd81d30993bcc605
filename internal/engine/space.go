package engine

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/wakepoint/wakepoint/internal/abi"
	"github.com/wakepoint/wakepoint/internal/memory"
	"github.com/wakepoint/wakepoint/internal/procfs"
	"github.com/wakepoint/wakepoint/internal/tape"
	"github.com/wakepoint/wakepoint/internal/tracee"
)

// spaceKey names an address space between two freezes: a process and where
// its program was placed, which an exec changes.
type spaceKey struct {
	pid   int
	start uint64 // start time, ticks
	code  uint64 // start of code
	stack uint64
}

// spaceState is what is kept of an address space from one freeze to the next.
type spaceState struct {
	strategy memory.Strategy
	pad      abi.Addr
	stale    bool // not seen in the current freeze
}

// frozenSpace is an address space during one freeze.
type frozenSpace struct {
	key   spaceKey
	state *spaceState
	owner *process // whose /proc is read
	space tracee.Space
	maps  []procfs.Mapping
	smaps []procfs.MappingUse
	tree  *Tree
}

// padSize is the size of the mapping in which tapes are played; odd, so that
// a keeper that takes over recognizes it.
const (
	padSize  = 0x11000
	padMagic = "wakepoint pad 1\n"
	padStart = 0x40
)

func (s *frozenSpace) close() {
	if s.space.Mem != nil {
		_ = s.space.Mem.Close()
		s.space.Mem = nil
	}
}

// openSpace prepares the address space of a stopped process: its memory file,
// the gate in the tail of the vdso, the pad.
func (f *Frozen) openSpace(p *process) (*frozenSpace, error) {
	s := &frozenSpace{owner: p, tree: f.tree, key: spaceKey{p.pid, p.stat.StartTicks, p.stat.StartCode, p.stat.StartStack}}
	s.maps = p.maps
	var err error
	if s.space.Mem, err = os.OpenFile("/proc/"+strconv.Itoa(p.pid)+"/mem", os.O_RDWR, 0); err != nil {
		return nil, err
	}
	p.space = s
	tail, err := vdsoTail(s.maps)
	if err != nil {
		return nil, refuse(p.pid, fmt.Sprintf("pid %d: %v", p.pid, err), "boot without vdso=0")
	}
	for i, t := range p.threads {
		if p.tasks[i].Seccomp != 0 {
			return nil, refuse(p.pid, fmt.Sprintf("pid %d has a seccomp filter, which cannot be saved yet", p.pid), "start it without its sandbox")
		}
		if on, err := t.Dispatches(); err == nil && on {
			return nil, refuse(p.pid, fmt.Sprintf("pid %d dispatches its own system calls (PR_SET_SYSCALL_USER_DISPATCH), which cannot be saved", p.pid), "start it without that (Wine)")
		}
	}
	if err := s.space.Install(f.tree.arch, tail); err != nil {
		return nil, err
	}
	s.state = f.tree.spaces[s.key]
	if s.state == nil {
		s.state = &spaceState{}
		f.tree.spaces[s.key] = s.state
	}
	s.state.stale = false
	return s, s.findPad(f.tree.arch, p.leader())
}

// findPad looks for the pad, which stays mapped between checkpoints, and maps
// one when there is none.
func (s *frozenSpace) findPad(a *abi.Arch, t *tracee.Thread) error {
	s.space.Size = padSize - padStart
	magic := make([]byte, len(padMagic))
	for _, m := range s.maps {
		if !m.Shared || m.Len() != padSize || m.Path != "/dev/zero" || !m.Deleted {
			continue
		}
		if _, err := s.space.Mem.ReadAt(magic, int64(m.Start)); err == nil && string(magic) == padMagic {
			s.state.pad = abi.Addr(m.Start)
			s.space.Pad = s.state.pad + padStart
			return nil
		}
	}
	at, err := t.One(&s.space, "mmap", a.NR.Mmap, tape.N(0), tape.N(padSize),
		tape.N(unix.PROT_READ|unix.PROT_WRITE), tape.N(unix.MAP_SHARED|unix.MAP_ANONYMOUS), tape.N(^uint64(0)))
	if err != nil {
		return fmt.Errorf("make room for a tape: %w", err)
	}
	s.state.pad = abi.Addr(at)
	s.space.Pad = s.state.pad + padStart
	if _, err := s.space.Mem.WriteAt([]byte(padMagic), at); err != nil {
		return err
	}
	if s.maps, err = s.tree.proc.Maps(s.owner.pid); err != nil {
		return gone(err)
	}
	_, err = t.One(&s.space, "madvise", a.NR.Madvise, tape.N(at), tape.N(padSize), tape.N(unix.MADV_DONTFORK))
	return err
}

// CopyAll chooses the strategy from the next freeze on: all memory is copied
// while the tree is frozen, or, which is the default where the kernel can, only
// what was written since the last generation.
func (t *Tree) CopyAll(all bool) {
	t.forgetSpaces()
	t.copyAll = all
}

// forgetSpaces drops everything that is kept of address spaces.
func (t *Tree) forgetSpaces() {
	for k, s := range t.spaces {
		if s.strategy != nil {
			_ = s.strategy.Close()
		}
		delete(t.spaces, k)
	}
}

// Committed tells the engine that what the last Dump wrote survives;
// Abandoned that it does not: its dirty set joins the next one's. One of the
// two must follow every Dump before the next Freeze.
func (t *Tree) Committed() {
	t.dumped, t.dumping = t.dumping, map[inode]bool{}
	for k, s := range t.spaces {
		if s.stale {
			t.drop(k)
		} else if s.strategy != nil {
			s.strategy.Committed()
		}
	}
}

// Abandoned: see Committed.
func (t *Tree) Abandoned() {
	t.dumping, t.copied = map[inode]bool{}, nil
	for _, s := range t.spaces {
		if s.strategy != nil {
			s.strategy.Abandoned()
		}
	}
}

func (t *Tree) drop(k spaceKey) {
	if s := t.spaces[k]; s != nil && s.strategy != nil {
		_ = s.strategy.Close()
	}
	delete(t.spaces, k)
}
