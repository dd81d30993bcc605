package abi

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"strings"
)

// Redirect returns a copy of an old vdso in which every function jumps to its
// namesake in the vdso now, which stands at place. A function that this kernel
// lacks becomes its Plain one; one that has none is refused by name. Both are
// whole images as they are mapped; the section table may have been overwritten.
func (a *Arch) Redirect(old, now []byte, place uint64) ([]byte, error) {
	target := map[string]uint64{}
	err := vdsoSymbols(now, func(name string, off uint64) error {
		target[name] = place + off
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("this kernel's vdso: %w", err)
	}
	code := map[uint64][]byte{} // by offset: a function may have two names
	err = vdsoSymbols(old, func(name string, off uint64) error {
		if to, ok := target[name]; ok {
			code[off] = a.JumpSlot(to)
		} else if code[off] == nil {
			code[off] = a.Plain[strings.TrimPrefix(name, "__vdso_")]
		}
		if code[off] == nil {
			return fmt.Errorf("this kernel has no %s", name)
		}
		return nil
	})
	if err == nil {
		err = fits(code, uint64(len(old)))
	}
	if err != nil {
		return nil, fmt.Errorf("the image's vdso: %w", err)
	}
	out := append([]byte(nil), old...)
	for off, c := range code {
		copy(out[off:], c)
	}
	return out, nil
}

// fits says whether pieces of code lie within size bytes and apart.
func fits(code map[uint64][]byte, size uint64) error {
	for off, c := range code {
		if off > size || uint64(len(c)) > size-off {
			return fmt.Errorf("the function at %#x lies outside", off)
		}
		for other := range code {
			if other > off && other-off < uint64(len(c)) {
				return fmt.Errorf("the function at %#x is too short", off)
			}
		}
	}
	return nil
}

// vdsoSymbols calls f for every function that a vdso exports.
func vdsoSymbols(b []byte, f func(name string, off uint64) error) error {
	// The dynamic segment is all that a program, and we, may rely on.
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
