package engine

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/wakepoint/wakepoint/internal/image"
	"github.com/wakepoint/wakepoint/internal/memory"
	"github.com/wakepoint/wakepoint/internal/namespace"
	"github.com/wakepoint/wakepoint/internal/procfs"
	"github.com/wakepoint/wakepoint/internal/tape"
)

// kernelAreas are the mappings that the kernel gave the process.
type kernelAreas struct {
	vvar, vclock, vdso procfs.Mapping
}

func findKernelAreas(maps []procfs.Mapping) (k kernelAreas) {
	for _, m := range maps {
		switch m.Path {
		case "[vvar]":
			k.vvar = m
		case "[vvar_vclock]":
			k.vclock = m
		case "[vdso]":
			k.vdso = m
		}
	}
	return k
}

// buildSpaces gives every process its mappings.
func (r *restorer) buildSpaces() error {
	for _, b := range r.order {
		if b.image.Zombie {
			continue
		}
		if err := r.buildSpace(b, &r.tree.Spaces[b.image.Space]); err != nil {
			return fmt.Errorf("process %d: %w", b.ns, err)
		}
	}
	return nil
}

// buildSpace parks the vdso in the workshop, drops all the rest, and makes
// the areas of the image.
func (r *restorer) buildSpace(b *builtProcess, s *image.Space) error {
	maps, err := r.proc.Maps(b.pid)
	if err != nil {
		return gone(err)
	}
	k := findKernelAreas(maps)
	files, err := r.areaFiles(b, s)
	if err != nil {
		return err
	}
	exe, err := r.executable(s)
	if err != nil {
		return fmt.Errorf("the executable %s: %w", s.Exe, err)
	}
	defer exe.Close()
	exeFD, err := r.fetch(b, []*os.File{exe})
	if err != nil {
		return err
	}
	if _, err := b.space.Mem.WriteAt(s.Layout.Auxv, int64(r.shop.base)+shopPad+shopAuxv); err != nil {
		return err
	}
	tp := r.planSpace(k, s, files)
	r.planLayout(tp, &s.Layout, exeFD[0])
	if _, err := b.leader().Play(&b.space, tp); err != nil {
		return err
	}
	return nil
}

// planSpace is the tape of buildSpace.
func (r *restorer) planSpace(k kernelAreas, s *image.Space, files map[fileKey]int) *tape.Tape {
	nr := &r.arch.NR
	tp := new(tape.Tape)
	park := uint64(r.shop.base) + shopPark
	for _, m := range []procfs.Mapping{k.vvar, k.vclock, k.vdso} {
		if m.Len() == 0 {
			continue
		}
		tp.Add("mremap", nr.Mremap, tape.N(m.Start), tape.N(m.Len()), tape.N(m.Len()),
			tape.N(unix.MREMAP_MAYMOVE|unix.MREMAP_FIXED), tape.N(park))
		park += m.Len()
	}
	base := uint64(r.shop.base)
	tp.Add("munmap", nr.Munmap, tape.N(0x1000), tape.N(base-0x1000))
	tp.Add("munmap", nr.Munmap, tape.N(base+shopSize), tape.N(uint64(r.arch.StackTop)-base-shopSize))
	for i := range s.Areas {
		if a := &s.Areas[i]; a.Kind <= image.SharedObject {
			r.planArea(tp, a, files)
		}
	}
	r.planKernelAreas(tp, k, s)
	return tp
}

// planArea maps one area and repeats what was advised about it.
func (r *restorer) planArea(tp *tape.Tape, a *image.Area, files map[fileKey]int) {
	nr := &r.arch.NR
	length := uint64(a.End - a.Start)
	flags := unix.MAP_FIXED_NOREPLACE
	if a.GrowsDown {
		flags |= unix.MAP_GROWSDOWN
	}
	if a.NoReserve {
		flags |= unix.MAP_NORESERVE
	}
	fd, off := ^uint64(0), uint64(0)
	switch {
	case a.Kind == image.Anonymous:
		flags |= unix.MAP_ANONYMOUS | unix.MAP_PRIVATE
	case a.Kind == image.PrivateFile:
		flags |= unix.MAP_PRIVATE
	default:
		flags |= unix.MAP_SHARED
	}
	if a.Kind != image.Anonymous {
		fd, off = uint64(files[keyOf(a)]), a.Offset
	}
	if a.Object >= 0 && r.tree.Objects[a.Object].Kind == image.SysV {
		shm := 0
		if a.Prot&unix.PROT_WRITE == 0 {
			shm |= shmRdonly
		}
		if a.Prot&unix.PROT_EXEC != 0 {
			shm |= shmExec
		}
		tp.Add("shmat", nr.Shmat, tape.N(r.tree.Objects[a.Object].ID), tape.N(uint64(a.Start)), tape.N(shm))
	} else {
		tp.Add("mmap", nr.Mmap, tape.N(uint64(a.Start)), tape.N(length), tape.N(a.Prot), tape.N(flags), tape.N(fd), tape.N(off))
	}
	if a.Droppable {
		// A kernel before 6.11 refuses this and leaves the private memory, which
		// keeps every promise of a droppable area (the advice has the others: wiped
		// for a child, not dumped) and never makes use of the leave to drop it.
		flags = flags&^(unix.MAP_PRIVATE|unix.MAP_FIXED_NOREPLACE) | unix.MAP_FIXED | mapDroppable
		tp.Try("mmap", nr.Mmap, tape.N(uint64(a.Start)), tape.N(length), tape.N(a.Prot), tape.N(flags), tape.N(fd), tape.N(off))
	}
	for _, v := range a.Advice {
		tp.Add("madvise", nr.Madvise, tape.N(uint64(a.Start)), tape.N(length), tape.N(v))
	}
	if a.Name != "" {
		tp.Try("prctl", nr.Prctl, tape.N(unix.PR_SET_VMA), tape.N(unix.PR_SET_VMA_ANON_NAME), tape.N(uint64(a.Start)), tape.N(length), tp.String(a.Name))
	}
}

// Flags that golang.org/x/sys does not have.
const (
	mapDroppable = 0x08
	shmRdonly    = 0o10000
	shmExec      = 0o100000
)

// planKernelAreas brings the vdso and its data to where the program knows
// them. When this kernel's vdso is another, the old one's place gets a copy
// of the old code whose entry points lead to the new one, which stays apart.
func (r *restorer) planKernelAreas(tp *tape.Tape, k kernelAreas, s *image.Space) {
	nr := &r.arch.NR
	var old kernelAreas
	for _, a := range s.Areas {
		m := procfs.Mapping{Start: uint64(a.Start), End: uint64(a.End)}
		switch a.Kind {
		case image.Vvar:
			old.vvar = m
		case image.VvarClock:
			old.vclock = m
		case image.Vdso:
			old.vdso = m
		}
	}
	park := uint64(r.shop.base) + shopPark
	same := r.vdso.same && old.vvar.Len() == k.vvar.Len() && old.vclock.Len() == k.vclock.Len() && old.vdso.Len() == k.vdso.Len()
	at := r.vdso.place
	for _, p := range []struct{ now, old procfs.Mapping }{{k.vvar, old.vvar}, {k.vclock, old.vclock}, {k.vdso, old.vdso}} {
		if p.now.Len() == 0 {
			continue
		}
		to := p.old.Start
		if !same {
			to = at
			at += p.now.Len()
		}
		tp.Add("mremap", nr.Mremap, tape.N(park), tape.N(p.now.Len()), tape.N(p.now.Len()),
			tape.N(unix.MREMAP_MAYMOVE|unix.MREMAP_FIXED), tape.N(to))
		park += p.now.Len()
	}
	if !same && old.vdso.Len() > 0 {
		tp.Add("mmap", nr.Mmap, tape.N(old.vdso.Start), tape.N(old.vdso.Len()), tape.N(unix.PROT_READ|unix.PROT_EXEC),
			tape.N(unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_FIXED_NOREPLACE), tape.N(^uint64(0)))
	}
}

// fileKey names a file that is mapped, and how it must be open.
type fileKey struct {
	path   string
	object int
	write  bool
}

func keyOf(a *image.Area) fileKey {
	k := fileKey{path: a.Path, object: a.Object, write: a.Kind != image.PrivateFile && a.MayWrite}
	if a.Object >= 0 {
		k.path = ""
	}
	return k
}

// areaFiles opens the files of a space here and fetches them into the process.
func (r *restorer) areaFiles(b *builtProcess, s *image.Space) (map[fileKey]int, error) {
	var keys []fileKey
	local := map[fileKey]*os.File{}
	for i := range s.Areas {
		a := &s.Areas[i]
		if a.Kind == image.Anonymous || a.Kind > image.SharedObject || a.Object >= 0 && r.tree.Objects[a.Object].Kind == image.SysV {
			continue
		}
		k := keyOf(a)
		if local[k] != nil {
			continue
		}
		f, err := r.openMapped(a, k)
		if err != nil {
			return nil, err
		}
		if a.Object < 0 {
			defer f.Close()
		}
		keys, local[k] = append(keys, k), f
	}
	list := make([]*os.File, len(keys))
	for i, k := range keys {
		list[i] = local[k]
	}
	fds, err := r.fetch(b, list)
	if err != nil {
		return nil, err
	}
	out := map[fileKey]int{}
	for i, k := range keys {
		out[k] = fds[i]
	}
	return out, nil
}

// openMapped opens a mapped file. A file that is mapped privately must be the
// one that it was, or the program would see other code or data.
func (r *restorer) openMapped(a *image.Area, k fileKey) (*os.File, error) {
	if a.Object >= 0 {
		return r.object[a.Object], nil
	}
	mode := os.O_RDONLY
	if k.write {
		mode = os.O_RDWR
	}
	f, err := os.OpenFile(r.inside(a.Path), mode, 0)
	if err != nil {
		err = fmt.Errorf("%s, which the program has mapped: %w", a.Path, errors.Unwrap(err))
	} else if a.Kind == image.PrivateFile {
		err = unchanged(f, a)
	}
	if k.write {
		return f, err
	}
	return r.kept(a.Path, f, err)
}

// unchanged compares an open file with the one that was mapped.
func unchanged(f *os.File, a *image.Area) error {
	st, err := f.Stat()
	if err == nil && (st.Size() != a.Size || st.ModTime().UnixNano() != a.ModTime) {
		err = &ChangedError{Path: a.Path}
	}
	return err
}

// kept returns the file that takes the place of f, which was opened with err.
func (r *restorer) kept(path string, f *os.File, err error) (*os.File, error) {
	if r.o.Kept == nil {
		return f, err
	}
	k, err := r.o.Kept(path, f, err)
	if f != nil && k != f {
		_ = f.Close()
	}
	return k, err
}

// executable opens what /proc/PID/exe of a process names.
func (r *restorer) executable(s *image.Space) (*os.File, error) {
	if s.ExeObject > 0 {
		return os.Open(fmt.Sprintf("/proc/self/fd/%d", r.object[s.ExeObject-1].Fd()))
	}
	for i := range s.Areas {
		if a := &s.Areas[i]; a.Kind == image.PrivateFile && a.Object < 0 && a.Path == s.Exe {
			return r.openMapped(a, keyOf(a))
		}
	}
	f, err := os.Open(r.inside(s.Exe))
	return r.kept(s.Exe, f, errors.Unwrap(err))
}

// ChangedError says that a file that the program has mapped is no longer the
// one that it was at the checkpoint.
type ChangedError struct {
	Path string
}

func (e *ChangedError) Error() string {
	return e.Path + " is not the file that it was at the checkpoint (size or time of change differ)"
}

// fetch brings files of this process into a process under construction and
// returns their numbers there.
func (r *restorer) fetch(b *builtProcess, files []*os.File) ([]int, error) {
	tp := new(tape.Tape)
	for _, f := range files {
		tp.Add("pidfd_getfd", r.arch.NR.PidfdGetfd, tape.N(namespace.FDSelf), tape.N(int(f.Fd())), tape.N(0))
	}
	p, err := b.leader().Play(&b.space, tp)
	if err != nil {
		return nil, err
	}
	out := make([]int, len(files))
	for i := range out {
		out[i] = int(p.Results[i])
	}
	return out, nil
}

// startFilling begins to read the private pages of all processes. Droppable and
// wipe-on-fork areas stay zero.
func (r *restorer) startFilling() *memory.Filler {
	var parts []memory.Part
	for i := range r.tree.Processes {
		p := &r.tree.Processes[i]
		if p.Zombie {
			continue
		}
		s := &r.tree.Spaces[p.Space]
		for k := range s.Areas {
			if a := &s.Areas[k]; (a.Kind == image.Anonymous || a.Kind == image.PrivateFile) && !a.Blank {
				parts = append(parts, memory.Part{Process: p.PID, Section: s.Section, From: int64(a.Start), To: int64(a.End)})
			}
		}
	}
	return memory.StartFilling(parts, func(section string) (memory.Section, error) { return r.source.Section(section) })
}

// fillMemory waits until all is filled. /proc/PID/mem also reaches what the
// program itself cannot write, and may be used from any thread.
func (r *restorer) fillMemory() error {
	if err := r.filler.Fill(func(pid int) io.WriterAt { return r.built[pid].space.Mem }); err != nil {
		return err
	}
	for _, b := range r.order {
		if b.image.Zombie {
			continue
		}
		if err := r.patchVdso(b, &r.tree.Spaces[b.image.Space]); err != nil {
			return err
		}
	}
	return nil
}

// leaveSpaces sets what the kernel believes of the space, locks what was
// locked, and takes the workshop away: from now on the gate stands in the
// tail of the vdso again.
func (r *restorer) leaveSpaces() error {
	for _, b := range r.order {
		if b.image.Zombie {
			continue
		}
		if err := r.leaveShop(b); err != nil {
			return fmt.Errorf("process %d: %w", b.ns, err)
		}
	}
	return r.leaveShop(r.stub)
}

func (r *restorer) leaveShop(b *builtProcess) error {
	maps, err := r.proc.Maps(b.pid)
	if err != nil {
		return gone(err)
	}
	tail, err := vdsoTail(maps)
	if err != nil {
		return err
	}
	if err := b.space.Install(r.arch, tail); err != nil {
		return err
	}
	if b == r.stub {
		if _, err := b.leader().One(&b.space, "close", r.arch.NR.Close, tape.N(namespace.FDSelf)); err != nil {
			return err
		}
	}
	_, err = b.leader().One(&b.space, "munmap", r.arch.NR.Munmap, tape.N(uint64(r.shop.base)), tape.N(shopSize))
	return err
}

// shopAuxv is where the auxiliary vector waits, from shopPad on.
const shopAuxv = 0x100

// planLayout is PR_SET_MM_MAP with struct prctl_mm_map (PR_SET_MM(2const)).
func (r *restorer) planLayout(tp *tape.Tape, l *image.Layout, exe int) {
	auxv := uint64(r.shop.base) + shopPad + shopAuxv
	m := tp.Words(l.StartCode, l.EndCode, l.StartData, l.EndData, l.StartBrk, l.Brk, l.StartStack,
		l.ArgStart, l.ArgEnd, l.EnvStart, l.EnvEnd, auxv, uint64(len(l.Auxv))|uint64(exe)<<32)
	tp.Add("prctl", r.arch.NR.Prctl, tape.N(unix.PR_SET_MM), tape.N(unix.PR_SET_MM_MAP), tape.At(m, 0), tape.N(13*8), tape.N(0))
}
