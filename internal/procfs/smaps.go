package procfs

import (
	"bytes"
	"fmt"
	"strings"
)

// A MappingUse is one mapping with what /proc/PID/smaps adds to it. Sizes are
// kB of 1024 bytes, as printed.
type MappingUse struct {
	Mapping
	SizeKB, KernelPageKB, MMUPageKB        uint64
	RssKB, PssKB, PssDirtyKB               uint64
	SharedCleanKB, SharedDirtyKB           uint64
	PrivateCleanKB, PrivateDirtyKB         uint64
	ReferencedKB, AnonymousKB, KSMKB       uint64
	LazyFreeKB                             uint64 // MADV_FREE, may vanish
	AnonHugePagesKB, ShmemPmdKB, FilePmdKB uint64
	SharedHugetlbKB, PrivateHugetlbKB      uint64
	SwapKB, SwapPssKB, LockedKB            uint64
	THPEligible                            bool
	ProtectionKey                          int // -1: the machine has none
	Flags                                  VMFlags
}

// VMFlags is the set of a mapping's flags by the kernel's two letters with one
// blank between, in the kernel's order: "rd wr mr mw me ac". Two sets are equal
// when they are the same string.
//
// Those that a restore must know: "gd" grows down, "lo" locked, "lf" locked on
// fault, "dd" not in core dumps, "dc" not in a forked child, "wf" wiped in a
// forked child, "dp" droppable, "hg" and "nh" huge pages wanted and not, "ht"
// hugetlb, "mg" merged (KSM), "nr" no reserve, "ac" accounted, "sr" and "rr"
// read in sequence and at random, "io" device memory, "pf" pure page numbers,
// "um" and "uw" userfaultfd on missing and on write-protected, "ss" shadow
// stack, "sl" sealed.
type VMFlags string

// Has reports whether the set has a flag, given by its two letters.
func (f VMFlags) Has(flag string) bool {
	if len(flag) != 2 {
		return false
	}
	for s := string(f); len(s) >= 2; s = s[3:] {
		if s[:2] == flag {
			return true
		}
		if len(s) < 3 {
			break
		}
	}
	return false
}

// ParseSmaps reads the text of /proc/PID/smaps. Lines that it does not know are
// passed over.
//
// Source: proc_pid_smaps(5); fs/proc/task_mmu.c, show_smap and
// show_smap_vma_flags.
func ParseSmaps(text []byte) ([]MappingUse, error) {
	var out []MappingUse
	var paths lastPath
	flags := make(map[string]VMFlags, 16)
	for len(text) > 0 {
		var line []byte
		line, text = cutLine(text)
		if len(line) == 0 || line[0] < 'A' || line[0] > 'Z' {
			out = append(out, MappingUse{ProtectionKey: -1})
			if !out[len(out)-1].parse(line, &paths) {
				return nil, fmt.Errorf("smaps: %w", badText(line, errMapping))
			}
			continue
		}
		key, value, found := bytes.Cut(line, []byte{':'})
		if len(out) == 0 || !found {
			return nil, fmt.Errorf("smaps: %w", badText(line, errMapping))
		}
		m := &out[len(out)-1]
		if string(key) == "VmFlags" {
			m.Flags = vmFlags(trimSpace(value), flags)
			continue
		}
		if err := m.parseUse(key, value); err != nil {
			return nil, fmt.Errorf("smaps: %w", err)
		}
	}
	return out, nil
}

// vmFlags makes a set of text in which one blank separates two letters, with
// one string for all equal sets.
func vmFlags(text []byte, known map[string]VMFlags) VMFlags {
	if f, ok := known[string(text)]; ok {
		return f
	}
	f := VMFlags(strings.Join(strings.Fields(string(text)), " "))
	known[string(text)] = f
	return f
}

// parseUse reads one size or number.
func (m *MappingUse) parseUse(key, value []byte) error {
	to := m.size(key)
	var other uint64
	switch {
	case to != nil:
	case string(key) == "THPeligible", string(key) == "ProtectionKey":
		to = &other
	default:
		return nil
	}
	w := words{rest: value}
	*to = w.uint(10)
	if w.err != nil {
		return fmt.Errorf("%s: %w", key, w.err)
	}
	switch string(key) {
	case "THPeligible":
		m.THPEligible = other != 0
	case "ProtectionKey":
		m.ProtectionKey = int(uint16(other))
	}
	return nil
}

// size returns where the size of that key belongs, nil: it is none.
func (m *MappingUse) size(key []byte) *uint64 {
	switch string(key) {
	case "Size":
		return &m.SizeKB
	case "KernelPageSize":
		return &m.KernelPageKB
	case "MMUPageSize":
		return &m.MMUPageKB
	case "Rss":
		return &m.RssKB
	case "Pss":
		return &m.PssKB
	case "Pss_Dirty":
		return &m.PssDirtyKB
	case "Shared_Clean":
		return &m.SharedCleanKB
	case "Shared_Dirty":
		return &m.SharedDirtyKB
	case "Private_Clean":
		return &m.PrivateCleanKB
	case "Private_Dirty":
		return &m.PrivateDirtyKB
	case "Referenced":
		return &m.ReferencedKB
	case "Anonymous":
		return &m.AnonymousKB
	case "KSM":
		return &m.KSMKB
	case "LazyFree":
		return &m.LazyFreeKB
	case "AnonHugePages":
		return &m.AnonHugePagesKB
	case "ShmemPmdMapped":
		return &m.ShmemPmdKB
	case "FilePmdMapped":
		return &m.FilePmdKB
	case "Shared_Hugetlb":
		return &m.SharedHugetlbKB
	case "Private_Hugetlb":
		return &m.PrivateHugetlbKB
	case "Swap":
		return &m.SwapKB
	case "SwapPss":
		return &m.SwapPssKB
	case "Locked":
		return &m.LockedKB
	}
	return nil
}

// Smaps reads /proc/PID/smaps. The kernel walks every page table for it, which
// costs milliseconds per GiB in use: Maps is for freezes, Smaps for questions.
func (r *Reader) Smaps(pid int) ([]MappingUse, error) {
	return parsed(r, r.processPath(pid, "smaps"), ParseSmaps)
}
