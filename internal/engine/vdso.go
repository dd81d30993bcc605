package engine

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/wakepoint/wakepoint/internal/abi"
	"github.com/wakepoint/wakepoint/internal/image"
	"github.com/wakepoint/wakepoint/internal/procfs"
	"github.com/wakepoint/wakepoint/internal/tracee"
)

// vdsoTail is where the gate goes: the end of the vdso's pages, behind what
// its loadable segment uses. Those pages are the process's own as soon as they
// are written to.
func vdsoTail(maps []procfs.Mapping) (abi.Addr, error) {
	for _, m := range maps {
		if m.Path == "[vdso]" {
			return abi.Addr(m.End - tracee.TailRoom), nil
		}
	}
	return 0, errors.New("it has no vdso")
}

// vdsoPlan says whether this kernel's vdso is the image's, and where its
// pages go if not.
type vdsoPlan struct {
	same  bool
	place uint64 // of the first of the kernel's areas
	code  uint64 // of the new vdso itself
	now   []byte
}

// planVdso compares the vdso of the init with the image's.
func (r *restorer) planVdso() error {
	maps, err := r.proc.Maps(r.init.PID)
	if err != nil {
		return gone(err)
	}
	k := findKernelAreas(maps)
	tail, err := vdsoTail(maps)
	if err != nil {
		return err
	}
	now := make([]byte, k.vdso.Len())
	if _, err := r.stub.space.Mem.ReadAt(now, int64(k.vdso.Start)); err != nil {
		return err
	}
	clear(now[uint64(tail)-k.vdso.Start:])
	place, err := r.hole(r.shop.base + shopSize)
	if err != nil {
		return err
	}
	same := bytes.Equal(now, r.tree.Vdso)
	if r.o.otherVdso != nil {
		same, now = false, r.o.otherVdso(now)
	}
	r.vdso = &vdsoPlan{same: same, now: now, place: uint64(place),
		code: uint64(place) + k.vvar.Len() + k.vclock.Len()}
	return nil
}

// patchVdso puts the code of the image's vdso where the program expects it,
// with every entry point leading to the function of the same name in this
// kernel's, or to the plain system call where it has none. Nothing to do where the two are the same.
func (r *restorer) patchVdso(b *builtProcess, s *image.Space) error {
	if r.vdso.same {
		return nil
	}
	for _, a := range s.Areas {
		if a.Kind != image.Vdso {
			continue
		}
		for i := range b.image.Threads {
			th := &b.image.Threads[i]
			if ip := abi.Addr(th.Regs[r.arch.IP]); ip >= a.Start && ip < a.End {
				return fmt.Errorf("thread %d stands inside the vdso of another kernel; an older or newer generation will do", th.TID)
			}
		}
		code, err := r.arch.Redirect(r.tree.Vdso, r.vdso.now, r.vdso.code)
		if err != nil {
			return err
		}
		if _, err := b.space.Mem.WriteAt(code, int64(a.Start)); err != nil {
			return fmt.Errorf("write the old vdso: %w", err)
		}
	}
	return nil
}
