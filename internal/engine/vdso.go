package engine

import (
	"bytes"
	"debug/elf"
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
	maps, err := r.proc.Maps(r.init.pid)
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
	r.vdso = &vdsoPlan{same: bytes.Equal(now, r.tree.Vdso) && !r.o.otherVdso, now: now, place: uint64(place),
		code: uint64(place) + k.vvar.Len() + k.vclock.Len()}
	return nil
}

// patchVdso puts the code of the image's vdso where the program expects it,
// with every entry point leading to the function of the same name in this
// kernel's. Nothing to do where the two are the same.
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
		code, err := redirect(r.arch, r.tree.Vdso, r.vdso.now, r.vdso.code)
		if err != nil {
			return err
		}
		if _, err := b.space.Mem.WriteAt(code, int64(a.Start)); err != nil {
			return fmt.Errorf("write the old vdso: %w", err)
		}
	}
	return nil
}

// redirect returns a copy of the old vdso in which every function jumps to
// its namesake in now, which stands at place.
func redirect(arch *abi.Arch, old, now []byte, place uint64) ([]byte, error) {
	target := map[string]uint64{}
	err := vdsoSymbols(now, func(name string, off uint64) error {
		target[name] = place + off
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("this kernel's vdso: %w", err)
	}
	out := append([]byte(nil), old...)
	err = vdsoSymbols(old, func(name string, off uint64) error {
		to, ok := target[name]
		if !ok {
			return fmt.Errorf("this kernel has no %s", name)
		}
		jump := arch.JumpSlot(to)
		if off+uint64(len(jump)) > uint64(len(out)) {
			return fmt.Errorf("%s lies outside", name)
		}
		copy(out[off:], jump)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("the image's vdso: %w", err)
	}
	return out, nil
}

// vdsoSymbols calls f for every function that a vdso exports.
func vdsoSymbols(b []byte, f func(name string, off uint64) error) error {
	// The section table may have been overwritten by the gate: the dynamic
	// segment is all that a program, and we, may rely on.
	file, err := elf.NewFile(bytes.NewReader(withoutSections(b)))
	if err != nil {
		return err
	}
	return dynamicSymbols(file, b, f)
}

// withoutSections returns the file as if it had no section table.
func withoutSections(b []byte) []byte {
	const shoff, shnum = 0x28, 0x3c
	if len(b) < 64 {
		return b
	}
	out := append([]byte(nil), b...)
	clear(out[shoff : shoff+8])
	clear(out[shnum : shnum+4]) // e_shnum and e_shstrndx
	return out
}

// dynamicSymbols walks the dynamic symbol table by the dynamic segment
// (System V ABI, chapter 5); its length is that of the hash table's chains.
func dynamicSymbols(file *elf.File, b []byte, f func(string, uint64) error) error {
	tags := map[elf.DynTag]uint64{}
	for _, p := range file.Progs {
		if p.Type != elf.PT_DYNAMIC {
			continue
		}
		for at := p.Vaddr; at+16 <= uint64(len(b)) && at < p.Vaddr+p.Memsz; at += 16 {
			tags[elf.DynTag(file.ByteOrder.Uint64(b[at:]))] = file.ByteOrder.Uint64(b[at+8:])
		}
	}
	symtab, strtab, strsz := tags[elf.DT_SYMTAB], tags[elf.DT_STRTAB], tags[elf.DT_STRSZ]
	if symtab == 0 || strtab <= symtab || strtab+strsz > uint64(len(b)) {
		return errors.New("no dynamic symbols")
	}
	for at := symtab + elf.Sym64Size; at+elf.Sym64Size <= strtab; at += elf.Sym64Size {
		name := uint64(file.ByteOrder.Uint32(b[at:]))
		info, shndx, value := b[at+4], file.ByteOrder.Uint16(b[at+6:]), file.ByteOrder.Uint64(b[at+8:])
		if elf.ST_TYPE(info) != elf.STT_FUNC || shndx == 0 || name >= strsz {
			continue
		}
		text, _, _ := bytes.Cut(b[strtab+name:strtab+strsz], []byte{0})
		if err := f(string(text), value); err != nil {
			return err
		}
	}
	return nil
}
