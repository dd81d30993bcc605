package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wakepoint/wakepoint/internal/abi"
	"github.com/wakepoint/wakepoint/internal/image"
	"github.com/wakepoint/wakepoint/internal/memory"
	"github.com/wakepoint/wakepoint/internal/procfs"
	"github.com/wakepoint/wakepoint/internal/sockdiag"
)

// TreeBlob is the name of the blob that holds the image.
const TreeBlob = "tree"

// dumper describes a frozen tree.
type dumper struct {
	f         *Frozen
	proc      *procfs.Reader
	tree      image.Tree
	spaces    []*frozenSpace
	objects   map[inode]int // index into tree.Objects
	sources   []objectSource
	byLink    map[string][]known // descriptions by what their link says
	unix      *sockdiag.UnixTable
	segments  []procfs.SharedMemory
	inodes    []uint64 // of descriptions
	pipes     map[uint64]bool
	fileOrder []inode
	files     map[inode]*OpenFile
	watches   []pendingWatch
	unseen    map[uint64]*descriptor // sockets whose peer nobody has, but that sent something
}

// inode names a file of this host.
type inode struct {
	dev, ino uint64
}

// describe fills in the image: everything but the contents of memory. It
// runs on the tracer's thread while the tree is frozen.
func (f *Frozen) describe() error {
	d := &dumper{f: f, proc: f.tree.proc, objects: map[inode]int{}, byLink: map[string][]known{},
		pipes: map[uint64]bool{}, files: map[inode]*OpenFile{}, unseen: map[uint64]*descriptor{}}
	f.image = d
	h := f.tree.handle
	d.tree = image.Tree{Version: image.Version, Arch: f.tree.arch.Name, HostPIDs: h.Init == 0, HostIPC: f.tree.hostIPC}
	if p := f.byPID[int(h.Command)]; p != nil {
		d.tree.Command = p.ns
	}
	for _, s := range f.tree.spaces {
		s.stale = true
	}
	if err := errors.Join(d.ipc(), d.sharing()); err != nil {
		return err
	}
	for _, p := range f.processes {
		if err := f.note(d.process(p)); err != nil {
			return fmt.Errorf("pid %d: %w", p.pid, err)
		}
	}
	d.finishFiles()
	d.looseSegments()
	for _, last := range []func() error{d.resolveWatches, d.resolveUnix, d.shared} {
		if err := last(); err != nil {
			return err
		}
	}
	d.controlling()
	return d.clock()
}

// process describes one process.
func (d *dumper) process(p *process) error {
	q := image.Process{PID: p.ns, ExitSignal: p.stat.ExitSignal, Name: p.stat.Comm, Zombie: p.zombie, Space: -1, Table: -1,
		PGID: last(p.status.NSpgid, 0), SID: last(p.status.NSsid, 0)}
	if p.parent != nil {
		q.PPID = p.parent.ns
	}
	if d.tree.HostPIDs {
		q.PGID, q.SID = d.ownGroup(q.PGID), d.ownGroup(q.SID)
	}
	if p.zombie {
		q.ExitCode = p.stat.ExitCode
		d.tree.Processes = append(d.tree.Processes, q)
		return nil
	}
	var err error
	if q.Table, err = d.table(p); err != nil {
		return err
	}
	s, err := d.f.openSpace(p)
	if err != nil {
		return err
	}
	answers, err := d.ask(p)
	if err != nil {
		return err
	}
	if err := d.f.note(d.credentials(p)); err != nil {
		return err
	}
	for i := range p.threads {
		th, err := d.thread(p, i, answers)
		if err != nil {
			return err
		}
		d.connected(q.Table, &th)
		q.Threads = append(q.Threads, th)
	}
	if err := d.signals(p, answers, &q); err != nil {
		return err
	}
	if err := d.f.note(d.timers(p, answers, &q)); err != nil {
		return err
	}
	if err := d.attributes(p, answers, &q); err != nil {
		return err
	}
	if q.Space, err = d.space(s, answers); err != nil {
		return err
	}
	d.tree.Processes = append(d.tree.Processes, q)
	return nil
}

// ownGroup is a group or session of the host as the image knows it: 0 when it
// is led by a process outside the tree.
func (d *dumper) ownGroup(id int) int {
	if d.f.byPID[id] != nil {
		return id
	}
	if _, err := d.proc.Stat(id); err == nil {
		return 0
	}
	return id
}

// clock notes what the clocks of the tree show.
func (d *dumper) clock() error {
	d.tree.Clock.Realtime = time.Now().UnixNano()
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return err
	}
	d.tree.Clock.Monotonic = ts.Nano() + d.f.tree.offsets[0]
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return err
	}
	d.tree.Clock.Boottime = ts.Nano() + d.f.tree.offsets[1]
	return nil
}

// Files returns the files that belong to the checkpoint.
func (f *Frozen) Files() []OpenFile { return f.files }

// Mapped returns the files that the tree only reads: mapped, but not shared and
// writable, or open for reading. Some come more than once.
func (f *Frozen) Mapped() (list []Mapped) {
	for i := range f.image.tree.Spaces {
		for k := range f.image.tree.Spaces[i].Areas {
			a := &f.image.tree.Spaces[i].Areas[k]
			if a.Object < 0 && (a.Kind == image.PrivateFile || a.Kind == image.SharedFile && !a.MayWrite) {
				list = append(list, Mapped{a.Path, a.Size, a.ModTime})
			}
		}
	}
	for i := range f.image.tree.Descriptions {
		d := &f.image.tree.Descriptions[i]
		if d.Kind == image.Regular && d.Object < 0 && d.Cgroup == "" && d.Flags&unix.O_ACCMODE == unix.O_RDONLY {
			list = append(list, Mapped{Path: d.Path})
		}
	}
	return list
}

// Dirs returns the directories in which the processes stand, or that they hold
// open: a restore needs them. Some come more than once.
func (f *Frozen) Dirs() (list []string) {
	for i := range f.image.tree.Processes {
		if p := &f.image.tree.Processes[i]; !p.Zombie {
			list = append(list, p.Cwd)
		}
	}
	for i := range f.image.tree.Descriptions {
		if d := &f.image.tree.Descriptions[i]; d.Kind == image.Directory {
			list = append(list, d.Path)
		}
	}
	return list
}

// Dump writes the tree into s. inherit says that s has the tree's previous
// committed generation as its parent; the engine then writes only what
// changed since that one, if it knows.
func (f *Frozen) Dump(ctx context.Context, s Sink, inherit bool) error {
	if f.over {
		return errors.New("dump: the tree was thawed")
	}
	for i, sp := range f.image.spaces {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := f.dumpSpace(s, sp, &f.image.tree.Spaces[i], inherit); err != nil {
			return fmt.Errorf("dump memory of pid %d: %w", sp.owner.pid, err)
		}
	}
	if err := f.tree.endCopied(); err != nil {
		return err
	}
	for i := range f.image.sources {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := f.image.dumpObject(s, i, inherit); err != nil {
			return fmt.Errorf("dump %s: %w", f.image.tree.Objects[i].Section, err)
		}
	}
	b, err := image.Encode(&f.image.tree)
	if err != nil {
		return err
	}
	if err := f.whole(); err != nil {
		return err
	}
	return s.Blob(TreeBlob, b)
}

// chunk is how much memory is read at once, in bytes.
const chunk = 1 << 20

// dumpSpace writes the private pages of a space. What lies between the areas
// was unmapped, if it ever was there, and becomes a hole. Guard pages, of shared
// mappings too, are noted in the image.
func (f *Frozen) dumpSpace(s Sink, sp *frozenSpace, img *image.Space, inherit bool) error {
	if err := sp.chooseStrategy(); err != nil {
		return err
	}
	st := sp.state.strategy
	sink, based, err := sp.begin(s, inherit)
	if err != nil {
		return err
	}
	buf := make([]byte, chunk)
	var present []memory.Range
	for _, a := range sp.allAreas() {
		found, err := st.Look(a.Area)
		if err != nil {
			return err
		}
		for _, g := range found.Guards {
			img.Guards = append(img.Guards, image.Span{Start: abi.Addr(g.Start), End: abi.Addr(g.End)})
		}
		present = append(present, found.Present...)
		if a.blank {
			continue
		}
		if !based {
			found.Fresh = found.Present
		}
		if err := memory.Copy(sp.owner.pid, sp.space.Mem, found.Fresh, a.Readable, buf, sink.Put); err != nil {
			return unreadable(sp.owner.pid, a.Area, err)
		}
	}
	if based {
		for _, g := range memory.Gaps(memory.Range{Start: 0, End: uint64(f.tree.arch.StackTop)}, memory.Sorted(present)) {
			if err := sink.Zero(int64(g.Start), int64(g.Len())); err != nil {
				return err
			}
		}
	}
	return sink.Close()
}
