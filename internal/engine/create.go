package engine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wakepoint/wakepoint/internal/abi"
	"github.com/wakepoint/wakepoint/internal/image"
	"github.com/wakepoint/wakepoint/internal/tape"
	"github.com/wakepoint/wakepoint/internal/tracee"
)

// workshop is a mapping that every process under construction has at the same
// place, where neither the init nor any area of the image lies: room for the
// gate, for tapes, and for parking the vdso.
type workshop struct {
	base abi.Addr
}

// Layout of the workshop.
const (
	shopPark = 0x10000  // the vdso and its data pages wait here
	shopPad  = 0x1000   // tapes, before the parking place
	shopSize = 0x400000 // whole
	shopTape = 0x100000 // tapes, behind the parking place
)

// openShop maps the workshop in the init. Its children inherit it.
func (r *restorer) openShop() error {
	maps, err := r.proc.Maps(r.init.PID)
	if err != nil {
		return gone(err)
	}
	base, err := r.hole(0x200000000)
	if err != nil {
		return err
	}
	tail, err := vdsoTail(maps)
	if err != nil {
		return err
	}
	b := r.stub
	if err := b.space.Install(r.arch, tail); err != nil {
		return err
	}
	_, err = b.leader().One(&b.space, "mmap", r.arch.NR.Mmap, tape.N(uint64(base)), tape.N(shopSize),
		tape.N(unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC),
		tape.N(unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_FIXED_NOREPLACE|unix.MAP_NORESERVE), tape.N(^uint64(0)))
	if err != nil {
		return err
	}
	r.shop.base = base
	if err := errors.Join(r.planVdso(), r.planFloat()); err != nil {
		return err
	}
	return r.useShop(b)
}

func (r *restorer) useShop(b *builtProcess) error {
	b.space.Pad, b.space.Size = r.shop.base+shopTape, shopSize-shopTape
	return b.space.Install(r.arch, r.shop.base)
}

// hole finds room of the workshop's size from at on: clear of every area of
// the image, of the fresh init (which lies high) and of the lowest addresses.
func (r *restorer) hole(at abi.Addr) (abi.Addr, error) {
	at = r.tree.Hole(at, shopSize)
	if at+shopSize >= r.arch.StackTop-(1<<36) {
		return 0, fmt.Errorf("the program leaves no hole in its address space")
	}
	return at, nil
}

// cloneArgs is struct clone_args (clone3(2)): offsets of the fields used.
const (
	cloneArgsSize = 88
	cloneFlags    = 0
	cloneExitSig  = 32
	cloneSetTID   = 64
	cloneSetCount = 72
)

// clone plays clone3 in a thread. The child is attached by the kernel
// (CLONE_PTRACE) and stops before its first instruction.
func (r *restorer) clone(b *builtProcess, flags uint64, exitSignal, number int) error {
	var tp tape.Tape
	list := make([]byte, 8)
	binary.LittleEndian.PutUint32(list, uint32(number))
	args := make([]byte, cloneArgsSize)
	binary.LittleEndian.PutUint64(args[cloneFlags:], flags|unix.CLONE_PTRACE)
	binary.LittleEndian.PutUint64(args[cloneExitSig:], uint64(exitSignal))
	if number != 0 {
		binary.LittleEndian.PutUint64(args[cloneSetCount:], 1)
	}
	// The array of wanted numbers lies at a place known beforehand: the start
	// of the parking place's neighbour.
	at := uint64(r.shop.base) + shopPad
	binary.LittleEndian.PutUint64(args[cloneSetTID:], at*min(uint64(number), 1))
	if _, err := b.space.Mem.WriteAt(list, int64(at)); err != nil {
		return err
	}
	d := tp.Bytes(args)
	tp.Add("clone3", r.arch.NR.Clone3, tape.At(d, 0), tape.N(cloneArgsSize))
	_, err := b.leader().Play(&b.space, &tp)
	if err != nil {
		return fmt.Errorf("process or thread number %d: %w", number, err)
	}
	return nil
}

// adoptThread waits until a new thread or process stands still.
func (r *restorer) adoptThread(tid int) (*tracee.Thread, error) {
	t := r.tracer.Attached(r.arch, tid)
	return t, t.WaitStop(time.Now().Add(5 * time.Second))
}

// child creates a process below b, with the given number or any (0).
func (r *restorer) child(b *builtProcess, exitSignal, number int, p *image.Process) (*builtProcess, error) {
	before, err := r.proc.Children(b.pid, b.pid)
	if err != nil {
		return nil, gone(err)
	}
	if err := r.clone(b, 0, exitSignal, number); err != nil {
		return nil, err
	}
	after, err := r.proc.Children(b.pid, b.pid)
	if err != nil {
		return nil, gone(err)
	}
	for _, pid := range after {
		if slices.Contains(before, pid) {
			continue
		}
		t, err := r.adoptThread(pid)
		if err != nil {
			return nil, err
		}
		c, err := r.newBuilt(t, p)
		if err != nil {
			return nil, err
		}
		c.sid, c.parent = b.sid, b
		return c, r.useShop(c)
	}
	return nil, fmt.Errorf("the child %d of %d is not there: %w", number, b.pid, os.ErrProcessDone)
}

// createProcesses creates every process with its number, parent and session.
func (r *restorer) createProcesses() error {
	c := creator{r: r, children: map[int][]*image.Process{}}
	for i := range r.tree.Processes {
		p := &r.tree.Processes[i]
		c.children[p.PPID] = append(c.children[p.PPID], p)
	}
	// Session leaders first: the others are born into their sessions.
	slices.SortStableFunc(c.children[0], func(a, b *image.Process) int {
		return boolOrder(a.SID != a.PID) - boolOrder(b.SID != b.PID)
	})
	for _, p := range c.children[0] {
		if err := c.create(r.stub, p); err != nil {
			return err
		}
	}
	return nil
}

func boolOrder(b bool) int {
	if b {
		return 1
	}
	return 0
}

// creator walks the tree.
type creator struct {
	r        *restorer
	children map[int][]*image.Process
}

// create creates p below parent, then p's children that were born before p
// began a session of its own, then the session, then the others.
func (c *creator) create(parent *builtProcess, p *image.Process) error {
	b, err := c.born(parent, p)
	if err != nil {
		return err
	}
	c.r.built[p.PID] = b
	c.r.order = append(c.r.order, b)
	if p.Zombie {
		return c.session(b)
	}
	var later []*image.Process
	for _, q := range c.children[p.PID] {
		if p.SID == p.PID && q.SID != p.SID && q.SID != q.PID {
			if err := c.create(b, q); err != nil {
				return err
			}
		} else {
			later = append(later, q)
		}
	}
	if err := c.session(b); err != nil {
		return err
	}
	for _, q := range later {
		if err := c.create(b, q); err != nil {
			return err
		}
	}
	return nil
}

// born creates p so that it is in its session from birth, unless it leads one.
func (c *creator) born(parent *builtProcess, p *image.Process) (*builtProcess, error) {
	r := c.r
	if p.SID == p.PID || p.SID == 0 || p.SID == parent.sid {
		return r.child(parent, p.ExitSignal, p.PID, p)
	}
	// An orphan of another session: a passing parent in that session has it,
	// and leaves it to the init, or to the subreaper above it, by ending.
	leader := r.built[p.SID]
	var err error
	if leader == nil {
		// A dead leader: the other members of its session are born from it
		// too; it ends when the groups are set up.
		if leader, err = r.child(parent, 0, p.SID, nil); err != nil {
			return nil, err
		}
		if err := r.setsid(leader); err != nil {
			return nil, err
		}
		leader.reaper = parent
		r.ghosts = append(r.ghosts, leader)
		r.built[p.SID] = leader
	}
	if leader.reaper == parent { // a ghost: its children become its parent's when it ends
		return r.child(leader, p.ExitSignal, p.PID, p)
	}
	if !leader.below(parent) {
		return nil, fmt.Errorf("process %d is in session %d, but its parent is no ancestor of that session's leader", p.PID, p.SID)
	}
	passing, err := r.child(leader, 0, 0, nil)
	if err != nil {
		return nil, err
	}
	b, err := r.child(passing, p.ExitSignal, p.PID, p)
	if err != nil {
		return nil, err
	}
	b.parent = parent
	return b, r.end(leader, passing, parent)
}

// below says whether b descends from a process.
func (b *builtProcess) below(from *builtProcess) bool {
	for b != nil && b != from {
		b = b.parent
	}
	return b != nil
}

// session makes b the leader of a session if it was one.
func (c *creator) session(b *builtProcess) error {
	if b.image.SID != b.ns {
		return nil
	}
	return c.r.setsid(b)
}

func (r *restorer) setsid(b *builtProcess) error {
	var tp tape.Tape
	tp.Add("setsid", r.arch.NR.Setsid)
	if _, err := b.leader().Play(&b.space, &tp); err != nil {
		return err
	}
	b.sid = b.ns
	return nil
}

// end ends a helper process and has its parent reap it. Its children go to
// heir, which is above it: the init, or else a subreaper for the time being.
func (r *restorer) end(parent, b, heir *builtProcess) error {
	inherit := func(on int) error {
		if heir == r.stub {
			return nil
		}
		var tp tape.Tape
		tp.Add("prctl", r.arch.NR.Prctl, tape.N(unix.PR_SET_CHILD_SUBREAPER), tape.N(on))
		_, err := heir.leader().Play(&heir.space, &tp)
		return err
	}
	if err := inherit(1); err != nil {
		return err
	}
	_ = unix.Kill(b.pid, unix.SIGKILL)
	b.leader().Reap()
	_ = b.space.Mem.Close()
	b.space.Mem = nil
	var tp tape.Tape
	tp.Try("wait4", r.arch.NR.Wait4, tape.N(b.ns), tape.N(0), tape.N(unix.WALL|unix.WNOHANG), tape.N(0))
	if _, err := parent.leader().Play(&parent.space, &tp); err != nil {
		return err
	}
	return inherit(0)
}

// setGroups puts every process into its process group, leaders first. A group
// whose leader has ended is led for a moment by a helper.
func (r *restorer) setGroups() error {
	if err := r.leadGroups(); err != nil {
		return err
	}
	for _, b := range r.order {
		if b.image.PGID == b.ns || b.image.PGID == 0 {
			continue
		}
		var tp tape.Tape
		tp.Add("setpgid", r.arch.NR.Setpgid, tape.N(0), tape.N(b.image.PGID))
		if _, err := b.leader().Play(&b.space, &tp); err != nil {
			return fmt.Errorf("process %d into group %d: %w", b.ns, b.image.PGID, err)
		}
	}
	if err := r.controlTerminal(); err != nil {
		return err
	}
	for _, g := range r.ghosts {
		delete(r.built, g.ns)
		if err := r.end(g.reaper, g, g.reaper); err != nil {
			return err
		}
	}
	return nil
}

// leadGroups makes every leader lead, with helpers for the dead ones.
func (r *restorer) leadGroups() error {
	lead := func(b *builtProcess) error {
		if b.sid == b.ns {
			return nil // a session leader leads its group already
		}
		var tp tape.Tape
		tp.Add("setpgid", r.arch.NR.Setpgid, tape.N(0), tape.N(0))
		_, err := b.leader().Play(&b.space, &tp)
		return err
	}
	for _, b := range r.order {
		if b.image.PGID == b.ns {
			if err := lead(b); err != nil {
				return err
			}
		}
	}
	for _, b := range r.order {
		g := b.image.PGID
		if g == 0 || r.built[g] != nil {
			continue
		}
		in := r.built[b.sid]
		if in == nil {
			in = b
		}
		helper, err := r.child(in, 0, g, nil)
		if err != nil {
			return err
		}
		helper.reaper = in
		r.ghosts = append(r.ghosts, helper)
		r.built[g] = helper
		if err := lead(helper); err != nil {
			return err
		}
	}
	return nil
}
