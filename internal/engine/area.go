package engine

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/wakepoint/wakepoint/internal/abi"
	"github.com/wakepoint/wakepoint/internal/image"
	"github.com/wakepoint/wakepoint/internal/memory"
	"github.com/wakepoint/wakepoint/internal/procfs"
)

// privateArea is an area whose own pages go into the image.
type privateArea struct {
	memory.Area
	Readable bool
	blank    bool
}

func (s *frozenSpace) section() string { return "mem/" + strconv.Itoa(s.owner.ns) }

// chooseStrategy arms write tracking at the first dump of a space where the
// kernel has it, and falls back to copying all.
func (s *frozenSpace) chooseStrategy() error {
	if s.state.strategy != nil {
		return nil
	}
	var err error
	tree := s.tree
	if tree.copyAll {
		s.state.strategy, err = memory.NewFull(s.owner.pid)
		return err
	}
	err = tree.tracer.Do(func() error {
		s.state.strategy, err = memory.NewIncremental(s.owner.leader(), &s.space)
		return err
	})
	if err == nil {
		return nil
	}
	s.state.strategy, err = memory.NewFull(s.owner.pid)
	return err
}

// privateAreas lists the areas whose pages are read.
func (s *frozenSpace) privateAreas() []privateArea {
	return slices.DeleteFunc(s.allAreas(), func(a privateArea) bool { return a.Shared })
}

// allAreas lists the areas that are looked at.
func (s *frozenSpace) allAreas() []privateArea {
	var out []privateArea
	for _, m := range s.smaps {
		if isKernelArea(m.Path) || m.Start == uint64(s.state.pad) {
			continue
		}
		out = append(out, privateArea{
			Area:     memory.Area{Range: memory.Range{Start: m.Start, End: m.End}, Track: m.Prot != 0, File: m.Inode != 0, Shared: m.Shared},
			Readable: m.Prot&procfs.ProtRead != 0,
			blank:    m.Flags.Has("dp") || m.Flags.Has("wf"),
		})
	}
	return out
}

// unreadable names what makes a page unreadable that seemed to be there: Linux
// 6.13 and 6.14 have guard pages, but do not show them.
func unreadable(pid int, a memory.Area, err error) error {
	if !errors.Is(err, unix.EIO) {
		return err
	}
	return refuse(pid, fmt.Sprintf("memory at %#x of pid %d cannot be read (guard pages that this kernel does not show)", a.Start, pid),
		"Linux 6.15 shows them; or let the program use mprotect instead of MADV_GUARD_INSTALL")
}

func isKernelArea(path string) bool {
	switch path {
	case "[vdso]", "[vvar]", "[vvar_vclock]", "[vsyscall]", "[uprobes]":
		return true
	}
	return false
}

// advice is what madvise repeats, by VmFlags.
var advice = []struct {
	flag string
	call int
}{
	{"dc", unix.MADV_DONTFORK}, {"wf", unix.MADV_WIPEONFORK}, {"dd", unix.MADV_DONTDUMP},
	{"hg", unix.MADV_HUGEPAGE}, {"nh", unix.MADV_NOHUGEPAGE}, {"mg", unix.MADV_MERGEABLE},
	{"sr", unix.MADV_SEQUENTIAL}, {"rr", unix.MADV_RANDOM},
}

// space describes an address space.
func (d *dumper) space(s *frozenSpace, a *answers) (int, error) {
	sp := image.Space{Section: s.section()}
	if err := s.readFlags(d.proc); err != nil {
		return 0, err
	}
	stats := map[inode]*syscall.Stat_t{}
	for i := range s.smaps {
		m := &s.smaps[i]
		if m.Start == uint64(s.state.pad) || m.Path == "[vsyscall]" {
			continue
		}
		ar, err := d.area(s, m, stats)
		if err := d.f.note(err); err != nil {
			return 0, err
		}
		sp.Areas = append(sp.Areas, ar)
	}
	if d.tree.Vdso == nil {
		for _, m := range s.smaps {
			if m.Path == "[vdso]" {
				d.tree.Vdso = make([]byte, m.Len())
				if _, err := s.space.Mem.ReadAt(d.tree.Vdso, int64(m.Start)); err != nil {
					return 0, err
				}
				clear(d.tree.Vdso[uint64(s.space.Gate)-m.Start:]) // our own code
			}
		}
	}
	st := &s.owner.stat
	sp.Layout = image.Layout{StartCode: st.StartCode, EndCode: st.EndCode, StartData: st.StartData, EndData: st.EndData,
		StartBrk: st.StartBrk, Brk: a.brk, StartStack: st.StartStack,
		ArgStart: st.ArgStart, ArgEnd: st.ArgEnd, EnvStart: st.EnvStart, EnvEnd: st.EnvEnd}
	auxv, err := d.proc.ProcessFile(s.owner.pid, "auxv")
	if err != nil {
		return 0, err
	}
	sp.Layout.Auxv = append([]byte(nil), auxv...)
	if err := d.executable(s.owner.pid, &sp); err != nil {
		return 0, err
	}
	d.spaces = append(d.spaces, s)
	d.tree.Spaces = append(d.tree.Spaces, sp)
	return len(d.tree.Spaces) - 1, nil
}

// executable notes what a process executes; where that was replaced or removed,
// by an upgrade say, its contents belong to the image.
func (d *dumper) executable(pid int, sp *image.Space) (err error) {
	link := fmt.Sprintf("/proc/%d/exe", pid)
	if sp.Exe, err = os.Readlink(link); err != nil {
		return err
	}
	path, deleted := strings.CutSuffix(sp.Exe, " (deleted)")
	if !deleted {
		return nil
	}
	var st syscall.Stat_t
	if err := syscall.Stat(link, &st); err != nil {
		return err
	}
	i, err := d.object(link, path, &st)
	sp.Exe, sp.ExeObject = path, i+1
	return err
}

// readFlags gets the mappings with their flags. The flags cost a walk over all
// page tables, so they were read before the freeze; what maps says now must
// agree, or they are read again.
func (s *frozenSpace) readFlags(r *procfs.Reader) error {
	before := s.tree.smaps[s.owner.pid]
	same := len(before) == len(s.maps)
	for i := 0; same && i < len(before); i++ {
		same = before[i].Mapping == s.maps[i]
	}
	if same {
		s.smaps = before
		return nil
	}
	var err error
	s.smaps, err = r.Smaps(s.owner.pid)
	return gone(err)
}

// area describes one mapping.
func (d *dumper) area(s *frozenSpace, m *procfs.MappingUse, stats map[inode]*syscall.Stat_t) (image.Area, error) {
	a := image.Area{Start: abi.Addr(m.Start), End: abi.Addr(m.End), Prot: uint32(m.Prot), Offset: m.Offset, Object: -1,
		GrowsDown: m.Flags.Has("gd"), NoReserve: m.Flags.Has("nr"), Locked: m.Flags.Has("lo"), LockOnFault: m.Flags.Has("lf"),
		Blank: m.Flags.Has("wf") || m.Flags.Has("dp"), Droppable: m.Flags.Has("dp"), MayWrite: m.Flags.Has("mw")}
	for _, v := range advice {
		if m.Flags.Has(v.flag) {
			a.Advice = append(a.Advice, v.call)
		}
	}
	no := func(what, hint string) (image.Area, error) {
		return a, refuse(s.owner.pid, fmt.Sprintf("%s at %#x of pid %d cannot be saved", what, m.Start, s.owner.pid), hint)
	}
	switch {
	case m.Path == "[vdso]":
		a.Kind = image.Vdso
		return a, nil
	case m.Path == "[vvar]":
		a.Kind = image.Vvar
		return a, nil
	case m.Path == "[vvar_vclock]":
		a.Kind = image.VvarClock
		return a, nil
	case m.Flags.Has("ht"):
		return no("memory of huge pages (hugetlb)", "let the program use transparent huge pages")
	case m.Flags.Has("ss"):
		return no("a shadow stack", "start it with GLIBC_TUNABLES=glibc.cpu.x86_shstk=off")
	case m.Flags.Has("sl"):
		return no("sealed memory", "mseal cannot be undone and redone")
	case m.Flags.Has("io"), m.Flags.Has("pf"):
		return no("device memory ("+m.Path+")", "programs that map hardware cannot be moved")
	case strings.HasPrefix(m.Path, "/secretmem"):
		return no("secret memory (memfd_secret)", "start it without it")
	case strings.HasPrefix(m.Path, "anon_inode:"), strings.HasPrefix(m.Path, "/[aio]"):
		return no("memory shared with the kernel ("+m.Path+")", "start it without io_uring or AIO (node: UV_USE_IO_URING=0)")
	case m.Path == "" || strings.HasPrefix(m.Path, "["):
		a.Kind, a.Heap = image.Anonymous, m.Path == "[heap]"
		if n, ok := strings.CutPrefix(m.Path, "[anon:"); ok {
			a.Name = strings.TrimSuffix(n, "]")
		}
		return a, nil
	}
	err := d.fileArea(s, m, &a, stats)
	return a, err
}

// fileArea describes a mapping of a file or of a shared object.
func (d *dumper) fileArea(s *frozenSpace, m *procfs.MappingUse, a *image.Area, stats map[inode]*syscall.Stat_t) error {
	a.Path, a.Kind = m.Path, image.PrivateFile
	if m.Shared {
		a.Kind = image.SharedFile
	}
	link := fmt.Sprintf("/proc/%d/map_files/%s", s.owner.pid, m.MapFile())
	key := inode{unix.Mkdev(m.Major, m.Minor), m.Inode}
	st := stats[key]
	if st == nil {
		st = new(syscall.Stat_t)
		if err := syscall.Stat(link, st); err != nil {
			return fmt.Errorf("stat the file mapped at %#x: %w", m.Start, err)
		}
		stats[key] = st
	}
	a.Size, a.ModTime = st.Size, st.Mtim.Nano()
	if st.Nlink == 0 {
		if m.Shared {
			a.Kind = image.SharedObject
		}
		var err error
		a.Object, err = d.object(link, m.Path, st)
		return err
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
	case unix.S_IFCHR:
		if st.Rdev == unix.Mkdev(1, 5) { // /dev/zero
			return nil
		}
		return refuse(s.owner.pid, fmt.Sprintf("device %s mapped at %#x of pid %d cannot be saved", m.Path, m.Start, s.owner.pid),
			"programs that map hardware cannot be moved")
	default:
		return refuse(s.owner.pid, fmt.Sprintf("%s mapped at %#x of pid %d is not a file", m.Path, m.Start, s.owner.pid), "start it without what maps that")
	}
	if m.Escaped {
		if p, err := os.Readlink(link); err == nil {
			a.Path = p
		}
	}
	writes := m.Shared && m.Flags.Has("mw")
	return d.belongs(link, a.Path, st, writes, false, writes)
}
