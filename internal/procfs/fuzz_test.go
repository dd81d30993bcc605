package procfs

import (
	"errors"
	"strings"
	"testing"
)

// fuzz runs a parser over anything. It must not panic, and what it says when it
// refuses must stay short, however long the text is.
func fuzz[T any](f *testing.F, parse func([]byte) (T, error), seeds ...string) {
	for _, s := range seeds {
		f.Add([]byte(s))
		f.Add([]byte(s[:len(s)/2]))
		f.Add([]byte(strings.ReplaceAll(s, "0", "\n")))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if _, err := parse(text); err != nil && len(err.Error()) > 10*quoteMax {
			t.Errorf("an error of %d bytes", len(err.Error()))
		}
	})
}

func FuzzStat(f *testing.F) { fuzz(f, ParseStat, "1 (a) (b\n)"+statTail) }

func FuzzStatus(f *testing.F) {
	parse := func(text []byte) (map[string]string, error) {
		s, err := ParseStatus(text)
		return s.Map(), err
	}
	fuzz(f, parse, string(testdata(f, "status-6.18")), string(testdata(f, "status-6.1-thread")))
}

func FuzzMask(f *testing.F) {
	fuzz(f, func(text []byte) ([]uint64, error) { return ParseMask(string(text)) }, "ff,00000000")
}

func FuzzMaps(f *testing.F) {
	parse := func(text []byte) ([]Mapping, error) {
		maps, err := ParseMaps(text)
		if len(maps) > len(text)/20 {
			return nil, errors.New(strings.Repeat("more mappings than lines ", 100))
		}
		return maps, err
	}
	fuzz(f, parse, mapsText)
}

func FuzzSmaps(f *testing.F) {
	parse := func(text []byte) ([]MappingUse, error) {
		maps, err := ParseSmaps(text)
		for _, m := range maps {
			if m.Flags.Has("zz") && m.Flags == "" {
				panic("a flag of an empty set")
			}
		}
		return maps, err
	}
	fuzz(f, parse, smapsText)
}

func FuzzFdinfo(f *testing.F) {
	fuzz(f, ParseFdinfo,
		fdinfoCommon+"eventfd-count:  1f\neventfd-id: 4\neventfd-semaphore: 1\n",
		fdinfoCommon+"tfd:        4 events:     2019 data: ffffffffffffffff  pos:0 ino:40e sdev:10\n",
		fdinfoCommon+"inotify wd:2 ino:1 sdev:1b mask:2 ignored_mask:0 fhandle-bytes:c fhandle-type:1 f_handle:b7aaa8160100000000000000\n",
		fdinfoCommon+"clockid: 1\nticks: 3\nsettime flags: 01\nit_value: (99, 999971603)\nit_interval: (1, 500000000)\n",
		fdinfoCommon+"Pid:\t7635\nNSpid:\t7635\t12\nAPI:\taa:1:80000000000001ff\nsigmask:\t0000000000004002\n",
		fdinfoCommon+"lock:\t2: POSIX  ADVISORY  WRITE 7635 fe:00:9978665 5 14\nSqMask:\t0x3\n    0: /a\n")
}

func FuzzLocks(f *testing.F) {
	fuzz(f, ParseLocks, "2: POSIX  ADVISORY  WRITE 7635 fe:00:9978665 5 14\n1: -> FLOCK  ADVISORY  READ 7 fe:00:9 0 EOF\n")
}

func FuzzLimits(f *testing.F)    { fuzz(f, ParseLimits, limitsText) }
func FuzzTimers(f *testing.F)    { fuzz(f, ParseTimers, timersText) }
func FuzzMountinfo(f *testing.F) { fuzz(f, ParseMountinfo, mountinfoText) }
func FuzzUnix(f *testing.F)      { fuzz(f, ParseUnix, unixText) }
func FuzzShm(f *testing.F)       { fuzz(f, ParseSharedMemory, shmText) }
func FuzzSem(f *testing.F)       { fuzz(f, ParseSemaphores, semText) }
func FuzzMsg(f *testing.F)       { fuzz(f, ParseMessageQueues, msgText) }
func FuzzSched(f *testing.F)     { fuzz(f, ParseSched, schedText) }
func FuzzAuxv(f *testing.F)      { fuzz(f, ParseAuxv, string(auxvBytes(33, 1, 7, 2, 0, 0))) }
func FuzzChildren(f *testing.F)  { fuzz(f, ParseChildren, "9 10 8 ") }
func FuzzNumber(f *testing.F)    { fuzz(f, ParseNumber, "-1000\n", "4294967295") }
func FuzzStrings(f *testing.F)   { fuzz(f, ParseStrings, "sh\x00-c\x00") }

func FuzzLink(f *testing.F) {
	parse := func(text []byte) (Link, error) { return ParseLink(string(text)), nil }
	fuzz(f, parse, "/a (deleted)", "pipe:[7]", "anon_inode:[eventfd]", "net:[4026531833]")
}

func FuzzUnescape(f *testing.F) {
	parse := func(text []byte) (string, error) { return Unescape(text) + unescapeName(text), nil }
	fuzz(f, parse, `\040\134`, `\n\\`)
}

// FuzzDirents reads what getdents64(2) might give.
func FuzzDirents(f *testing.F) {
	entry := "\x01\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x18\x00\x0442\x00\x00\x00"
	fuzz(f, func(buf []byte) ([]int, error) { return appendNumbers(nil, buf) }, entry, entry+entry)
}
